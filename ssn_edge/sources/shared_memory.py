"""One frame in shared memory, for camera SDKs that live in another process.

The file /dev/shm/NAME starts with 64 bytes, little-endian: ``SSNFRAME``, version (1), format (as in
``ssn_edge.h``), height, width, stride (uint32 each), 4 bytes of nothing, then a sequence number and the
capture's nanoseconds since 1970 (uint64 each); the pixels follow at byte 64. Sequence 0: no frame yet. The
writer makes the sequence odd, writes, and makes it even again: a reader that saw another number before and
after its copy tries again. Barriers keep that order on CPUs that would not (:mod:`.barrier`).
:class:`Writer` is an example.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from pathlib import Path
from typing import Iterator, Optional, Tuple

import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.files import PathLike
from ssn_edge.frames import pixel_formats
from ssn_edge.frames.pixel_formats import FORMATS, MemoryLayout
from ssn_edge.sources import barrier
from ssn_edge.sources.source import Frame

FOLDER = Path("/dev/shm")
MAGIC = b"SSNFRAME"
HEADER = struct.Struct("<8sIIIII4xQQ")
SEQUENCE_AT, PIXELS_AT = 32, 64
POLL_S, SILENCE_S = 0.0005, 5.0


def path_of(name: str) -> Path:
    """The file of a name; InputError for one that would leave the folder."""
    if not name or "/" in name or "\0" in name or name.startswith("."):
        raise InputError(f"shared memory {name!r}: give a plain name")
    return FOLDER / name


class Reader:
    """Frames as they come; the newest, where the writer is faster. The file is read and not mapped: a
    writer that makes it shorter would else end this process (SIGBUS)."""

    def __init__(self, name: str):
        self._path, self._fence = path_of(name), barrier.fence()
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            raise InputError(f"{self._path}: no shared frame there; start its writer first") from None
        try:
            self._check()
            # What lies there may be hours old: only what is written from now on counts.
            self._last = self._mark()
        except BaseException:
            self.close()
            raise

    def next(self, stop: threading.Event) -> Optional[Tuple[float, float, np.ndarray]]:
        """Seconds since 1970 of the capture (of the arrival, where the writer states none), monotonic seconds
        of its arrival here, BGR or grey image; None once ``stop`` is set. InputError once the writer is
        silent for long, or its file is not what it was."""
        began = time.monotonic()
        while time.monotonic() - began < SILENCE_S:
            found = self._new()
            if found is not None:
                return found
            if stop.wait(POLL_S):
                return None
        raise InputError(f"{self._path}: no new frame for {SILENCE_S:g} s; is its writer running?")

    def _new(self) -> Optional[Tuple[float, float, np.ndarray]]:
        """What is there, if it is whole and not known."""
        before = self._mark()
        sequence, stamp = before
        if sequence == 0 or sequence % 2:
            self._last = before  # what lay there goes: the same number again is another frame
            return None
        if before == self._last:
            return None
        arrived = time.monotonic()
        self._fence()
        layout = self._check()
        data = self._read(layout.size, PIXELS_AT)
        self._fence()
        if self._mark() != before:
            return None
        self._last = before
        seconds = stamp / 1e9 if stamp else time.time()
        return seconds, arrived, pixel_formats.to_bgr(pixel_formats.view(data, layout), layout)

    def _mark(self) -> Tuple[int, int]:
        """Sequence and stamp: what a frame is known by. A writer that was started anew may come to the same
        sequence, also while a frame is copied, but not to the same time."""
        sequence, stamp = self._read(16, SEQUENCE_AT).view("<u8").tolist()
        return sequence, stamp

    def _check(self) -> MemoryLayout:
        """The frame's layout, before memory is taken for what a header promises."""
        size = os.fstat(self._file).st_size
        data = self._read(HEADER.size, 0).tobytes() if size >= HEADER.size else b""
        if data[:12] != MAGIC + b"\1\0\0\0":
            raise InputError(f"{self._path}: not a shared frame of version 1; see docs/camera.md")
        number, height, width, stride = HEADER.unpack(data)[2:6]
        names = {form.number: name for name, form in FORMATS.items()}
        layout = pixel_formats.checked(names.get(number, str(number)), height, width, stride)
        if size < PIXELS_AT + layout.size:
            needed = f"a frame needs {layout.size} after the first {PIXELS_AT}"
            raise InputError(f"{self._path}: {size} bytes; {needed}; is its writer running?")
        return layout

    def _read(self, count: int, start: int) -> np.ndarray:
        """uint8 [count]."""
        data, got = np.empty(count, np.uint8), 0
        while got < count:  # Linux reads 2 GB at most at once
            more = os.preadv(self._file, [data.data[got:]], start + got)
            if not more:
                raise InputError(f"{self._path}: changed its size; is its writer being started anew?")
            got += more
        return data

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


class Writer:
    """The other side, for tests and for SDKs with a Python interface. Not for several at once. One that is
    started anew takes over the file that is there and never makes it shorter: readers may have mapped it."""

    def __init__(self, name: str, layout: MemoryLayout):
        self.path: PathLike = path_of(name)
        self._layout, self._sequence, self._fence = layout, 0, barrier.fence()
        size = PIXELS_AT + layout.size
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(handle, 0, size)  # full memory is an error here, no SIGBUS later
                self._memory = mmap.mmap(handle, size)
            finally:
                os.close(handle)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); give another name, or make room"
            ) from None
        # Sequence and stamp, each stored by one instruction: struct writes byte by byte.
        self._numbers = np.frombuffer(self._memory, "<u8", 2, SEQUENCE_AT)
        self._numbers[0] = 0  # what another writer left there is no frame
        self._fence()
        name, height, width, stride = layout
        header = HEADER.pack(MAGIC, 1, FORMATS[name].number, height, width, stride, 0, 0)
        self._memory[: len(header)] = header

    def write(self, data: bytes) -> None:
        """The next frame: ``layout.size`` bytes."""
        if len(data) != self._layout.size:
            raise InputError(f"{len(data)} bytes; this frame has {self._layout.size}")
        self._sequence += 2
        self._numbers[0] = self._sequence - 1  # odd: being written
        self._fence()
        self._numbers[1] = time.time_ns()
        self._memory[PIXELS_AT : PIXELS_AT + len(data)] = data
        self._fence()
        self._numbers[0] = self._sequence

    def close(self) -> None:
        """Remove the file; readers see that as silence."""
        del self._numbers  # a mapping in use cannot be closed
        self._memory.close()
        os.unlink(self.path)


def frames(name: str, counter: Iterator[int], stop: threading.Event) -> Iterator[Frame]:
    """The newest frame again and again. InputError, before the first, where nobody writes there."""
    reader = Reader(name)

    def each() -> Iterator[Frame]:
        try:
            for number in counter:
                found = reader.next(stop)
                if found is None:
                    return
                stamp, arrived, image = found
                yield Frame(f"{name}-{number:06d}", image, stamp, "", arrived)
        finally:
            reader.close()

    return each()
