"""The CUDA driver through pycuda, whose objects destroy themselves.

Fits :class:`ssn_edge.backends.gpu.Binding`.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np
import pycuda.driver as cuda

from ssn_edge.backends.gpu import Buffer

NAME = "pycuda"
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING, for which pycuda has no name."""

Error = cuda.Error
OutOfMemory = cuda.MemoryError


def driver_version() -> int:
    """The CUDA version that the driver brings."""
    return int(cuda.get_driver_version())


def open_gpu() -> Optional[Gpu]:
    """The first GPU; None where there is none."""
    cuda.init()
    return Gpu(cuda.Device(0)) if cuda.Device.count() else None


class Gpu:
    """See :class:`ssn_edge.backends.gpu.Gpu`."""

    def __init__(self, device: Any):
        self.name: str = device.name()
        self.compute_capability: Tuple[int, int] = device.compute_capability()
        self.integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
        self._context = device.retain_primary_context()

    def push(self) -> None:
        """Put the context on top of this thread's stack."""
        self._context.push()

    def pop(self) -> None:
        """Take it off."""
        cuda.Context.pop()

    def release(self) -> None:
        """Give the context up."""
        self._context.push()  # on whichever thread this is: pycuda then does release it
        self._context.detach()

    def page_locked(self, shape: Tuple[int, ...], dtype: Any, mapped: bool) -> np.ndarray:
        """An array whose ``base`` is the allocation."""
        flags = cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        array: np.ndarray = cuda.pagelocked_empty(shape, dtype, mem_flags=flags)
        return array

    def memory(self, size: int) -> Any:
        """Bytes on the device."""
        return cuda.mem_alloc(size)

    def stream(self) -> Any:
        """One that does not wait for the default stream."""
        return cuda.Stream(NON_BLOCKING)

    def clock(self) -> Any:
        """An event."""
        return cuda.Event()

    def upload(self, buffer: Buffer, count: int, stream: Any) -> None:
        """Queue the copy of the first rows to the device."""
        cuda.memcpy_htod_async(buffer.pointer, buffer.array[:count], stream)

    def download(self, buffer: Buffer, count: int, stream: Any) -> None:
        """Queue the copy of the first rows from the device."""
        cuda.memcpy_dtoh_async(buffer.array[:count], buffer.pointer, stream)

    def free_memory(self) -> Tuple[int, int]:
        """Free and total bytes."""
        free, total = cuda.mem_get_info()
        return int(free), int(total)
