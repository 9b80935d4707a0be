"""Where results go: JSON lines, pictures, a video, a function. Each fits :class:`.results.Sink`, as those of
:mod:`.mqtt` and :mod:`.prometheus` do.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from pathlib import Path
from typing import Callable, Deque, Optional, Tuple

import cv2
import numpy as np

from ssn_edge.errors import BackendError, InputError
from ssn_edge.files import NameTooLong, PathLike, check_writable, put_in_place, temporary_beside
from ssn_edge.frames.image_files import write_image
from ssn_edge.line.file_names import SHORTEST, Names, flat, stem_of
from ssn_edge.line.mqtt import Mqtt
from ssn_edge.line.prometheus import Metrics
from ssn_edge.line.results import Lost, Result, Sink, message
from ssn_edge.sources import Frame
from ssn_edge.verdict import drawing

__all__ = ["Callback", "JsonLines", "Lost", "Metrics", "Mqtt", "Pictures", "Sink", "Video"]


def picture_of(result: Result, pixel_threshold: float) -> np.ndarray:
    """The frame with its map, boxes and verdict."""
    assert result.frame.image is not None
    return drawing.overlay(result.frame.image, result.detection, pixel_threshold)


class JsonLines:
    """One line a frame, so that others can follow it. At ``max_bytes`` the file becomes ``PATH.1``, that
    one ``PATH.2``, and so on up to ``keep``. A line that does not fit on the disk leaves no half of itself.
    """

    name = "json"

    def __init__(self, path: PathLike, max_bytes: int = 100_000_000, keep: int = 10, append: bool = False):
        self._path, self._max_bytes, self._keep = Path(path), max_bytes, keep
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "ab" if append else "wb", buffering=0)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); choose another --json") from None

    def write(self, result: Result) -> None:
        """Append one line; InputError where it does not fit on the disk, and then no part of it stays."""
        line = (message(result) + "\n").encode()
        if self._file.closed:  # a rotation that failed, on a full disk for example
            self._file = open(self._path, "ab", buffering=0)
        if self._file.tell() and self._file.tell() + len(line) > self._max_bytes:
            self._rotate()
        place = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError(28, "No space left on device")
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(place)
                self._file.seek(place)
            raise InputError(f"{self._path}: not written ({error.strerror})") from None

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        self._file.close()
        if self._keep:
            with contextlib.suppress(FileNotFoundError):  # someone else's rotation took it
                os.replace(self._path, f"{self._path}.1")
        self._file = open(self._path, "wb", buffering=0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


STAMPED = "[0-9]" * 8 + "T" + "[0-9]" * 6 + ".[0-9][0-9][0-9]Z-*.png"
"""Names that ``defects_only`` gives."""


class Pictures:
    """Overlays, one file a frame, named after it; where another frame of this run had that name, with the
    frame's suffix and then its time as well. With ``defects_only`` those of NG parts, as PNG, named by their
    time; beyond ``keep`` of these in the folder the oldest goes."""

    name = "pictures"

    def __init__(
        self, folder: PathLike, pixel_threshold: float, defects_only: bool = False, keep: Optional[int] = None
    ):
        self._folder, self._threshold = Path(folder), pixel_threshold
        self._defects_only, self._keep = defects_only, keep
        self._written: Deque[Path] = deque()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._names = Names(self._folder, ".png" if defects_only else ".jpg")
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None
        check_writable(self._folder / "picture.png")
        if keep:
            self._written.extend(sorted(self._folder.glob(STAMPED)))

    def write(self, result: Result) -> None:
        """Write one picture, unless only defects are wanted."""
        if self._defects_only and not result.detection.is_defect:
            return
        path = self._write(result.frame, picture_of(result, self._threshold))
        if self._keep:
            self._written.append(path)
            while len(self._written) > self._keep:
                with contextlib.suppress(FileNotFoundError):
                    self._written.popleft().unlink()

    def _write(self, frame: Frame, picture: np.ndarray) -> Path:
        """The file written; from now on with shorter names, where the file system wants them."""
        path = self._path(frame)
        try:
            write_image(path, picture)
        except NameTooLong:
            if self._names.longest == SHORTEST:
                raise
            self._names.longest = SHORTEST
            return self._write(frame, picture)
        return path

    def _path(self, frame: Frame) -> Path:
        stem, whole = stem_of(frame.name), flat(frame.name)
        if not self._defects_only:
            return self._names.take(stem, whole, f"{whole}-{frame.time * 1000:.0f}")
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(frame.time))
        moment += f".{int(frame.time % 1 * 1000):03d}Z"
        path = self._names.take(f"{moment}-{stem}", f"{moment}-{whole}")
        if os.path.lexists(path):  # an earlier run's: from now on it counts as new
            with contextlib.suppress(ValueError):
                self._written.remove(path)
        return path

    def close(self) -> None:
        """Every file is whole already."""


CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}


class Video:
    """Overlays as a video of ``fps``, in its place once it is whole. The first frame sets its size."""

    name = "video"

    def __init__(self, path: PathLike, pixel_threshold: float, fps: float = 25.0):
        self._path, self._threshold, self._fps = Path(path), pixel_threshold, fps
        if self._path.suffix not in CODECS:
            raise InputError(f"{path}: give a name that ends in {', '.join(CODECS)}")
        self._temporary = temporary_beside(self._path)
        self._writer: Optional[cv2.VideoWriter] = None
        self._size: Tuple[int, int] = (0, 0)
        self._frames = 0

    def write(self, result: Result) -> None:
        """Append one picture; BackendError where this OpenCV cannot write the format."""
        picture = picture_of(result, self._threshold)
        if self._writer is None:
            height, width = (n - n % 2 for n in picture.shape[:2])
            self._size = width, height
            code = cv2.VideoWriter_fourcc(*CODECS[self._path.suffix])  # type: ignore[attr-defined]
            self._writer = cv2.VideoWriter(str(self._temporary), code, self._fps, self._size)
            if not self._writer.isOpened():
                raise BackendError(f"{self._path}: this OpenCV cannot write it; give a name in .avi")
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size)
        self._writer.write(picture)
        self._frames += 1

    def close(self) -> None:
        """Put the video in its place; Lost where it is not whole."""
        if self._writer is None:
            self._temporary.unlink()
            return
        self._writer.release()
        there = cv2.VideoCapture(str(self._temporary))
        whole = there.grab() and there.get(cv2.CAP_PROP_FRAME_COUNT) >= self._frames
        there.release()
        try:
            if not whole:  # OpenCV's writer says nothing of a full disk
                raise OSError
            put_in_place(self._temporary, self._path)
        except OSError as error:
            with contextlib.suppress(FileNotFoundError):
                self._temporary.unlink()
            reason = error.strerror or "a full disk?"
            raise Lost(f"{self._path}: not written whole ({reason}); free some space", self._frames) from None


class Callback:
    """Calls ``function(result)`` for every frame, or with ``changes`` only where the verdict differs from
    the last one: what a relay or a light needs."""

    def __init__(self, function: Callable[[Result], object], changes: bool = False, name: str = "callback"):
        self.name, self._function, self._changes = name, function, changes
        self._last: Optional[bool] = None

    def write(self, result: Result) -> None:
        """Call the function, with ``changes`` only for another verdict."""
        if not self._changes or result.detection.is_defect != self._last:
            self._function(result)
            self._last = result.detection.is_defect  # only now: one that failed is tried again

    def close(self) -> None:
        """Nothing is held."""
