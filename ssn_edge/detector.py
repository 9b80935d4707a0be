"""The detector: a model file opened once, frames in, verdicts out."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from queue import LifoQueue
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from ssn_edge import backends, schema
from ssn_edge.engine_file import check_checkpoint
from ssn_edge.errors import InputError, ModelError, SsnEdgeError
from ssn_edge.files import PathLike
from ssn_edge.geometry import Placement, Rect, View
from ssn_edge.images import Scratch, check_frame
from ssn_edge.postprocess import Region, find_regions
from ssn_edge.schema import ModelInfo


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one frame: conversion and resize, the network, verdict and regions."""

    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float

    @property
    def total_ms(self) -> float:
        return self.preprocess_ms + self.inference_ms + self.postprocess_ms


@dataclass(frozen=True)
class Detection:
    """The verdict on one frame.

    ``score`` 0..1 from the classification head and ``map_max``, the map's highest logit (the highest
    of all tiles, where the frame was cut); ``anomaly_map`` float32 [H, W] logits and ``mask`` uint8
    [H, W] 0/1, both at the model's size (at the canvas's with tiles); ``regions`` in the frame's own
    pixels, highest peak first. ``placement.to_frame(mask)`` has the frame's size.
    """

    score: float
    map_max: float
    is_defect: bool
    anomaly_map: np.ndarray
    mask: np.ndarray
    regions: Tuple[Region, ...]
    latency: Latency
    placement: Placement


class _Frame(NamedTuple):
    """A frame under way: the slot it is in, where its pixels go, and when what was done."""

    slot: int
    placement: Placement
    start: float
    ready: float


class Detector:
    """An opened model. Use :meth:`open`. Threads may share it, also while one closes it: frames then
    wait for each other.

    ``choice`` says in one line why this back end runs it; ``max_batch`` is the largest batch that the
    file allows, None for any; ``device_ms()`` tells how long the last frame took by the GPU's own clock
    (None without a GPU).

    >>> with Detector.open("model.onnx") as detector:
    ...     detection = detector.detect(frame)          # BGR uint8 [height, width, 3]
    ...     print(detection.is_defect, detection.score)
    """

    def __init__(
        self, info: ModelInfo, choice: backends.Choice, session: Any, batch: int, view: View
    ):
        self.info = info
        self.view = view
        self.backend_name = f"{choice.library.NAME} {choice.library.version()}"
        self.choice = choice.why
        self.max_batch: Optional[int] = session.max_batch
        self.device_ms: Optional[Callable[[], float]] = getattr(session, "device_ms", None)
        self._session = session
        self._images: List[np.ndarray] = session.prepare(info.input_hw)
        self._batch = batch
        self._scratch = [Scratch() for _ in self._images]
        self._scores = [np.empty(1, np.float32) for _ in self._images]
        self._tile_map = np.empty(info.size_hw, np.float32)
        self._tile_scratch, self._tiling = Scratch(), threading.Lock()
        self._placements: Dict[Tuple[int, int], Placement] = {}
        self._free: LifoQueue = LifoQueue()
        for slot in range(session.slots):
            self._free.put(slot)
        self._looks_ahead = threading.Lock()
        self._idle = threading.Condition()
        self._calls, self._closed = 0, False
        self._release = weakref.finalize(self, session.close)  # also when dropped, and at exit

    @classmethod
    def open(
        cls,
        model: PathLike,
        backend: str = "auto",
        threshold: Optional[float] = None,
        batch: int = 1,
        sha256: Optional[str] = None,
        view: Optional[View] = None,
    ) -> Detector:
        """Open an ``.onnx`` or ``.engine`` file written by ssn-export, or OpenVINO's ``.xml`` of one.

        ``threshold`` replaces the model's image threshold; ``batch`` is the number of images that
        :meth:`infer_batch` takes at once (1 for :meth:`detect`). ``sha256`` is what the file that is run
        must hash to: an engine can run code of whoever made it. ``view``: the part of each frame to judge,
        turned, mirrored or in tiles. Raises InputError for a missing file, ModelError for a damaged or
        foreign one, BackendError where no library is installed.
        """
        path = Path(model)
        if not path.is_file():
            raise InputError(f"{path}: no such model file; write one with ssn-export RUN")
        choice = backends.choose(path, backend)
        session = choice.library.open_session(choice.path, batch, sha256)
        try:
            info = schema.from_metadata(session.metadata, str(choice.path))
            if choice.path != path:
                check_checkpoint(choice.path, path, info)
            if view is not None and view.tile and info.frame:
                raise InputError(f"{path}: made with --frame, which stretches in the graph; no tiles with it")
            detector = cls(info, choice, session, batch, view or View())
            if threshold is not None:
                detector.set_threshold(threshold)
            return detector
        except BaseException:
            session.close()
            raise

    def set_threshold(self, value: float) -> None:
        """Judge by another image threshold from the next frame on. InputError for one that no score can
        reach or miss (they lie in 0..1), ModelError unless it is finite."""
        if self.info.verdict.source == "score" and (value < 0 or value > 1):
            raise InputError(f"threshold {value:g}: this model judges by its score; give 0 to 1")
        verdict = dataclasses.replace(self.info.verdict, image_threshold=value, method="set by the caller")
        self.info = dataclasses.replace(self.info, verdict=verdict)

    def placement(self, frame_hw: Tuple[int, int]) -> Placement:
        """Where the pixels of frames of (height, width) go; its ``map_hw`` is the map's size."""
        found = self._placements.get(frame_hw)
        if found is None:
            found = Placement(frame_hw, self.info.size_hw, self.view, self.info.geometry)
            if self.info.frame and found.canvas_hw != self.info.frame:
                (height, width), (h, w) = found.canvas_hw, self.info.frame
                raise InputError(
                    f"frame of {height}x{width}: this model takes {h}x{w} camera frames alone; export "
                    f"it with --frame {height}x{width}, or without --frame for any size"
                )
            self._placements = {frame_hw: found}  # a camera changes its size seldom
        return found

    def detect(self, frame: np.ndarray) -> Detection:
        """Judge one frame: grey, BGR or BGRA, uint8 or uint16, any size (the camera's, for a model
        exported with ``--frame``).

        Raises InputError for anything else.
        """
        with self._using():
            return self._detect_tiles(frame) if self.view.tile else self._finish(self._start(frame))

    def detect_all(self, frames: Iterable[np.ndarray]) -> Iterator[Detection]:
        """Judge frames in order. On a GPU a frame is prepared and copied in while the one before it
        is computed: more frames a second, each verdict one frame later.
        """
        if self.view.tile:
            yield from map(self.detect, frames)
            return
        ahead = self._session.slots > 1 and self._looks_ahead.acquire(blocking=False)
        under_way: Deque[_Frame] = deque()
        try:
            for frame in frames:
                with self._using():
                    under_way.append(self._start(frame))
                    enough = len(under_way) > ahead
                    ready = [self._finish(under_way.popleft())] if enough else []
                yield from ready
            while under_way:
                with self._using():
                    detection = self._finish(under_way.popleft())
                yield detection
        finally:
            for left in under_way:  # the caller stopped early: the slot must come free
                with contextlib.suppress(SsnEdgeError), self._using():
                    self._finish(left)
            if ahead:
                self._looks_ahead.release()

    def infer_into(
        self, frame: np.ndarray, map_out: np.ndarray, mask_out: Optional[np.ndarray] = None
    ) -> float:
        """Judge one frame into the caller's arrays and return the score; no array is allocated.

        ``map_out`` float32 and ``mask_out`` uint8 (0/1), C-contiguous, of ``placement(frame.shape[:2])
        .map_hw``: [H, W] at the model's size, or with tiles at the canvas's; InputError otherwise.
        """
        with self._using():
            placement = self._place(frame)
            check_out("map_out", map_out, np.float32, placement.map_hw)
            if mask_out is not None:
                check_out("mask_out", mask_out, np.uint8, placement.map_hw)
            if self.view.tile:
                score, _ = self._tiles(frame, placement, map_out)
            else:
                score = self._collect(self._start(frame).slot, map_out)
        if mask_out is not None:
            threshold = np.float32(self.info.verdict.pixel_threshold)
            np.greater_equal(map_out, threshold, out=mask_out.view(np.bool_))
        return score

    def infer_batch(self, images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Maps float32 [batch, H, W] and scores float32 [batch] of images at the file's input size.

        ``images`` uint8 [batch, H, W, 3] BGR with the batch size given to :meth:`open`.
        """
        expected = (self._batch, *self.info.input_hw, 3)
        if images.shape != expected or images.dtype != np.uint8:
            raise InputError(f"images: {images.dtype} {images.shape}; expected uint8 {expected}")
        maps = np.empty((len(images), *self.info.size_hw), np.float32)
        scores = np.empty(len(images), np.float32)
        with self._using():
            slot = self._begin(lambda slot: np.copyto(self._images[slot], images))
            self._wait(slot, maps, scores)
        return maps, scores

    def close(self) -> None:
        """Wait for the frames under way and free everything. May be called twice; using the detector
        afterwards is a ModelError. Not from a signal handler that may have interrupted a frame."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._calls == 0)
        self._images = []
        self._release()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """Keeps :meth:`close` waiting; ModelError once closed."""
        with self._idle:
            if self._closed:
                raise ModelError("the detector is closed; open it again")
            self._calls += 1
        try:
            yield
        finally:
            with self._idle:
                self._calls -= 1
                self._idle.notify_all()

    def _place(self, frame: np.ndarray) -> Placement:
        if self._batch != 1:
            raise InputError(f"opened for batches of {self._batch}; use infer_batch")
        check_frame(frame)
        return self.placement((frame.shape[0], frame.shape[1]))

    def _start(self, frame: np.ndarray) -> _Frame:
        start = time.perf_counter()
        placement = self._place(frame)
        (whole,) = placement.tiles
        slot = self._load(frame, placement, whole)
        return _Frame(slot, placement, start, time.perf_counter())

    def _load(self, frame: np.ndarray, placement: Placement, tile: Rect) -> int:
        def load(slot: int) -> None:
            placement.load(frame, tile, self._images[slot][0], self._scratch[slot])

        return self._begin(load)

    def _begin(self, load: Callable[[int], object]) -> int:
        """Load images into a free slot and set it off."""
        slot = self._free.get()
        try:
            load(slot)
            self._session.start(slot)
        except BaseException:
            self._free.put(slot)
            raise
        return slot

    def _wait(self, slot: int, maps: np.ndarray, scores: np.ndarray) -> float:
        """Fill the arrays, let the slot go, and return the first score."""
        try:
            self._session.finish(slot, maps, scores)
            return float(scores[0])
        finally:
            self._free.put(slot)

    def _collect(self, slot: int, map_out: np.ndarray) -> float:
        return self._wait(slot, map_out[None], self._scores[slot])

    def _tiles(
        self, frame: np.ndarray, placement: Placement, map_out: np.ndarray
    ) -> Tuple[float, float]:
        """The map of a frame in tiles; returns the highest score, and the seconds of preparing tiles."""
        map_out.fill(-np.inf)
        best, preparing = -np.inf, 0.0
        with self._tiling:  # one map for all tiles
            for tile in placement.tiles:
                start = time.perf_counter()
                slot = self._load(frame, placement, tile)
                preparing += time.perf_counter() - start
                best = max(best, self._collect(slot, self._tile_map))
                placement.stitch(self._tile_map, tile, map_out, self._tile_scratch)
        return best, preparing

    def _detect_tiles(self, frame: np.ndarray) -> Detection:
        start = time.perf_counter()
        placement = self._place(frame)
        anomaly_map = np.empty(placement.map_hw, np.float32)
        score, preparing = self._tiles(frame, placement, anomaly_map)
        return self._judge(score, anomaly_map, placement, start, start + preparing)

    def _finish(self, under_way: _Frame) -> Detection:
        slot, placement, start, ready = under_way
        anomaly_map = np.empty(self.info.size_hw, np.float32)
        score = self._collect(slot, anomaly_map)
        return self._judge(score, anomaly_map, placement, start, ready)

    def _judge(
        self, score: float, anomaly_map: np.ndarray, placement: Placement, start: float, ready: float
    ) -> Detection:
        """The verdict, just after inference; ``start`` and ``ready`` in seconds."""
        inferred = time.perf_counter()
        verdict = self.info.verdict
        map_max = float(anomaly_map.max())
        mask = (anomaly_map >= verdict.pixel_threshold).astype(np.uint8)
        regions = find_regions(anomaly_map, mask, placement)
        is_defect = verdict.is_defect(score, map_max)
        done = time.perf_counter()
        latency = Latency(*(1e3 * t for t in (ready - start, inferred - ready, done - inferred)))
        return Detection(score, map_max, is_defect, anomaly_map, mask, regions, latency, placement)


def check_out(name: str, array: np.ndarray, dtype: type, shape: Tuple[int, int]) -> None:
    """InputError unless results can be written there."""
    if not (array.shape == shape and array.dtype == dtype and array.flags.c_contiguous):
        raise InputError(
            f"{name}: {array.dtype} {array.shape}; expected C-contiguous {np.dtype(dtype)} {shape}"
        )
