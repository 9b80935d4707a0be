"""The CUDA driver, as little of it as a detector needs, through pycuda or NVIDIA's cuda-python.

Nothing else in the project calls the driver. A binding is a module that fits :class:`Binding`; what all share
is here: :func:`open_device`, :class:`Device`, and how errors are told.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import traceback
import weakref
from typing import Any, Iterator, NamedTuple, Optional, Protocol, Tuple, Type, Union

import numpy as np

from ssn_edge.errors import BackendError
from ssn_edge.text import one_line


class HostMemory(Protocol):
    """Page-locked memory, freed when dropped too."""

    def free(self) -> None:
        """Give the memory back; a second time is an error."""

    def get_device_pointer(self) -> Any:
        """Where the device sees it, if it is mapped."""


class DeviceMemory(Protocol):
    """Memory on the device, freed when dropped too."""

    def __int__(self) -> int:
        """Its address."""

    def free(self) -> None:
        """Give the memory back; a second time is an error."""


class Buffer(NamedTuple):
    """Page-locked ``array`` in the allocation ``host``, and ``pointer`` to its counterpart on the device.

    ``memory`` is the device's allocation; None where the device reads the host's memory itself.
    """

    array: np.ndarray
    host: HostMemory
    pointer: int
    memory: Optional[DeviceMemory]

    def free(self) -> None:
        """Give both sides back, once; ``array`` must not be touched afterwards."""
        if self.memory is not None:
            self.memory.free()
        self.host.free()


class Stream(Protocol):
    """A stream, destroyed when dropped."""

    handle: int

    def synchronize(self) -> None:
        """Wait for all that is queued in it."""


class Clock(Protocol):
    """An event, destroyed when dropped."""

    def record(self, stream: Stream) -> None:
        """Take the time when the stream gets there."""

    def synchronize(self) -> None:
        """Wait until it has."""

    def time_since(self, event: Any) -> float:
        """Milliseconds since another one."""


class Gpu(Protocol):
    """The first GPU and its primary context, which is retained. All but ``push`` and ``release`` needs that
    context to be the thread's."""

    name: str
    compute_capability: Tuple[int, int]
    integrated: bool

    def push(self) -> None:
        """Put the context on top of this thread's stack."""

    def pop(self) -> None:
        """Take it off."""

    def release(self) -> None:
        """Give the context up, on whichever thread; with the last hold on it goes all that lives in it."""

    def page_locked(self, shape: Tuple[int, ...], dtype: Any, mapped: bool) -> np.ndarray:
        """An array over page-locked memory, which is its ``base``: a :class:`HostMemory`."""

    def memory(self, size: int) -> DeviceMemory:
        """That many bytes on the device."""

    def stream(self) -> Stream:
        """One that does not wait for the default stream, in which torch works."""

    def clock(self) -> Clock:
        """An event that takes times."""

    def upload(self, buffer: Buffer, count: int, stream: Stream) -> None:
        """Queue the copy of the first ``count`` rows to the device's side."""

    def download(self, buffer: Buffer, count: int, stream: Stream) -> None:
        """Queue the copy of the first ``count`` rows from the device's side."""

    def free_memory(self) -> Tuple[int, int]:
        """Free and total bytes."""


class Binding(Protocol):
    """A module that calls the driver, of the name ``NAME``; all in it raises ``Error``."""

    NAME: str

    @property
    def Error(self) -> Type[Exception]:
        """A call that failed; its text names call and cause."""

    @property
    def OutOfMemory(self) -> Type[Exception]:
        """An ``Error`` for lack of memory."""

    def driver_version(self) -> int:
        """The CUDA version that the driver brings: 12040 for 12.4."""

    def open_gpu(self) -> Optional[Gpu]:
        """The first GPU that the process may see; None where there is none."""


@functools.lru_cache(maxsize=None)
def binding() -> Binding:
    """pycuda's module where it can be imported, else cuda-python's; BackendError where neither can."""
    try:
        from ssn_edge.backends import gpu_pycuda

        return gpu_pycuda
    except ImportError as error:
        pycuda = one_line(error)
    try:
        from ssn_edge.backends import gpu_cuda_python

        return gpu_cuda_python
    except ImportError as error:
        raise BackendError(
            f"nothing here calls CUDA (pycuda: {pycuda}; cuda-python: {one_line(error)}); "
            'run: pip install pycuda, or pip install "ssn-edge[rtx]"'
        ) from None


@contextlib.contextmanager
def translated(
    doing: str, remedy: str = "open the model again, restart the program if that fails too"
) -> Iterator[None]:
    """Errors of the driver as BackendError."""
    chosen = binding()
    try:
        yield
    except chosen.OutOfMemory:
        raise BackendError(
            f"GPU out of memory while {doing}; close other programs on the GPU, or use a smaller batch"
        ) from None
    except chosen.Error as error:
        raise BackendError(f"CUDA failed while {doing} ({one_line(error)}); {remedy}") from None


class Device:
    """One GPU through its primary context, the one that torch and OpenCV share.

    ``integrated`` is true where GPU and host share their memory (Jetson): buffers are then mapped,
    and copies do nothing.
    """

    def __init__(self, gpu: Gpu):
        self.name = gpu.name
        self.compute_capability = "{}.{}".format(*gpu.compute_capability)
        self.integrated = gpu.integrated
        self._gpu = gpu

    @contextlib.contextmanager
    def active(self, doing: str) -> Iterator[None]:
        """The device's context on this thread's stack; BackendError says what failed ``doing``.

        A traceback keeps the variables of the frames it passed alive, streams and engines among
        them, until long after the context is gone; so they are cleared.
        """
        with translated(doing):
            self._gpu.push()
            try:
                yield
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)
                raise
            finally:
                self._gpu.pop()

    def buffer(self, shape: Tuple[int, ...], dtype: Union[Type[np.uint8], Type[np.float32]]) -> Buffer:
        """Page-locked memory of that shape with room for it on the device."""
        array = self._gpu.page_locked(shape, dtype, self.integrated)
        host: Any = array.base
        if self.integrated:
            return Buffer(array, host, int(host.get_device_pointer()), None)
        try:
            memory = self._gpu.memory(array.nbytes)
        except binding().Error:
            host.free()
            raise
        return Buffer(array, host, int(memory), memory)

    def stream(self) -> Stream:
        """A new stream; ``handle`` is its address, ``synchronize`` exists."""
        return self._gpu.stream()

    def clock(self) -> Clock:
        """A new event; ``record(stream)``, ``synchronize()`` and ``time_since(event)``, in ms, exist."""
        return self._gpu.clock()

    def upload(self, buffer: Buffer, count: int, stream: Stream) -> None:
        """Queue the copy of the first ``count`` rows from the host's side to the device's."""
        if buffer.memory is not None:
            self._gpu.upload(buffer, count, stream)

    def download(self, buffer: Buffer, count: int, stream: Stream) -> None:
        """Queue the copy of the first ``count`` rows from the device's side to the host's."""
        if buffer.memory is not None:
            self._gpu.download(buffer, count, stream)

    def free_memory(self) -> Tuple[int, int]:
        """Free and total bytes; the context must be active."""
        return self._gpu.free_memory()


_opening = threading.Lock()
_device: Optional[Device] = None


def open_device() -> Device:
    """The first GPU that the process may see. Raises BackendError where there is none, or nothing to call
    CUDA with.

    Its primary context is retained once and until the interpreter exits: pycuda releases it only
    from the thread that retained it, and then leaves it on top of the driver's stack, where torch
    or OpenCV would find it dead.
    """
    global _device
    with _opening:
        if _device is None:
            with translated("looking for a GPU", "see whether nvidia-smi finds driver and GPU"):
                gpu = binding().open_gpu()
                if gpu is None:
                    raise BackendError("this machine has no GPU that CUDA can use")
            _device = Device(gpu)
            # Finalizers run last to first: what lives in the context was made later.
            weakref.finalize(_device, _release, gpu)
    return _device


def _release(gpu: Gpu) -> None:
    with contextlib.suppress(BackendError), translated("closing"):
        gpu.release()
