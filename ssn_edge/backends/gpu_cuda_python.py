"""The CUDA driver through NVIDIA's cuda-python (the package cuda-bindings, 12.9.1 or later), whose wheels
need no compiler. Fits :class:`ssn_edge.backends.gpu.Binding`.

The bindings hand out bare handles; the classes here destroy them when they are dropped, as pycuda's do.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any, Callable, Optional, Tuple

import numpy as np
from cuda.bindings import driver

# Releases before 12.9.1 lack this name and are kept out by it: they hold the interpreter's lock during a
# call, so that decoding and sinks would stand still whenever a frame is waited for.
from cuda.bindings.utils import get_cuda_native_handle

from ssn_edge.text import one_line

NAME = "cuda-python"
NAME_BYTES = 256
"""Room for a GPU's name."""


class Error(Exception):
    """A call that failed; the text names call and cause."""


class OutOfMemory(Error):
    """One that failed for lack of memory."""


def _call(function: Callable[..., Tuple[Any, ...]], *arguments: Any) -> Tuple[Any, ...]:
    """What the driver's function returns besides its result."""
    name = getattr(function, "__name__", "")
    try:
        result, *values = function(*arguments)
    except (RuntimeError, ValueError, KeyError) as error:
        # No driver, one that lacks the function, or a result that is newer than the bindings.
        raise Error(f"{name} failed: {one_line(error)}") from None
    if result == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
        raise OutOfMemory(f"{name} failed: {result.name}")
    if result != driver.CUresult.CUDA_SUCCESS:
        raise Error(f"{name} failed: {result.name}")
    return tuple(values)


def _allocated(function: Callable[..., Tuple[Any, ...]], *arguments: Any) -> int:
    """A new allocation's address. As in pycuda, a lack of memory is an error only after what nobody refers to
    any more was collected."""
    try:
        (address,) = _call(function, *arguments)
    except OutOfMemory:
        gc.collect()
        (address,) = _call(function, *arguments)
    return int(address)


def driver_version() -> int:
    """The CUDA version that the driver brings."""
    (version,) = _call(driver.cuDriverGetVersion)
    return int(version)


def open_gpu() -> Optional[Gpu]:
    """The first GPU; None where there is none."""
    _call(driver.cuInit, 0)
    (count,) = _call(driver.cuDeviceGetCount)
    return Gpu() if count else None


class Gpu:
    """See :class:`ssn_edge.backends.gpu.Gpu`."""

    def __init__(self) -> None:
        (self._device,) = _call(driver.cuDeviceGet, 0)
        (name,) = _call(driver.cuDeviceGetName, NAME_BYTES, self._device)
        self.name: str = name.partition(b"\0")[0].decode(errors="replace")
        self.compute_capability = (
            self._attribute(driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            self._attribute(driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        )
        self.integrated = bool(self._attribute(driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED))
        (self._context,) = _call(driver.cuDevicePrimaryCtxRetain, self._device)
        self._retained = True

    def _attribute(self, kind: Any) -> int:
        (value,) = _call(driver.cuDeviceGetAttribute, kind, self._device)
        return int(value)

    def push(self) -> None:
        """Put the context on top of this thread's stack."""
        _call(driver.cuCtxPushCurrent, self._context)

    def pop(self) -> None:
        """Take it off."""
        _call(driver.cuCtxPopCurrent)

    def release(self) -> None:
        """Give the context up."""
        self._retained = False
        _call(driver.cuDevicePrimaryCtxRelease, self._device)

    def destroy(self, function: Callable[..., Tuple[Any, ...]], handle: int) -> None:
        """Call a function that destroys, on whichever thread, unless all went with the context. No error: on
        a context that is broken every call fails, and there is nothing left to do."""
        if self._retained:
            with contextlib.suppress(Error):
                self.push()
                try:
                    _call(function, handle)
                finally:
                    self.pop()

    def page_locked(self, shape: Tuple[int, ...], dtype: Any, mapped: bool) -> np.ndarray:
        """An array whose ``base`` is the allocation."""
        kind = np.dtype(dtype)
        flags = driver.CU_MEMHOSTALLOC_DEVICEMAP if mapped else 0
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        host = Memory(self, driver.cuMemFreeHost, _allocated(driver.cuMemHostAlloc, size, flags))
        host.__array_interface__ = {
            "version": 3, "shape": shape, "typestr": kind.str, "data": (int(host), False),
        }
        return np.asarray(host)

    def memory(self, size: int) -> Memory:
        """Bytes on the device."""
        return Memory(self, driver.cuMemFree, _allocated(driver.cuMemAlloc, size))

    def stream(self) -> Stream:
        """One that does not wait for the default stream."""
        return Stream(self)

    def clock(self) -> Clock:
        """An event."""
        return Clock(self)

    def upload(self, buffer: Any, count: int, stream: Any) -> None:
        """Queue the copy of a buffer's first rows to the device; its ``host`` is a :class:`Memory`."""
        size = buffer.array[:count].nbytes
        _call(driver.cuMemcpyHtoDAsync, buffer.pointer, int(buffer.host), size, stream.handle)

    def download(self, buffer: Any, count: int, stream: Any) -> None:
        """Queue the copy of a buffer's first rows from the device."""
        size = buffer.array[:count].nbytes
        _call(driver.cuMemcpyDtoHAsync, int(buffer.host), buffer.pointer, size, stream.handle)

    def free_memory(self) -> Tuple[int, int]:
        """Free and total bytes."""
        free, total = _call(driver.cuMemGetInfo)
        return int(free), int(total)


def _destroyed_with(owner: Any, gpu: Gpu, function: Any, handle: int) -> Any:
    """Have the handle destroyed when its owner is dropped. Not at exit: all goes with the context then."""
    finalizer = weakref.finalize(owner, gpu.destroy, function, handle)
    finalizer.atexit = False
    return finalizer


class Memory:
    """An allocation, freed when nothing refers to it: an array over page-locked memory does."""

    __array_interface__: Any

    def __init__(self, gpu: Gpu, free: Any, address: int):
        self._address = address
        self._freed = _destroyed_with(self, gpu, free, address)

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        """Give it back; a second time is an error, as in pycuda."""
        if not self._freed.alive:
            raise Error("free failed: the memory is freed already")
        self._freed()

    def get_device_pointer(self) -> int:
        """Where the device sees page-locked memory that is mapped."""
        (pointer,) = _call(driver.cuMemHostGetDevicePointer, self._address, 0)
        return int(pointer)


class Stream:
    """See :class:`ssn_edge.backends.gpu.Stream`."""

    def __init__(self, gpu: Gpu):
        (stream,) = _call(driver.cuStreamCreate, driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self.handle: int = get_cuda_native_handle(stream)
        _destroyed_with(self, gpu, driver.cuStreamDestroy, self.handle)

    def synchronize(self) -> None:
        """Wait for all that is queued in it."""
        _call(driver.cuStreamSynchronize, self.handle)


class Clock:
    """See :class:`ssn_edge.backends.gpu.Clock`."""

    def __init__(self, gpu: Gpu):
        (event,) = _call(driver.cuEventCreate, driver.CUevent_flags.CU_EVENT_DEFAULT)
        self.handle: int = get_cuda_native_handle(event)
        _destroyed_with(self, gpu, driver.cuEventDestroy, self.handle)

    def record(self, stream: Any) -> None:
        """Take the time when the stream gets there."""
        _call(driver.cuEventRecord, self.handle, stream.handle)

    def synchronize(self) -> None:
        """Wait until it has."""
        _call(driver.cuEventSynchronize, self.handle)

    def time_since(self, event: Any) -> float:
        """Milliseconds since another one."""
        (milliseconds,) = _call(driver.cuEventElapsedTime, event.handle, self.handle)
        return float(milliseconds)
