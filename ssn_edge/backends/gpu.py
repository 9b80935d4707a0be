"""The CUDA driver, as little of it as a detector needs, through pycuda.

Nothing else in the project calls the driver, so that another binding (cuda-python) can stand in by
offering these names: :func:`open_device`, and of its :class:`Device` ``active``, ``buffer``,
``stream``, ``clock``, ``upload``, ``download`` and ``free_memory``.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
import weakref
from typing import Any, Iterator, NamedTuple, Optional, Protocol, Tuple, Type, Union

import numpy as np
import pycuda.driver as cuda

from ssn_edge.errors import BackendError
from ssn_edge.text import one_line

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: does not wait for the default stream, in which torch works."""


class Freed(Protocol):
    """An allocation of pycuda's."""

    def free(self) -> None:
        """Give the memory back."""


class Stream(Protocol):
    """A stream of pycuda's."""

    handle: int

    def synchronize(self) -> None:
        """Wait for all that is queued in it."""


class Clock(Protocol):
    """An event of pycuda's."""

    def record(self, stream: Stream) -> None:
        """Take the time when the stream gets there."""

    def synchronize(self) -> None:
        """Wait until it has."""

    def time_since(self, event: Clock) -> float:
        """Milliseconds since another one."""


class Buffer(NamedTuple):
    """Page-locked ``array`` in the allocation ``host``, and ``pointer`` to its counterpart on the device.

    ``memory`` is the device's allocation; None where the device reads the host's memory itself.
    """

    array: np.ndarray
    host: Freed
    pointer: int
    memory: Optional[Freed]

    def free(self) -> None:
        """Give both sides back; ``array`` must not be touched afterwards."""
        if self.memory is not None:
            self.memory.free()
        self.host.free()


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Errors of the driver as BackendError."""
    try:
        yield
    except cuda.MemoryError:
        raise BackendError(
            f"GPU out of memory while {doing}; close other programs on the GPU, or use a smaller batch"
        ) from None
    except cuda.Error as error:
        raise BackendError(
            f"CUDA failed while {doing} ({one_line(error)}); open the model again, restart the program if "
            "that fails too"
        ) from None


class Device:
    """One GPU through its primary context, the one that torch and OpenCV share.

    ``integrated`` is true where GPU and host share their memory (Jetson): buffers are then mapped,
    and copies do nothing.
    """

    def __init__(self, device: Any, context: Any):
        self.name: str = device.name()
        self.compute_capability: str = "{}.{}".format(*device.compute_capability())
        self.integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
        self._context = context

    @contextlib.contextmanager
    def active(self, doing: str) -> Iterator[None]:
        """The device's context on this thread's stack; BackendError says what failed ``doing``.

        A traceback keeps the variables of the frames it passed alive, streams and engines among
        them, until long after the context is gone; so they are cleared.
        """
        with translated(doing):
            self._context.push()
            try:
                yield
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)
                raise
            finally:
                cuda.Context.pop()

    def buffer(self, shape: Tuple[int, ...], dtype: Union[Type[np.uint8], Type[np.float32]]) -> Buffer:
        """Page-locked memory of that shape with room for it on the device."""
        flags = cuda.host_alloc_flags.DEVICEMAP if self.integrated else 0
        array = cuda.pagelocked_empty(shape, dtype, mem_flags=flags)
        if self.integrated:
            return Buffer(array, array.base, int(array.base.get_device_pointer()), None)
        try:
            memory = cuda.mem_alloc(array.nbytes)
        except cuda.Error:
            array.base.free()
            raise
        return Buffer(array, array.base, int(memory), memory)

    def stream(self) -> Stream:
        """A new stream; ``handle`` is its address, ``synchronize`` exists."""
        stream: Stream = cuda.Stream(NON_BLOCKING)
        return stream

    def clock(self) -> Clock:
        """A new event; ``record(stream)``, ``synchronize()`` and ``time_since(event)``, in ms, exist."""
        event: Clock = cuda.Event()
        return event

    def upload(self, buffer: Buffer, count: int, stream: Stream) -> None:
        """Queue the copy of the first ``count`` rows from the host's side to the device's."""
        if buffer.memory is not None:
            cuda.memcpy_htod_async(buffer.pointer, buffer.array[:count], stream)

    def download(self, buffer: Buffer, count: int, stream: Stream) -> None:
        """Queue the copy of the first ``count`` rows from the device's side to the host's."""
        if buffer.memory is not None:
            cuda.memcpy_dtoh_async(buffer.array[:count], buffer.pointer, stream)

    def free_memory(self) -> Tuple[int, int]:
        """Free and total bytes; the context must be active."""
        free, total = cuda.mem_get_info()
        return int(free), int(total)


_opening = threading.Lock()
_device: Optional[Device] = None


def open_device() -> Device:
    """The first GPU that the process may see. Raises BackendError where there is none.

    Its primary context is retained once and until the interpreter exits: pycuda releases it only
    from the thread that retained it, and then leaves it on top of the driver's stack, where torch
    or OpenCV would find it dead.
    """
    global _device
    with _opening:
        if _device is None:
            with translated("looking for a GPU"):
                cuda.init()
                if not cuda.Device.count():
                    raise BackendError("this machine has no GPU that CUDA can use")
                device = cuda.Device(0)
                context = device.retain_primary_context()
            _device = Device(device, context)
            # Finalizers run last to first: what lives in the context was made later.
            weakref.finalize(_device, _release, context)
    return _device


def _release(context: Any) -> None:
    with contextlib.suppress(BackendError), translated("closing"):
        context.push()  # on whichever thread this is: pycuda then does release it
        context.detach()
