"""One frame in shared memory, for camera SDKs that live in another process.

The file /dev/shm/NAME starts with 64 bytes, little-endian: ``SSNFRAME``, version (1), format (as in
``ssn_edge.h``), height, width, stride (uint32 each), 4 bytes of nothing, then a sequence number and the
capture's nanoseconds since 1970 (uint64 each); the pixels follow at byte 64. Sequence 0: no frame yet. The
writer makes the sequence odd, writes, and makes it even again: a reader that saw another number before and
after its copy tries again. Barriers keep that order on processors that would not (:mod:`ssn_edge.barrier`).
:class:`Writer` is an example.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from pathlib import Path
from typing import Optional, Tuple

import numpy as np

from ssn_edge import barrier, pixels
from ssn_edge.errors import InputError
from ssn_edge.files import PathLike
from ssn_edge.pixels import FORMATS, Layout

FOLDER = Path("/dev/shm")
MAGIC = b"SSNFRAME"
HEADER = struct.Struct("<8sIIIII4xQQ")
SEQUENCE_AT, PIXELS_AT = 32, 64
POLL_S, SILENCE_S = 0.0005, 5.0


def path_of(name: str) -> Path:
    """The file of a name; InputError for one that would leave the folder."""
    if not name or "/" in name or name.startswith("."):
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
            layout, stamp = self._header()
            self._check_size(layout)
            # What lies there may be hours old: only what is written from now on counts.
            self._last = self._sequence() & ~1, stamp
        except BaseException:
            self.close()
            raise

    def next(self, stop: threading.Event) -> Optional[Tuple[float, float, np.ndarray]]:
        """Seconds since 1970 of the capture (of the arrival, where the writer states none), monotonic seconds
        of its arrival here, BGR or grey image; None once ``stop`` is set. InputError once the writer is silent
        for long, or its file is not what it was."""
        until = time.monotonic() + SILENCE_S
        while time.monotonic() < until:
            found = self._new()
            if found is not None:
                return found
            if stop.wait(POLL_S):
                return None
        raise InputError(f"{self._path}: no new frame for {SILENCE_S:g} s; is its writer running?")

    def _new(self) -> Optional[Tuple[float, float, np.ndarray]]:
        """What is there if it is whole and not known: a writer that was started anew may have come to the
        same sequence, but not at the same time."""
        before = self._sequence()
        if before == 0 or before % 2:
            return None
        arrived = time.monotonic()
        self._fence()
        layout, stamp = self._header()
        if (before, stamp) == self._last:
            return None
        self._check_size(layout)
        data = self._read(layout.size, PIXELS_AT)
        self._fence()
        if self._sequence() != before:
            return None
        self._last = before, stamp
        seconds = stamp / 1e9 if stamp else time.time()
        return seconds, arrived, pixels.to_bgr(pixels.view(data, layout), layout)

    def _sequence(self) -> int:
        return int.from_bytes(self._read(8, SEQUENCE_AT), "little")

    def _header(self) -> Tuple[Layout, int]:
        """The layout, and the capture's nanoseconds since 1970."""
        data = os.pread(self._file, HEADER.size, 0)
        if len(data) < HEADER.size or data[:8] != MAGIC or data[8:12] != b"\1\0\0\0":
            raise InputError(f"{self._path}: not a shared frame of version 1; see ssn_edge.shared_memory")
        _, _, number, height, width, stride, _, stamp = HEADER.unpack(data)
        names = {form.number: name for name, form in FORMATS.items()}
        return pixels.checked(names.get(number, str(number)), height, width, stride), stamp

    def _check_size(self, layout: Layout) -> None:
        """Before memory is taken for what a header promises."""
        size = os.fstat(self._file).st_size
        if size < PIXELS_AT + layout.size:
            raise InputError(f"{self._path}: {size} bytes; a frame needs {layout.size} after the first {PIXELS_AT}")

    def _read(self, count: int, start: int) -> bytes:
        data = os.pread(self._file, count, start)
        if len(data) != count:
            raise InputError(f"{self._path}: has become shorter; is its writer being started anew?")
        return data

    def close(self) -> None:
        os.close(self._file)


class Writer:
    """The other side, for tests and for SDKs with a Python interface. Not for several at once."""

    def __init__(self, name: str, layout: Layout):
        self.path: PathLike = path_of(name)
        self._layout, self._fence = layout, barrier.fence()
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(handle, PIXELS_AT + layout.size)
            self._memory = mmap.mmap(handle, PIXELS_AT + layout.size)
        finally:
            os.close(handle)
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
        self._numbers[0] += 1  # odd: being written
        self._fence()
        self._numbers[1] = time.time_ns()
        self._memory[PIXELS_AT : PIXELS_AT + len(data)] = data
        self._fence()
        self._numbers[0] += 1

    def close(self) -> None:
        del self._numbers  # a mapping in use cannot be closed
        self._memory.close()
        os.unlink(self.path)
