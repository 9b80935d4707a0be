"""TensorRT 8.5 to 11 with pycuda: engines written by ssn-export.

Two slots: while the GPU computes one frame, the next is written to page-locked memory and copied in
on a stream of its own; in the computing stream the copy would wait for the frame before it. An
engine can run code of whoever made it: open none from an untrusted place, or give its sha256.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import deque
from pathlib import Path
from typing import Any, Deque, Dict, Iterator, List, Optional, Tuple

import numpy as np
import tensorrt as trt

from ssn_edge.backends import gpu
from ssn_edge.engine_file import EngineInfo, core_of, read_description, rebuild_advice
from ssn_edge.errors import BackendError, InputError, ModelError, one_line
from ssn_edge.files import check_sha256
from ssn_edge.schema import METADATA_KEY, ModelInfo

NAME = "tensorrt"
SLOTS = 2


class Log(trt.ILogger):
    """Keeps the last warnings and errors for our messages; prints nothing."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: Deque[str] = deque(maxlen=100)
        self.warnings: Deque[str] = deque(maxlen=100)

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors.append(message)
        elif severity == trt.ILogger.WARNING:
            self.warnings.append(message)

    def clear(self) -> None:
        self.errors.clear()
        self.warnings.clear()

    def reason(self) -> str:
        """The last error in one line."""
        return one_line(self.errors[-1] if self.errors else "no reason given", 240)


LOG = Log()
"""One for the process: TensorRT keeps the first logger it is given."""


def created(kind: Any, *words: Any) -> Any:
    """A builder or runtime; BackendError where the library cannot make one (no usable driver)."""
    try:
        return kind(*words)
    except TypeError as error:  # what the bindings make of a null pointer
        reason = LOG.reason() if LOG.errors else str(error)
        raise BackendError(f"TensorRT {version()} does not start ({reason}); check its driver") from None


def version() -> str:
    return str(trt.__version__)


def open_session(path: Path, batch: int, digest: Optional[str] = None) -> Session:
    """The engine on the first GPU, for one batch size.

    Raises ModelError for an engine of another TensorRT, GPU or model, BackendError without a GPU.
    A version-compatible engine brings host code, which runs only if the sha256 ``digest`` is given.
    """
    plan = path.read_bytes()
    if digest is not None:
        check_sha256(path, hashlib.sha256(plan).hexdigest(), digest)
    return Session(path, plan, batch, trusted=digest is not None)


class _LayerClock(trt.IProfiler):
    """Collects what TensorRT reports of each layer, in order."""

    def __init__(self) -> None:
        trt.IProfiler.__init__(self)
        self.times: List[Tuple[str, float]] = []

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        self.times.append((layer_name, float(ms)))


class _Slot:
    """What one frame under way needs. Its attributes are used in place, never held in variables,
    so that :meth:`clear` frees them."""

    def __init__(self) -> None:
        self.buffers: Dict[str, gpu.Buffer] = {}
        self.started: Any = None
        self.uploaded: Any = None
        self.done: Any = None

    def clear(self) -> None:
        for buffer in self.buffers.values():
            with contextlib.suppress(BackendError), gpu.translated("freeing memory"):
                buffer.free()
        self.buffers, self.started, self.uploaded, self.done = {}, None, None, None


class Session:
    """An engine with its execution context; frames from several threads may share it."""

    slots = SLOTS

    def __init__(self, path: Path, plan: bytes, batch: int, trusted: bool):
        device = gpu.open_device()
        self._path, self._batch, self._device = path, batch, device
        self._queueing = threading.Lock()
        self._open = contextlib.ExitStack()  # unwound in reverse: context, engine, runtime
        self._slots: List[_Slot] = []
        self._last = 0
        stated = _stated(path, device)
        with self._cleaned_up("opening the engine"):
            LOG.clear()
            self._runtime: trt.Runtime = created(trt.Runtime, LOG)
            self._open.callback(self._forget, "_runtime")
            if stated is not None and stated.version_compatible:
                _check_trust(path, trusted)
                if hasattr(trt.Runtime, "engine_host_code_allowed"):
                    self._runtime.engine_host_code_allowed = True
            self._engine: trt.ICudaEngine = self._runtime.deserialize_cuda_engine(plan)
            self._open.callback(self._forget, "_engine")
            if self._engine is None:
                again = rebuild_advice(path.name, stated)
                raise ModelError(f"{path}: TensorRT {version()} cannot load it ({LOG.reason()}); {again}")
            self.info = EngineInfo.from_text(self._engine.name, str(path))
            self.info.check_host(str(path), version(), device.compute_capability, device.name)
            self.info.check_source(path)
            self.max_batch = self.info.batch
            self._shapes = _tensors(self._engine)
            if self._shapes != _expected(self.info.model):
                raise ModelError(
                    f"{path}: its inputs and outputs ({', '.join(sorted(self._shapes))}) are not what "
                    f"its description says; {rebuild_advice(path.name, self.info)}"
                )
        self.metadata = {METADATA_KEY: self.info.model.to_json()}

    def prepare(self, input_hw: Tuple[int, int]) -> List[np.ndarray]:
        """Page-locked uint8 [batch, H, W, 3] arrays, one a slot, to write images into."""
        if self._batch > self.info.batch:
            raise InputError(
                f"batch {self._batch}: {self._path.name} was built for up to {self.info.batch}; build "
                f"it again with --batch {self._batch}"
            )
        with self._cleaned_up("allocating buffers"):
            self._context: trt.IExecutionContext = self._engine.create_execution_context()
            self._open.callback(self._forget, "_context")
            if self._context is None:
                raise BackendError(f"TensorRT: no execution context ({LOG.reason()}); close other "
                                   "programs on the GPU")
            if not self._context.set_input_shape("image", (self._batch, *input_hw, 3)):
                raise BackendError(f"TensorRT refused the input's shape ({LOG.reason()})")
            self._compute, self._copy = self._device.stream(), self._device.stream()
            self._open.callback(self._forget, "_compute", "_copy")
            for _ in range(SLOTS):
                self._slots.append(_Slot())
                self._fill(self._slots[-1])
        return [slot.buffers["image"].array for slot in self._slots]

    def start(self, slot: int) -> None:
        """Queue the slot's images: copy in, network, copy out. The slot must not be under way."""
        one = self._slots[slot]
        with self._queueing, self._device.active("queueing a frame"):
            try:
                one.started.record(self._copy)
                self._device.upload(one.buffers["image"], self._copy)
                one.uploaded.record(self._copy)
                self._compute.wait_for_event(one.uploaded)
                for name, buffer in one.buffers.items():
                    self._context.set_tensor_address(name, buffer.pointer)
                if not self._context.execute_async_v3(self._compute.handle):
                    raise BackendError(f"TensorRT could not start the network ({LOG.reason()})")
                for name in ("anomaly_map", "score"):
                    self._device.download(one.buffers[name], self._compute)
                one.done.record(self._compute)
            except BaseException:
                self._settle()
                raise

    def finish(self, slot: int, maps: np.ndarray, scores: np.ndarray) -> None:
        """Wait for the slot and write its results into the caller's arrays."""
        one = self._slots[slot]
        with self._device.active("computing a frame"):
            one.done.synchronize()
        self._last = slot
        np.copyto(maps, one.buffers["anomaly_map"].array)
        np.copyto(scores, one.buffers["score"].array)

    def device_ms(self) -> float:
        """Milliseconds by the GPU's own clock from the copy in to the copy out of the frame finished
        last; in a pipeline that includes its wait for the frame before it."""
        one = self._slots[self._last]
        with self._device.active("reading the GPU's clock"):
            return float(one.done.time_since(one.started))

    def layer_times(self, maps: np.ndarray, scores: np.ndarray) -> List[Tuple[str, float]]:
        """One frame of slot 0 with TensorRT's profiler: name and milliseconds of every layer."""
        clock = _LayerClock()
        self._context.profiler = clock  # from now on: this session is for profiling alone
        self.start(0)
        self.finish(0, maps, scores)
        return clock.times

    def layers(self) -> str:
        """The engine inspector's report as JSON text."""
        inspector: trt.EngineInspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

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
        for slot in self._slots:
            slot.clear()
        self._slots = []
        self._open.close()

    def _fill(self, slot: _Slot) -> None:
        for name, (shape, dtype) in self._shapes.items():
            slot.buffers[name] = self._device.buffer((self._batch, *shape), dtype)
        slot.uploaded = self._device.event()
        slot.started, slot.done = self._device.clock(), self._device.clock()

    def _settle(self) -> None:
        """Wait until no work is queued, whatever it ends with."""
        for name in ("_copy", "_compute"):
            stream = getattr(self, name, None)
            if stream is not None:
                with contextlib.suppress(BackendError), gpu.translated("waiting"):
                    stream.synchronize()

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


def _stated(path: Path, device: gpu.Device) -> Optional[EngineInfo]:
    """What the ``.json`` beside the engine says, checked before TensorRT sees the plan; None without."""
    description = read_description(path)
    if not description:
        return None
    info = core_of(description, str(path))
    info.check_host(str(path), version(), device.compute_capability, device.name)
    return info


def _check_trust(path: Path, trusted: bool) -> None:
    if not trusted:
        raise ModelError(
            f"{path}: a version-compatible engine brings host code of its own; give the sha256 that "
            "ssn-export printed, with --sha256, to allow it"
        )


def _tensors(engine: trt.ICudaEngine) -> Dict[str, Tuple[Tuple[int, ...], Any]]:
    """Shape without the batch and dtype (None for others than ours) of the engine's tensors."""
    found = {}
    dtypes = {trt.DataType.FLOAT: np.float32, trt.DataType.UINT8: np.uint8}
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
