"""A memory barrier from Python, for memory that is shared with another process.

x86 keeps loads in order with loads and stores with stores, so that nothing is needed there. Other
CPUs do not, AArch64 (Jetson) among them, and Python has no fence of its own: Linux's membarrier(2)
is one. Its expedited global form, since Linux 4.16, runs a full barrier on the calling CPU however
many threads the process has; the private form leaves it out where there is one thread.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from typing import Callable

from ssn_edge.errors import InputError

ORDERED = frozenset({"x86_64", "AMD64", "i386", "i686"})
SYSCALLS = {"aarch64": 283, "x86_64": 324}
"""membarrier's number by ``platform.machine()``, for 64-bit programs."""

GLOBAL_EXPEDITED = 1 << 1


@functools.lru_cache(maxsize=None)
def fence_of(machine: str) -> Callable[[], object]:
    """The barrier for a kind of CPU. InputError where there is none: reading on without one could
    pass a torn frame."""
    if machine in ORDERED:
        return _nothing
    number = SYSCALLS.get(machine)
    if number is None or sys.maxsize < 1 << 32:
        raise InputError(f"shared memory: no barrier is known for {machine}; use a pipe (raw:...:PIPE)")
    return _membarrier(number)


def fence() -> Callable[[], object]:
    """The barrier of this machine."""
    return fence_of(platform.machine())


def _nothing() -> None:
    """Loads and stores are in order already."""


def _membarrier(number: int) -> Callable[[], object]:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_long(number), ctypes.c_int(GLOBAL_EXPEDITED), ctypes.c_uint(0), ctypes.c_int(0)]

    def barrier() -> None:
        if libc.syscall(*arguments):
            raise InputError(
                f"shared memory: membarrier is refused ({os.strerror(ctypes.get_errno())}); it needs Linux "
                "4.16 and a container that allows it; use a pipe (raw:...:PIPE)"
            )

    barrier()  # refused now rather than in the middle of a frame
    return barrier
