"""One frame in shared memory, for camera SDKs that live in another process.

The file /dev/shm/NAME starts with 64 bytes, little-endian: ``SSNFRAME``, version (1), format (as in
``ssn_edge.h``), height, width, stride (uint32 each), 4 bytes of nothing, then a sequence number and the
capture's nanoseconds since 1970 (uint64 each); the pixels follow at byte 64. The writer makes the sequence
odd, writes, and makes it even again: a reader that saw another number before and after its copy tries
again. :class:`Writer` is an example.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Tuple

import numpy as np

from ssn_edge import pixels
from ssn_edge.errors import InputError
from ssn_edge.files import PathLike
from ssn_edge.pixels import FORMATS, Layout

FOLDER = Path("/dev/shm")
MAGIC = b"SSNFRAME"
HEADER = struct.Struct("<8sIIIII4xQQ")
SEQUENCE = struct.Struct("<Q")
SEQUENCE_AT, PIXELS_AT = 32, 64
POLL_S, SILENCE_S = 0.0005, 5.0


def path_of(name: str) -> Path:
    """The file of a name; InputError for one that would leave the folder."""
    if not name or "/" in name or name.startswith("."):
        raise InputError(f"shared memory {name!r}: give a plain name")
    return FOLDER / name


class Reader:
    """Frames as they come; the newest, where the writer is faster."""

    def __init__(self, name: str):
        self._path = path_of(name)
        try:
            with open(self._path, "rb") as file:
                self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            raise InputError(f"{self._path}: no shared frame there; start its writer first") from None
        self._header()
        # What lies there may be hours old: only what is written from now on counts.
        self._last = SEQUENCE.unpack_from(self._memory, SEQUENCE_AT)[0] & ~1

    def next(self) -> Tuple[float, float, np.ndarray]:
        """Seconds since 1970 of the capture, monotonic seconds of its arrival here, BGR or grey image.
        InputError once the writer is silent for long."""
        until = time.monotonic() + SILENCE_S
        while time.monotonic() < until:
            (before,) = SEQUENCE.unpack_from(self._memory, SEQUENCE_AT)
            if before != self._last and before % 2 == 0:
                arrived = time.monotonic()
                layout, stamp = self._header()
                data = bytes(self._memory[PIXELS_AT : PIXELS_AT + layout.size])
                if SEQUENCE.unpack_from(self._memory, SEQUENCE_AT)[0] == before:
                    self._last = before
                    image = pixels.to_bgr(pixels.view(data, layout), layout)
                    return stamp, arrived, image
            time.sleep(POLL_S)
        raise InputError(f"{self._path}: no new frame for {SILENCE_S:g} s; is its writer running?")

    def _header(self) -> Tuple[Layout, float]:
        try:
            magic, version, number, height, width, stride, _, stamp = HEADER.unpack_from(self._memory)
        except struct.error:
            magic = b""
        if magic != MAGIC or version != 1:
            raise InputError(f"{self._path}: not a shared frame of version 1; see ssn_edge.shared_memory")
        names = {form.number: name for name, form in FORMATS.items()}
        layout = pixels.checked(names.get(number, str(number)), height, width, stride)
        if len(self._memory) < PIXELS_AT + layout.size:
            raise InputError(f"{self._path}: {len(self._memory)} bytes; a frame needs {layout.size} more")
        return layout, stamp / 1e9

    def close(self) -> None:
        self._memory.close()


class Writer:
    """The other side, for tests and for SDKs with a Python interface. Not for several at once."""

    def __init__(self, name: str, layout: Layout):
        self.path: PathLike = path_of(name)
        self._layout, self._sequence = layout, 0
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, PIXELS_AT + layout.size)
            self._memory = mmap.mmap(handle, PIXELS_AT + layout.size)
        finally:
            os.close(handle)
        self._write_header(0)

    def write(self, data: bytes) -> None:
        """The next frame: ``layout.size`` bytes."""
        if len(data) != self._layout.size:
            raise InputError(f"{len(data)} bytes; this frame has {self._layout.size}")
        self._sequence += 1  # odd: being written
        self._write_header(time.time_ns())
        self._memory[PIXELS_AT : PIXELS_AT + len(data)] = data
        self._sequence += 1
        SEQUENCE.pack_into(self._memory, SEQUENCE_AT, self._sequence)

    def _write_header(self, stamp: int) -> None:
        name, height, width, stride = self._layout
        number = FORMATS[name].number
        header = HEADER.pack(MAGIC, 1, number, height, width, stride, self._sequence, stamp)
        self._memory[: len(header)] = header

    def close(self) -> None:
        self._memory.close()
        os.unlink(self.path)
