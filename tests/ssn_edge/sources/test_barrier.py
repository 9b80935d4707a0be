"""Memory barriers: where they are needed, and that the writer and the reader use them."""

import os
import sys

import numpy as np
import pytest

from ssn_edge import InputError
from ssn_edge.frames import pixel_formats
from ssn_edge.sources import barrier, shared_memory

FRAME = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def frame_of(level):
    return bytes([level]) * FRAME.size


def newest(reader):
    """The level of what the reader finds; None where there is nothing new."""
    found = reader._new()
    return None if found is None else int(found[2][0, 0, 0])


class Recorded:
    """The writer's numbers or memory, telling what is stored."""

    def __init__(self, real, told, name):
        self._real, self._told, self._name = real, told, name

    def __getitem__(self, key):
        return self._real[key]

    def __setitem__(self, key, value):
        self._told.append(f"{self._name} {key}" if isinstance(key, int) else self._name)
        self._real[key] = value


def test_loads_and_stores_are_kept_in_order_by_fences(shared, monkeypatch):
    """Sequence, barrier, frame, barrier, sequence: on both sides."""
    told = []
    monkeypatch.setattr(barrier, "fence", lambda: lambda: told.append("fence"))
    writer = shared_memory.Writer(shared, pixel_formats.checked("BGR", 40, 60))
    reader = shared_memory.Reader(shared)
    writer._numbers = Recorded(writer._numbers, told, "number")
    writer._memory = Recorded(writer._memory, told, "pixels")
    del told[:]
    writer.write(frame_of(10))
    assert told == ["number 0", "fence", "number 1", "pixels", "fence", "number 0"]
    preadv = os.preadv
    where = {32: "sequence", 0: "header", 64: "pixels"}
    monkeypatch.setattr(os, "preadv", lambda f, into, at: (told.append(where[at]), preadv(f, into, at))[1])
    del told[:]
    assert newest(reader) == 10
    assert told == ["sequence", "fence", "header", "pixels", "fence", "sequence"]
    reader.close()


def test_the_barrier_of_processors_that_need_one(monkeypatch, shared):
    """The real system call, with this machine's number; refused where there is none."""
    number = barrier.SYSCALLS.get(os.uname().machine)
    if sys.platform != "linux" or number is None:
        pytest.skip("membarrier is Linux's")
    try:
        made = barrier._membarrier(number)
    except InputError as error:
        pytest.skip(f"this kernel or container refuses it: {error}")
    for _ in range(1000):
        made()
    assert barrier.fence_of("x86_64")() is None
    with pytest.raises(InputError, match="membarrier is refused"):
        barrier._membarrier(100_000)  # no such system call: an old kernel
    writer = shared_memory.Writer(shared, pixel_formats.checked("BGR", 40, 60))
    monkeypatch.setattr(barrier.platform, "machine", lambda: "sparc64")
    for opens in (shared_memory.Reader, lambda name: shared_memory.Writer(name, writer._layout)):
        with pytest.raises(InputError, match="no barrier is known for sparc64"):
            opens(shared)
