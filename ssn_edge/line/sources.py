"""Where frames come from: images, folders, globs, videos, cameras, streams, pipes and shared memory."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import re
import select
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple, Union

import cv2
import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames import pixel_formats
from ssn_edge.frames.formats import VIDEO_SUFFIXES, image_suffixes
from ssn_edge.frames.image_files import list_images, read_image
from ssn_edge.frames.pixel_formats import MemoryLayout
from ssn_edge.line import shared_memory
from ssn_edge.text import without_password
from ssn_edge.values import size_hw, whole_number

TIMEOUT_MS = 5000
"""How long a network camera may be silent before it counts as lost."""

POLL_S = 0.1
"""How often a watched folder is looked at, and how soon a stop is seen."""

SETTLE_S = 2.0
"""A watched file that still cannot be read this long after it last grew is broken."""


@dataclass(frozen=True)
class Frame:
    """``image`` BGR or grey uint8, or None with the ``problem``; ``time`` in seconds since 1970;
    ``arrived`` in monotonic seconds, where the source knows it better than its reader. ``doubt``: why an
    image may not be whole, or "". ``told``: its format told that it is."""

    name: str
    image: Optional[np.ndarray]
    time: float
    problem: str = ""
    arrived: Optional[float] = None
    doubt: str = ""
    told: bool = True


@dataclass(frozen=True)
class Source:
    """Something that can be opened for frames; a ``live`` one may be lost and opened again. ``policy``:
    what a stream does when frames come faster than it judges them, "latest" or "every".

    ``open`` takes the event that asks its frames to end. Folders, pipes and shared memory look at it
    while they wait; a camera or network stream inside OpenCV, and an iterable of the caller's, see it
    with their next frame.
    """

    name: str
    open: Callable[[threading.Event], Iterator[Frame]]
    live: bool = False
    policy: str = "every"


def find(spec: str) -> Source:
    """The source that ``spec`` names:

    an image, folder or glob; ``watch:FOLDER`` for images still to come; a video file; a camera's number
    or /dev/video0; an RTSP, HTTP or GStreamer address; ``raw:HxWxFORMAT:PATH`` for frames through a pipe
    (``-`` for standard input); ``shm:NAME`` for a frame in shared memory. InputError if it is missing.

    >>> find("0").live, find("rtsp://user:secret@camera.local/stream").name
    (True, 'rtsp://camera.local/stream')
    """
    if not spec:
        raise InputError("the source is empty; give an image, folder, video, camera or URL")
    if spec.startswith("watch:"):
        folder = Path(spec[6:])
        if not spec[6:] or not folder.is_dir():
            raise InputError(f"{folder}: no such folder to watch; make it first")
        seen = set(_listed(folder))  # kept when the folder is lost and found again
        return Source(spec, lambda stop: _watch(folder, seen, stop), live=True)
    if spec.startswith("raw:"):
        return _find_raw(spec)
    if spec.startswith("shm:"):
        counter = itertools.count()
        return Source(spec, lambda stop: _shared(spec[4:], counter, stop), True, "latest")
    path = Path(spec)
    camera = whole_number(spec)
    if camera is not None or spec.startswith("/dev/video"):
        target: Union[int, str] = spec if camera is None else camera
        counter, remedy = itertools.count(), "check the camera's name and who else uses it"
        name = f"camera {spec}"
        return Source(name, lambda _: _capture(target, name, remedy, counter), True, "latest")
    if "://" in spec or " ! " in spec:
        counter, remedy = itertools.count(), "check the address, and that this OpenCV supports it"
        name = without_password(spec)
        return Source(name, lambda _: _capture(spec, name, remedy, counter), True, "latest")
    if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir():
        if not path.is_file():
            raise InputError(f"{path}: no such video; check the path")
        remedy = "the file is damaged or its codec unknown"
        return Source(spec, lambda _: _capture(spec, path.name, remedy, itertools.count()))
    if path.is_file():
        return Source(spec, lambda _: iter([Frame(path.name, read_image(path), time.time())]))
    found = _images_of(spec)
    return Source(spec, lambda _: _images(found))


def open_source(spec: str) -> Iterator[Frame]:
    """Frames of ``spec``. InputError if it is missing, empty or does not open."""
    return find(spec).open(threading.Event())


def of(frames: Iterable[Union[Frame, np.ndarray]], name: str = "frames") -> Source:
    """A source of any iterable of :class:`Frame` or of arrays; read once."""

    def stamped(_: threading.Event) -> Iterator[Frame]:
        for number, item in enumerate(frames):
            yield item if isinstance(item, Frame) else Frame(f"{name}-{number:06d}", item, time.time())

    return Source(name, stamped)


def _images_of(spec: str) -> List[Path]:
    path = Path(spec)
    if path.is_dir():
        found = list_images(path)
        if not found:
            raise InputError(f"{path}: no images in this folder; give another, or a glob")
        return found
    if glob.has_magic(spec):
        names = sorted(name for name in glob.glob(spec, recursive=True))
        matches = [Path(n) for n in names if Path(n).suffix.lower() in image_suffixes()]
        if not matches:
            raise InputError(f"{spec}: matches no image; check the pattern")
        return matches
    raise InputError(f"{spec}: no such file or folder; give an image, folder, video, camera or URL")


def _read(path: Path, name: str) -> Frame:
    try:
        return Frame(name, read_image(path), time.time())
    except InputError as error:
        return Frame(name, None, time.time(), str(error))


def _images(paths: List[Path]) -> Iterator[Frame]:
    """Named after their files, with the folder where two have the same name."""
    names = Counter(path.name for path in paths)
    return (_read(path, path.name if names[path.name] == 1 else str(path)) for path in paths)


def _watch(folder: Path, seen: Set[Path], stop: threading.Event) -> Iterator[Frame]:
    """Images that appear in the folder, oldest first, and are not in ``seen``. One that cannot be read is
    tried again until it has stopped growing."""
    grew: Dict[Path, Tuple[int, float]] = {}
    while not stop.is_set():
        there = _listed(folder)
        seen &= set(there)  # so that weeks of files that come and go do not pile up here
        grew = {path: when for path, when in grew.items() if path in there}
        for path in [path for path in there if path not in seen]:
            if stop.is_set():
                return
            frame = _read(path, path.name)
            size, now = there[path][1], time.monotonic()
            if frame.image is None:
                if path not in grew or grew[path][0] != size:
                    grew[path] = size, now
                if now - grew[path][1] < SETTLE_S:
                    continue
            grew.pop(path, None)
            seen.add(path)
            yield frame
        stop.wait(POLL_S)


def _listed(folder: Path) -> Dict[Path, Tuple[int, int]]:
    """Images with (time, size), oldest first. InputError once the folder is gone."""
    found: Dict[Path, Tuple[int, int]] = {}
    try:
        for path in list_images(folder):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found[path] = status.st_mtime_ns, status.st_size
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); bring it back") from None
    return dict(sorted(found.items(), key=lambda item: (item[1][0], item[0])))


def _capture(
    target: Union[int, str], name: str, remedy: str, counter: Iterator[int]
) -> Iterator[Frame]:
    capture = _open_capture(target)
    if not capture.isOpened():
        raise InputError(f"{name}: does not open; {remedy}")
    plain = name.partition("://")[2] or name
    stem = Path(plain).stem if Path(plain).suffix in VIDEO_SUFFIXES else plain
    return _frames(capture, re.sub(r"[^\w.-]+", "-", stem), counter)


def _open_capture(target: Union[int, str]) -> cv2.VideoCapture:
    if isinstance(target, str) and " ! " in target:
        return cv2.VideoCapture(target, cv2.CAP_GSTREAMER)
    if isinstance(target, str) and "://" in target and hasattr(cv2, "CAP_PROP_READ_TIMEOUT_MSEC"):
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
        capture = cv2.VideoCapture(target, cv2.CAP_FFMPEG, limits)
        if capture.isOpened():
            return capture
    return cv2.VideoCapture(target)


def _frames(capture: cv2.VideoCapture, stem: str, counter: Iterator[int]) -> Iterator[Frame]:
    try:
        for number in counter:
            done, image = capture.read()
            if not done:
                return
            yield Frame(f"{stem}-{number:06d}", image, time.time())
    finally:
        capture.release()


def _find_raw(spec: str) -> Source:
    text, _, path = spec[4:].partition(":")
    size, _, pixel_format = text.rpartition("x")
    try:
        height, width = size_hw(spec, size if path else "")
    except InputError:
        raise InputError(
            f"{spec}: give raw:HEIGHTxWIDTHxFORMAT:PATH, as in raw:1080x1920xBGR:/run/camera"
        ) from None
    layout = pixel_formats.checked(pixel_format, height, width)
    if path != "-" and (not os.path.exists(path) or os.path.isdir(path)):
        raise InputError(f"{path}: no such pipe or file; make it with mkfifo, or check the path")
    fifo = path != "-" and Path(path).is_fifo()
    live = fifo or path == "-" and not os.path.isfile("/dev/stdin")
    counter = itertools.count()
    return Source(spec, lambda stop: _raw(layout, path, counter, stop), fifo, "latest" if live else "every")


def _raw(layout: MemoryLayout, path: str, counter: Iterator[int], stop: threading.Event) -> Iterator[Frame]:
    with _opened(path) as handle:
        for number in counter:
            data = bytearray(layout.size)
            got = _fill(handle, memoryview(data), stop)
            if not got or stop.is_set():
                return
            name = f"raw-{number:06d}"
            if got < layout.size:
                problem = f"{path}: ends after {got} of the {layout.size} bytes of {name}"
                yield Frame(name, None, time.time(), problem)
                return
            stamp, arrived = time.time(), time.monotonic()
            image = pixel_formats.to_bgr(pixel_formats.view(data, layout), layout)
            yield Frame(name, image, stamp, "", arrived)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """A descriptor to read from. A pipe opens at once, whether or not its writer is there."""
    if path == "-":
        yield sys.stdin.fileno()
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    try:
        yield handle
    finally:
        os.close(handle)


def _fill(handle: int, into: memoryview, stop: threading.Event) -> int:
    """Bytes read until the buffer is full, the writer has gone or ``stop`` is set; a writer is waited for."""
    poll, got = select.poll(), 0
    poll.register(handle, select.POLLIN)
    while got < len(into) and not stop.is_set():
        if not poll.poll(1000 * POLL_S):
            continue
        try:
            count = os.readv(handle, [into[got:]])
        except BlockingIOError:
            continue
        if not count:
            break
        got += count
    return got


def _shared(name: str, counter: Iterator[int], stop: threading.Event) -> Iterator[Frame]:
    reader = shared_memory.Reader(name)

    def frames() -> Iterator[Frame]:
        try:
            for number in counter:
                found = reader.next(stop)
                if found is None:
                    return
                stamp, arrived, image = found
                yield Frame(f"{name}-{number:06d}", image, stamp, "", arrived)
        finally:
            reader.close()

    return frames()
