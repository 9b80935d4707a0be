"""A stand-in for the bindings of TensorRT for RTX and the GPU under them, which records what is called.

It is for what no machine without a GPU can run: opening an engine, its runtime configuration, the cache of
compiled kernels. Its methods' names and arguments are held against NVIDIA's own (tests/tensorrt_api). An
engine is any file with a description in it; the network is tests/support/tiny's: the map is the mean over
channels, the score its maximum over 255.
"""

import contextlib
import enum
import importlib.machinery
import json
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np

from ssn_edge.backends import gpu

CARD = SimpleNamespace(name="NVIDIA RTX A2000", capability="8.6")


class Recording:
    """Calls in their order, and what is to fail."""

    def __init__(self):
        self.calls, self.memory = [], {}
        self.failing, self.kernels = set(), b"kernels of this card"


class ILogger:
    ERROR, INTERNAL_ERROR, WARNING, INFO, VERBOSE = "ERROR", "INTERNAL_ERROR", "WARNING", "INFO", "VERBOSE"


class IProfiler:
    pass


class DataType(enum.Enum):
    FLOAT, UINT8 = range(2)


class CudaGraphStrategy(enum.Enum):
    DISABLED, WHOLE_GRAPH_CAPTURE = range(2)


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY, EAGER, NONE = range(3)


class EngineValidity(enum.Enum):
    VALID, SUBOPTIMAL, INVALID = range(3)


class EngineInvalidityDiagnostics(enum.IntEnum):
    VERSION_MISMATCH, UNSUPPORTED_CC, MALFORMED_ENGINE = 1, 2, 32


class IRuntimeCache:
    def __init__(self, recording):
        self._recording, self._content = recording, b""

    def deserialize(self, blob):
        fits = bytes(blob).startswith(b"kernels")
        self._recording.calls.append(("deserialize", fits))
        if fits:
            self._content = bytes(blob)
        return fits

    def serialize(self):
        if not self._content:
            self._content = self._recording.kernels
        return memoryview(self._content)


class IRuntimeConfig:
    def __init__(self, recording):
        self._recording = recording
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY

    def create_runtime_cache(self):
        return IRuntimeCache(self._recording)

    def set_runtime_cache(self, cache):
        self._cache = cache
        return "cache" not in self._recording.failing


class IExecutionContext:
    def __init__(self, engine, config):
        self._engine, self._recording, self._addresses = engine, engine._recording, {}
        self._recording.calls.append((
            "context", config.cuda_graph_strategy.name,
            config.dynamic_shapes_kernel_specialization_strategy.name,
        ))

    def set_tensor_address(self, name, memory):
        self._addresses[name] = memory
        return True

    def set_input_shape(self, name, shape):
        self._count = shape[0]
        return True

    def execute_async_v3(self, stream_handle):
        self._recording.calls.append(("run", self._count))
        arrays = {name: self._recording.memory[pointer] for name, pointer in self._addresses.items()}
        maps = arrays["image"][: self._count].astype(np.float64).mean(3)
        arrays["anomaly_map"][: self._count] = maps
        arrays["score"][: self._count] = maps.max((1, 2)) / 255
        return "run" not in self._recording.failing


class ICudaEngine:
    def __init__(self, recording, name):
        self._recording, self.name = recording, name
        model = json.loads(name)["model"]
        size = model["height"], model["width"]
        self._tensors = {
            "image": ((-1, *size, 3), DataType.UINT8), "anomaly_map": ((-1, *size), DataType.FLOAT),
            "score": ((-1,), DataType.FLOAT),
        }
        self.num_io_tensors = len(self._tensors)

    def get_tensor_name(self, index):
        return list(self._tensors)[index]

    def get_tensor_shape(self, name):
        return self._tensors[name][0]

    def get_tensor_dtype(self, name):
        return self._tensors[name][1]

    def create_runtime_config(self):
        return IRuntimeConfig(self._recording)

    def create_execution_context(self, runtime_config):
        return None if "context" in self._recording.failing else IExecutionContext(self, runtime_config)


class Runtime:
    recording = None

    def __init__(self, logger):
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine):
        """An engine with the description that lies in the bytes, as in a real plan."""
        found = re.search(rb"\{.*\}", serialized_engine, re.DOTALL)
        if found is None:
            self._logger.log(ILogger.ERROR, "header: magic tag does not fit")
            self._logger.log(ILogger.ERROR, "deserializeCudaEngine failed")
            return None
        return ICudaEngine(self.recording, found.group().decode())

    def get_engine_validity(self, buffer):
        return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.MALFORMED_ENGINE)


class Device:
    """What ssn_edge.backends.gpu gives, in the host's memory."""

    integrated = False

    def __init__(self, recording):
        self.name, self.compute_capability = CARD.name, CARD.capability
        self._recording = recording

    @contextlib.contextmanager
    def active(self, doing):
        yield

    def buffer(self, shape, dtype):
        array, memory = np.zeros(shape, dtype), np.zeros(shape, dtype)
        pointer = memory.ctypes.data
        self._recording.memory[pointer] = memory
        return SimpleNamespace(array=array, pointer=pointer, free=lambda: self._recording.memory.pop(pointer))

    def stream(self):
        return SimpleNamespace(handle=1, synchronize=lambda: None)

    def clock(self):
        return SimpleNamespace(record=lambda stream: None, synchronize=lambda: None)

    def upload(self, buffer, count, stream):
        self._recording.memory[buffer.pointer][:count] = buffer.array[:count]

    def download(self, buffer, count, stream):
        buffer.array[:count] = self._recording.memory[buffer.pointer][:count]


class CudaError(Exception):
    pass


class OutOfMemory(CudaError):
    pass


BINDING = SimpleNamespace(NAME="recording", Error=CudaError, OutOfMemory=OutOfMemory)

STOOD_IN = (ICudaEngine, IExecutionContext, IRuntimeCache, IRuntimeConfig, Runtime)


def stood_in(monkeypatch):
    """For a fixture: the back end over the stand-in, of which all buffers are given back."""
    recording = Recording()
    module = bindings(recording)
    module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "ssn_edge.backends.rtx_backend", raising=False)
    monkeypatch.setattr(gpu, "open_device", lambda: Device(recording))
    monkeypatch.setattr(gpu, "binding", lambda: BINDING)  # also where there is none
    yield recording
    sys.modules.pop("ssn_edge.backends.rtx_backend", None)
    assert not recording.memory, "buffers that were not given back"


def bindings(recording, version="1.7.1.116"):
    """The module, as an import would give it."""
    module = ModuleType("tensorrt_rtx_bindings")
    Runtime.recording = recording
    for thing in (
        *STOOD_IN, ILogger, IProfiler, DataType, CudaGraphStrategy,
        DynamicShapesKernelSpecializationStrategy, EngineInvalidityDiagnostics, EngineValidity,
    ):
        setattr(module, thing.__name__, thing)
    module.__version__ = version
    return module
