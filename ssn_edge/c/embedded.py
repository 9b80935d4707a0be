"""What the C functions of ``ssn_edge.h`` do, in the Python that libssn_edge.so embeds.

No exception leaves: each becomes a status and one line of text.
"""

from __future__ import annotations

import itertools
import os
import time
from queue import Empty, LifoQueue
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from ssn_edge.detector import Detector
from ssn_edge.errors import BackendError, InputError, ModelError
from ssn_edge.frames import pixel_formats
from ssn_edge.frames.pixels import Scratch
from ssn_edge.text import one_line
from ssn_edge.verdict.detection import Detection

MESSAGE_SIZE = 512
NAMES = {form.number: name for name, form in pixel_formats.FORMATS.items()}


class BadHandle(Exception):
    """No detector has this number."""


class BadArgument(Exception):
    """A size that does not fit the model."""


class Workspace:
    """Arrays for a call that are used again by the next one."""

    def __init__(self, opened: OpenDetector):
        self.map = np.empty(opened.map_hw, np.float32)
        self.mask = np.empty(opened.map_hw, np.uint8)
        self.scratch = Scratch()


class OpenDetector:
    """A detector and its workspaces: as many as there were calls at once."""

    def __init__(self, detector: Detector):
        self.detector, self.map_hw = detector, detector.info.size_hw
        self._free: LifoQueue[Workspace] = LifoQueue()

    def take(self) -> Workspace:
        """A workspace that nobody uses."""
        try:
            return self._free.get_nowait()
        except Empty:
            return Workspace(self)

    def give(self, workspace: Workspace) -> None:
        """The workspace is free again."""
        self._free.put(workspace)


def bind(ffi: Any, lib: Any) -> None:
    """Define the C functions' other halves."""
    calls = Calls(ffi, lib)
    for name, input_code in (
        ("open", lib.SSN_BAD_MODEL), ("info", lib.SSN_BAD_ARGUMENT), ("infer", lib.SSN_BAD_FRAME),
        ("close", lib.SSN_BAD_ARGUMENT),
    ):
        ffi.def_extern(name=f"py_{name}")(guarded(ffi, lib, getattr(calls, name), input_code))


def guarded(ffi: Any, lib: Any, call: Callable[..., None], input_code: int) -> Callable[..., None]:
    """The call with two arguments more: where its status goes, and its line of text."""
    codes = {
        BadArgument: lib.SSN_BAD_ARGUMENT, BadHandle: lib.SSN_BAD_HANDLE, ModelError: lib.SSN_BAD_MODEL,
        BackendError: lib.SSN_BACKEND_FAILED, InputError: input_code,
    }

    def called(*arguments: Any) -> None:
        *given, status, message = arguments
        try:
            call(*given)
            status[0] = lib.SSN_OK
        except BaseException as error:  # SystemExit too: the program is the caller's
            found = next((codes[kind] for kind in type(error).__mro__ if kind in codes), lib.SSN_INTERNAL)
            text = str(error) if found != lib.SSN_INTERNAL else f"{type(error).__name__}: {error}"
            data = one_line(text, MESSAGE_SIZE).encode(errors="replace")[: MESSAGE_SIZE - 1]
            ffi.memmove(message, data + b"\0", len(data) + 1)
            status[0] = found

    return called


class Calls:
    """The functions of ``ssn_edge.h``; they raise. ``opened`` holds the detectors by their handles."""

    def __init__(self, ffi: Any, lib: Any):
        self._ffi = ffi
        self._bits = {"score": lib.SSN_BY_SCORE, "map_max": lib.SSN_BY_MAP_MAX}
        self._opened: Dict[int, OpenDetector] = {}
        self._handles = itertools.count(1)

    def open(self, options: Any, out: Any) -> None:
        """``ssn_open``: a new detector's handle into ``out``."""
        given = options.model, options.backend, options.sha256, options.calibration
        path, backend, digest, name = map(self._text, given)
        detector = Detector.open(
            path or "", "auto" if backend is None else backend, sha256=digest, calibration=name,
            threads=options.threads or None,
        )
        handle = next(self._handles)
        self._opened[handle] = OpenDetector(detector)
        out[0] = handle

    def info(self, handle: int, out: Any) -> None:
        """``ssn_info``: what the model says of itself into ``out``."""
        detector = self._find(handle).detector
        info = detector.info
        out.map_height, out.map_width = info.size_hw
        out.frame_height, out.frame_width = info.frame or (0, 0)
        out.source = sum(self._bits[name] for name in info.verdict.thresholds)
        out.score_threshold, out.map_threshold, out.pixel_threshold = detector.judge.limits
        texts = {
            "backbone": info.backbone, "precision": info.precision, "backend": detector.backend_name,
            "calibration": info.calibration, "promise": info.verdict.method,
        }
        for name, text in texts.items():
            room = getattr(out, name)
            data = text.encode(errors="replace")[: len(room) - 1]
            data = data.decode(errors="ignore").encode() + b"\0"  # no character is cut in two
            self._ffi.memmove(room, data, len(data))

    def infer(
        self, handle: int, frame: Any, map_out: Any, map_count: int, mask_out: Any, mask_count: int,
        result: Any,
    ) -> None:
        """``ssn_infer``: the verdict into ``result``, map and mask into the caller's arrays where given."""
        start = time.perf_counter()
        one = self._find(handle)
        image, layout = self._image(frame)
        map_given = self._array(map_out, map_count, np.float32, one.map_hw, "map")
        mask_given = self._array(mask_out, mask_count, np.uint8, one.map_hw, "mask")
        workspace = one.take()
        try:
            map_used = workspace.map if map_given is None else map_given
            mask_used = workspace.mask if mask_given is None else mask_given
            bgr = pixel_formats.to_bgr(image, layout, workspace.scratch)
            fill(self._ffi, result, one.detector.detect(bgr, map_used, mask_used))
        except ModelError as error:  # closed by another thread since it was found
            raise BadHandle(f"detector {handle}: {error}") from None
        finally:
            one.give(workspace)
        result.ms = 1e3 * (time.perf_counter() - start)

    def close(self, handle: int) -> None:
        """``ssn_close``: BadHandle for a handle that is not open."""
        self._find(handle)
        one = self._opened.pop(handle, None)
        if one is None:
            raise BadHandle(f"detector {handle}: another thread has just closed it")
        one.detector.close()

    def _find(self, handle: int) -> OpenDetector:
        found = self._opened.get(handle)
        if found is None:
            raise BadHandle(f"detector {handle}: not open; ssn_open gives one")
        return found

    def _text(self, pointer: Any) -> Optional[str]:
        return os.fsdecode(self._ffi.string(pointer)) if pointer else None

    def _image(self, frame: Any) -> Tuple[np.ndarray, pixel_formats.MemoryLayout]:
        """The caller's pixels, without a copy."""
        name = NAMES.get(frame.format, f"number {frame.format}")
        layout = pixel_formats.checked(name, frame.height, frame.width, frame.stride)
        if frame.size < layout.size:
            raise InputError(f"frame of {frame.size} bytes; {layout} needs {layout.size}")
        return pixel_formats.view(self._ffi.buffer(frame.data, layout.size), layout), layout

    def _array(
        self, pointer: Any, count: int, dtype: type, hw: Tuple[int, int], name: str
    ) -> Optional[np.ndarray]:
        """The caller's room for a map or mask; None for NULL."""
        if not pointer:
            return None
        if count != hw[0] * hw[1]:
            raise BadArgument(f"{name}: room for {count} values; this model's has {hw[0]}x{hw[1]}")
        size = count * np.dtype(dtype).itemsize
        memory: np.ndarray = np.frombuffer(self._ffi.buffer(pointer, size), dtype)
        return memory.reshape(hw)


def fill(ffi: Any, result: Any, detection: Detection) -> None:
    """The verdict into C's structure, all of which is 0 before but for what a frame not judged has."""
    result.score, result.map_max = detection.score, detection.map_max
    result.region_count, result.regions_filled = detection.region_count, len(detection.regions)
    for place, region in zip(result.regions, detection.regions):
        place.struct_size = ffi.sizeof(place)
        place.x, place.y, place.width, place.height = region.x, region.y, region.width, region.height
        place.peak, place.area, place.frame_area = region.peak, region.area, region.frame_area
    result.is_defect = detection.is_defect
