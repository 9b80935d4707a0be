"""An engine of ssn-export's on the GPU, by TensorRT or TensorRT for RTX.

An engine can run code of whoever made it: open none from an untrusted place, or give its sha256.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from ssn_edge.backends import gpu
from ssn_edge.backends.nvidia import Product
from ssn_edge.errors import BackendError, InputError, ModelError
from ssn_edge.files import check_sha256
from ssn_edge.model.engine_file import EngineInfo, build_again, check_trust
from ssn_edge.model.schema import METADATA_KEY, ModelInfo

if TYPE_CHECKING:  # either product's: which one is the session's to know
    import tensorrt as trt

Contexts = Callable[["trt.ICudaEngine", Path, gpu.Device, int], Tuple["trt.IExecutionContext", "Ran"]]
"""An execution context, of the engine, its file, the GPU, and the most images that it was built for. ``Ran``
is None, or called once every batch has run: then each runs once before the first frame."""

Ran = Optional[Callable[[], None]]


def open_session(
    product: Product, contexts: Contexts, path: Path, batch: int, digest: Optional[str] = None,
    host_code: bool = False,
) -> Session:
    """The engine on the first GPU, for 1 to ``batch`` images; ``digest`` is that of the bytes that are run.

    Raises ModelError for an engine of another release, GPU or program, BackendError without a GPU.
    A version-compatible engine brings code for the host, which runs only with ``host_code``.
    """
    plan = path.read_bytes()
    if digest is not None:
        check_sha256(path, hashlib.sha256(plan).hexdigest(), digest)
    return Session(product, contexts, path, plan, batch, host_code)


class Session:
    """An engine with its execution context: one call at a time."""

    def __init__(
        self, product: Product, contexts: Contexts, path: Path, plan: bytes, batch: int, host_code: bool
    ):
        device = gpu.open_device()
        self._product, self._contexts = product, contexts
        self._path, self._batch, self._device = path, batch, device
        self._open = contextlib.ExitStack()  # unwound in reverse: context, engine, runtime
        self._buffers: Dict[str, gpu.Buffer] = {}
        with self._cleaned_up("opening the engine"):
            product.said.clear()
            build = build_again(product.name)
            self._runtime: trt.Runtime = product.created(product.trt.Runtime, product.log)
            self._open.callback(self._forget, "_runtime")
            if host_code and hasattr(product.trt.Runtime, "engine_host_code_allowed"):
                self._runtime.engine_host_code_allowed = True
            self._engine: trt.ICudaEngine = self._runtime.deserialize_cuda_engine(plan)
            self._open.callback(self._forget, "_engine")
            if self._engine is None:
                raise ModelError(
                    f"{path}: {product.words()} cannot load it ({self._why_not(plan)}); {build}"
                    + ("" if host_code else ", or give --sha256 if it was built to be version-compatible")
                )
            self.info = EngineInfo.from_name(self._engine.name, str(path))
            misfit = self.info.misfit(
                product.name, product.version(), device.compute_capability, device.name
            )
            if misfit is not None:
                raise ModelError(f"{path}: {misfit}; {build}")
            check_trust(path, self.info, host_code)
            self.max_batch = self.info.batch
            self._shapes = _tensors(product, self._engine)
            if self._shapes != _expected(self.info.model):
                raise ModelError(
                    f"{path}: its inputs and outputs ({', '.join(sorted(self._shapes))}) are not what "
                    f"its description says; {build}"
                )
        self.metadata = {METADATA_KEY: self.info.model.to_json()}

    def _why_not(self, plan: bytes) -> str:
        """The first error, and what the library can tell of an engine that it does not take."""
        reason = self._product.said.first()
        if not hasattr(self._product.trt.Runtime, "get_engine_validity"):
            return reason
        if not hasattr(self._product.trt, "EngineInvalidityDiagnostics"):
            return reason
        answer: Tuple[Any, int] = self._runtime.get_engine_validity(plan)
        validity, found = answer
        kinds = self._product.trt.EngineInvalidityDiagnostics
        names = [name for name, kind in kinds.__members__.items() if int(kind) & int(found)]
        return f"{reason}; {validity.name}{': ' if names else ''}{', '.join(names)}"

    def prepare(self, input_hw: Tuple[int, int]) -> np.ndarray:
        """A page-locked uint8 [batch, H, W, 3] array to write images into."""
        if self._batch > self.info.batch:
            raise InputError(
                f"batch {self._batch}: {self._path.name} was built for up to {self.info.batch}; build "
                f"it again with --batch {self._batch}"
            )
        with self._cleaned_up("allocating buffers"):
            # Before the context, which keeps work on it: the stream goes after it.
            self._open.callback(self._forget, "_stream", "_started", "_done")
            self._stream = self._device.stream()
            self._started, self._done = self._device.clock(), self._device.clock()
            self._open.callback(self._forget, "_context", "_ran")
            self._ran: Ran = None
            self._context: trt.IExecutionContext
            self._context, self._ran = self._contexts(
                self._engine, self._path, self._device, self.info.batch
            )
            if self._context is None:
                raise BackendError(
                    f"{self._product.title}: no execution context ({self._product.said.last()}); close other "
                    "programs on the GPU"
                )
            self._count = 0
            self._set_count(self._batch)
            for name, (shape, dtype) in self._shapes.items():
                self._buffers[name] = self._device.buffer((self._batch, *shape), dtype)
        if self._ran is not None:
            self._run_once()
        return self._buffers["image"].array

    def _run_once(self) -> None:
        """So that what is compiled at the first run is before the first frame, and can be kept."""
        assert self._ran is not None
        self._buffers["image"].array[:] = 0
        with self._cleaned_up("compiling the engine for this GPU"):
            for count in range(1, self._batch + 1):
                self._queue(count)
                self._done.synchronize()
            self._ran()

    def infer(self, maps: np.ndarray, scores: np.ndarray) -> None:
        """Copy in, network, copy out of the first ``len(maps)`` images, into the caller's arrays."""
        with self._device.active("computing a frame"):
            try:
                self._queue(len(maps))
                self._done.synchronize()
            except BaseException:  # nothing may be under way when the next frame is written
                self._settle()
                raise
        np.copyto(maps, self._buffers["anomaly_map"].array[: len(maps)])
        np.copyto(scores, self._buffers["score"].array[: len(maps)])

    def _queue(self, count: int) -> None:
        self._set_count(count)
        self._started.record(self._stream)
        self._device.upload(self._buffers["image"], count, self._stream)
        for name, buffer in self._buffers.items():
            self._context.set_tensor_address(name, buffer.pointer)
        if not self._context.execute_async_v3(self._stream.handle):
            reason = self._product.said.last()
            raise BackendError(f"{self._product.title} could not start the network ({reason})")
        for name in ("anomaly_map", "score"):
            self._device.download(self._buffers[name], count, self._stream)
        self._done.record(self._stream)

    def _set_count(self, count: int) -> None:
        """The images of the next call; setting the shape anew costs a plan of the launch, so only then."""
        if count == self._count:
            return
        self._count = 0
        if not self._context.set_input_shape("image", (count, *self._shapes["image"][0])):
            reason = self._product.said.last()
            raise BackendError(f"{self._product.title} refused the input's shape ({reason})")
        self._count = count

    def device_ms(self) -> float:
        """Milliseconds by the GPU's own clock from the copy in to the copy out of the last call."""
        with self._device.active("reading the GPU's clock"):
            return float(self._done.time_since(self._started))

    def layer_times(self, maps: np.ndarray, scores: np.ndarray) -> List[Tuple[str, float]]:
        """One call with the library's profiler: name and milliseconds of every layer."""
        times: List[Tuple[str, float]] = []

        class Clock(self._product.trt.IProfiler):  # type: ignore[name-defined]
            """Collects what is reported of each layer, in order."""

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times.append((layer_name, float(ms)))

        self._context.profiler = Clock()  # from now on: this session is for profiling alone
        self.infer(maps, scores)
        return times

    def layers(self) -> str:
        """The engine inspector's report as JSON text."""
        inspector: trt.EngineInspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._product.trt.LayerInformationFormat.JSON))

    def device_memory(self) -> int:
        """Bytes that the network's activations take on the device."""
        if hasattr(self._engine, "device_memory_size_v2"):
            return int(self._engine.device_memory_size_v2)
        if hasattr(self._engine, "device_memory_size"):
            return int(self._engine.device_memory_size)
        return 0

    def close(self) -> None:
        """Wait for what is under way and free everything; may be called twice."""
        with contextlib.suppress(BackendError), self._device.active("closing"):
            self._release()

    def _release(self) -> None:
        self._settle()
        while self._buffers:
            _, buffer = self._buffers.popitem()
            with contextlib.suppress(BackendError), gpu.translated("freeing memory"):
                buffer.free()
        self._open.close()

    def _settle(self) -> None:
        """Wait until no work is queued, whatever it ends with."""
        if getattr(self, "_stream", None) is not None:
            with contextlib.suppress(BackendError), gpu.translated("waiting"):
                self._stream.synchronize()

    @contextlib.contextmanager
    def _cleaned_up(self, doing: str) -> Iterator[None]:
        """The device's context; on an error all that exists so far is released in order."""
        with self._device.active(doing):
            try:
                yield
            except BaseException:
                self._release()
                raise

    def _forget(self, *names: str) -> None:
        """Drop references; the last one destroys the object."""
        for name in names:
            setattr(self, name, None)


def _tensors(product: Product, engine: trt.ICudaEngine) -> Dict[str, Tuple[Tuple[int, ...], Any]]:
    """Shape without the batch and dtype (None for others than ours) of the engine's tensors."""
    found = {}
    dtypes = {product.trt.DataType.FLOAT: np.float32, product.trt.DataType.UINT8: np.uint8}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(engine.get_tensor_shape(name))[1:]
        found[name] = (shape, dtypes.get(engine.get_tensor_dtype(name)))
    return found


def _expected(model: ModelInfo) -> Dict[str, Tuple[Tuple[int, ...], Any]]:
    """What :func:`_tensors` must find."""
    expected: Dict[str, Tuple[Tuple[int, ...], Any]] = {
        "image": ((*model.input_hw, 3), np.uint8),
        "anomaly_map": (model.size_hw, np.float32),
        "score": ((), np.float32),
    }
    if model.verdict_inside:
        expected.update(mask=(model.size_hw, np.uint8), is_defect=((), np.uint8))
    return expected
