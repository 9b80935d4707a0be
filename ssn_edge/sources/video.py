"""Videos and cameras through OpenCV. Of a video file the frames are counted against its header."""

from __future__ import annotations

import re
import statistics
import time
from pathlib import Path
from typing import Iterator, List, Optional, Union

import cv2

from ssn_edge.errors import InputError
from ssn_edge.frames import containers
from ssn_edge.frames.containers import ASF_PROPERTIES
from ssn_edge.frames.formats import VIDEO_SUFFIXES
from ssn_edge.sources.source import TIMEOUT_MS, Frame, log

HEAD = 1 << 16
"""Bytes of a file that tell what it is."""

TRIES = 100
"""Reads in a row that may fail before the rest of a video counts as missing."""

TOLERANCE, MOST_FPS, RATE_ERROR, STEPS = 0.02, 240, 0.1, 1000
"""Where the header's count is an estimate: the share of frames that may be missing, the rate up to which it
is believed, how far the frames' own rate may be from it, and the steps between frames that tell that."""

UNREAD = 0.25
"""Of a video's length: with so much of it behind the last frame frames are missing, also where the file holds
together. Sound may go on for less."""


def is_container(head: bytes) -> bool:
    """Whether a file begins as one of the usual video containers does."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"skip") or head[8:12] == b"AVI ":
        return head[8:12] not in (b"avif", b"avis", b"heic", b"mif1")
    starts = (b"\x1aE\xdf\xa3", b"FLV", b"0&\xb2u\x8ef\xcf\x11", b"\0\0\1\xba", b"\0\0\1\xb3", b"OggS")
    transport = b"G" == head[:1] == head[188:189] or b"G" == head[4:5] == head[196:197]
    return head.startswith(starts) or transport


def counts_exactly(head: bytes) -> bool:
    """Whether the header of this file names its frames: MP4 and its like, unless in fragments, and AVI."""
    boxes = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"skip")
    return boxes and b"mvex" not in head and b"moof" not in head or head[8:12] == b"AVI "


def is_cut(head: bytes, size: int) -> bool:
    """Whether the file is shorter than its header says: ASF, of whose missing frames no count is left."""
    place = head.find(ASF_PROPERTIES)
    named = int.from_bytes(head[place + 40 : place + 48], "little") if place >= 0 else 0
    return size < named


def open_live(target: Union[int, str], name: str, remedy: str) -> cv2.VideoCapture:
    """A camera, stream or pipeline; InputError with the remedy where it does not open."""
    if isinstance(target, str) and " ! " in target:
        capture = cv2.VideoCapture(target, cv2.CAP_GSTREAMER)
    elif isinstance(target, str) and "://" in target and hasattr(cv2, "CAP_PROP_READ_TIMEOUT_MSEC"):
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
        capture = cv2.VideoCapture(target, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            capture = cv2.VideoCapture(target)
    else:
        capture = cv2.VideoCapture(target)
    if not capture.isOpened():
        raise InputError(f"{name}: does not open; {remedy}")
    return capture


def open_file(path: Path, head: bytes) -> cv2.VideoCapture:
    """A video file. Not by OpenCV's reader of numbered images, which would go on with a file's neighbours."""
    known = path.suffix.lower() in VIDEO_SUFFIXES or is_container(head)
    if known or not _is_text(head):
        for backend in (cv2.CAP_FFMPEG, cv2.CAP_GSTREAMER, cv2.CAP_OPENCV_MJPEG):
            capture = cv2.VideoCapture(str(path.absolute()), backend)
            if capture.isOpened():
                return capture
    if known:
        raise InputError(f"{path}: does not open; the file is damaged or its codec unknown")
    raise InputError(f"{path}: neither an image nor a video that this OpenCV reads; give another file")


def _is_text(head: bytes) -> bool:
    """FFmpeg takes text for a film of a terminal."""
    return b"\0" not in head and not re.search(rb"[\x01-\x08\x0e-\x1a]", head)


def label(name: str) -> str:
    """What frames of a video or camera are called before their number."""
    plain = name.partition("://")[2] or name
    stem = plain[: -len(Path(plain).suffix)] if Path(plain).suffix.lower() in VIDEO_SUFFIXES else plain
    return re.sub(r"[^\w.-]+", "-", stem)


def live_frames(capture: cv2.VideoCapture, stem: str, counter: Iterator[int]) -> Iterator[Frame]:
    """Frames until a read fails. OpenCV's decoders make up what is missing: no frame is told to be whole."""
    try:
        for number in counter:
            done, image = capture.read()
            if not done:
                return
            yield Frame(f"{stem}-{number:06d}", image, time.time(), told=False, kind="video")
    finally:
        capture.release()


class _Header:
    """The count of frames that a header names, None where it names none that can be believed."""

    def __init__(self, capture: cv2.VideoCapture, head: bytes, size: Optional[int], path: Optional[Path]):
        self._capture, self._exact = capture, counts_exactly(head)
        by_stamps = head.startswith((b"\0\0\1\xba", b"\0\0\1\xb3", b"G")) or head[4:5] == b"G"
        self._from_content = by_stamps  # so a cut file names fewer
        self._fps, self._last, self._reached = capture.get(cv2.CAP_PROP_FPS), 0.0, 0.0
        self._steps: List[float] = []
        named = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(named) if 0 < named < (2.0**31 if size is None else size) else None
        shown = containers.shown_seconds(path, head) if self._exact and head[8:12] != b"AVI " else None
        if shown is not None and self.count:
            self._exact, self.count = False, min(self.count, round(shown * self._fps))

    def note(self) -> None:
        """After a frame: how far behind the one before it lies."""
        place = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        if len(self._steps) < STEPS:
            self._steps.append(place - self._last)
        self._last, self._reached = place, max(self._reached, place)

    def missing(self, number: int, good: int, whole: Optional[bool]) -> int:
        """How many frames should still have come after ``number``; ``whole``: whether the file holds
        together, None where that is not known."""
        count = self.count or 0
        left = count - number
        if self._exact:
            return max(left, 0)
        if whole is False:
            least = int(left > 0 or not count or self._from_content)
            return max(least, left if self._is_steady() else self._behind(good, TOLERANCE))
        return self._behind(good, UNREAD if whole else TOLERANCE) if left > 0 else 0

    def _behind(self, good: int, tolerance: float) -> int:
        """Frames behind the last one's place, by the rate; 1 of a rate that cannot be believed."""
        if not self._fps > 0 or not self.count:
            return 0
        reached = self._reached / 1000 * self._fps
        alone = 1 if self._fps <= MOST_FPS else self._fps / 10  # how long a single frame may stand
        behind = self.count - reached - (reached / (good - 1) if good > 1 else alone)
        if behind <= max(1.0, tolerance * self.count):
            return 0
        return round(behind) if self._fps <= MOST_FPS else 1

    def _is_steady(self) -> bool:
        """Whether frames come at the header's rate, so that what is missing between them can be counted."""
        steps = self._steps[1:]  # the first frame has none before it
        if not 0 < self._fps <= MOST_FPS:
            return False
        return not steps or abs(statistics.median(steps) * self._fps / 1000 - 1) < RATE_ERROR


def counted_frames(
    capture: cv2.VideoCapture, stem: str, name: str, head: bytes, size: Optional[int],
    path: Optional[Path] = None,
) -> Iterator[Frame]:
    """All frames of a video; those that the header names and no read gave come without an image.

    ``head``, ``size``: the file's first bytes and length, which tell how far the header's count can be
    believed; ``path``: where the file lies, to see whether it holds together.
    """
    header = _Header(capture, head, size, path)
    cut = size is not None and is_cut(head, size)
    number = good = failing = 0

    def missing(first: int, last: int) -> Iterator[Frame]:
        for one in range(first, last):
            problem = f"{name}: frame {one} could not be read; copy the video again"
            yield Frame(f"{stem}-{one:06d}", None, time.time(), problem)

    try:
        while failing < TRIES and (not failing or header.count is None or number + failing <= header.count):
            done, image = capture.read()
            if not done:
                failing += 1
                continue
            yield from missing(number, number + failing)
            number, failing = number + failing + 1, 0
            good += 1
            header.note()
            yield Frame(f"{stem}-{number - 1:06d}", image, time.time(), told=False, kind="video")
    finally:
        capture.release()
    whole = None if path is None else containers.is_whole(path)
    total = number + max(header.missing(number, good, whole), int(not good or cut))
    yield from missing(number, total)
    if good < total:
        counted = header.count and header.count > good
        named = f"the header names {header.count} frames" if counted else "frames are missing"
        log.warning("%s: %s, %d could be read", name, named, good)
    elif whole is False:
        log.warning("%s: damaged inside; the decoder filled in what is missing; copy it again", name)
