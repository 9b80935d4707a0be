"""Inference libraries behind one door, chosen by a dictionary. Each is a module with

    NAME, version()
    open_session(path, batch, sha256=None) -> Session      raises BackendError or ModelError

and a session has

    max_batch: int or None                    largest that the file allows, None for any
    metadata: dict of str                     the model file's
    prepare(input_hw) -> array                uint8 [batch, H, W, 3] to write images into
    infer(maps, scores)                       of the first n images into the caller's arrays, allocating none
    close()
    device_ms() -> float                      only on GPUs: the last call by the GPU's own clock

``maps`` float32 [n, H, W] and ``scores`` float32 [n] are C-contiguous, n is 1 to ``batch``. One call at a
time: the detector sees to that. A library is imported only when it is chosen.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Dict, List, NamedTuple, Optional

from ssn_edge.engine_file import check_described
from ssn_edge.errors import BackendError, InputError, one_line
from ssn_edge.files import beside

BACKENDS: Dict[str, str] = {  # name -> importable library, best first
    "tensorrt": "tensorrt",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}

FILES = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",), ".engine": ("tensorrt",)}
"""Which back ends read which files; for an ``.onnx`` file TensorRT takes the engine beside it."""


class Choice(NamedTuple):
    """A back end's module, the file it opens, and in one line why it was taken."""

    library: ModuleType
    path: Path
    why: str


def installed() -> List[str]:
    """Names of the back ends for ONNX files whose library can be imported, best first."""
    return [name for name in FILES[".onnx"] if importlib.util.find_spec(BACKENDS[name])]


def load(name: str) -> ModuleType:
    """The back end's module; ``auto`` takes the first for ONNX files that is installed.

    Raises BackendError, naming the extra to install, if there is none.
    """
    if name == "auto":
        found = installed()
        if not found:
            raise BackendError(
                "no inference library is installed; "
                'run: pip install "ssn-edge[onnxruntime]" (or [openvino])'
            )
        name = found[0]
    if name not in BACKENDS:
        raise BackendError(f"backend {name!r}; choose auto, {', '.join(BACKENDS)}")
    try:
        return importlib.import_module(f"ssn_edge.backends.{name}_backend")
    except ImportError as error:
        raise BackendError(
            f"backend {name} is not installed ({one_line(error)}); "
            f'run: pip install "ssn-edge[{name}]"'
        ) from None


def tensorrt_problem() -> Optional[str]:
    """Why TensorRT cannot be used here, in a few words; None if library and GPU are there."""
    if importlib.util.find_spec("tensorrt") is None:
        return "tensorrt is not installed"
    try:
        library = load("tensorrt")
        library.gpu.open_device()
    except BackendError as error:
        return str(error)
    except Exception as error:  # a library that is broken in its own way must not stop the others
        return f"tensorrt does not load ({one_line(error)})"
    return None


def engine_path(model: Path) -> Path:
    """Where an ONNX file's engine is looked for: ``NAME.engine`` for NAME.onnx and NAME.fp16.onnx."""
    return beside(model, ".engine")


def choose(model: Path, name: str) -> Choice:
    """The back end for a model file. ``auto`` runs an ONNX file's engine where one lies beside it
    and TensorRT and a GPU are there; else the first library installed, and ``why`` says why.

    Raises InputError for a file that no back end reads, or not this one, ModelError where the engine's
    description says that it comes from another training than the file (which the engine itself is asked
    once it is open).
    """
    readers = FILES.get(model.suffix)
    if readers is None:
        raise InputError(
            f"{model}: not an .onnx, .engine or .xml file; write one with ssn-export RUN"
        )
    if model.suffix != ".onnx":
        if name not in ("auto", *readers):
            raise InputError(f"{model}: runs on {readers[0]} alone; give --backend auto")
        return Choice(load(readers[0]), model, "the file's own library")
    engine = engine_path(model)
    build = f"ssn-export {model} --engine {engine}"
    if name == "tensorrt":
        if not engine.is_file():
            raise InputError(f"{engine}: no such engine; build it: {build}")
        return _engine_of(model, engine, "asked for")
    if name != "auto":
        return Choice(load(name), model, "asked for")
    if importlib.util.find_spec("tensorrt") and not engine.is_file():
        problem: Optional[str] = f"no {engine.name} beside it; build one: {build}"
    else:  # asked only now: a CUDA context takes its share of the GPU's memory
        problem = tensorrt_problem()
    if problem is None:
        return _engine_of(model, engine, f"{engine.name} lies beside {model.name}")
    return Choice(load("auto"), model, f"not TensorRT: {problem}")


def _engine_of(model: Path, engine: Path, why: str) -> Choice:
    library = load("tensorrt")
    check_described(engine, model)
    return Choice(library, engine, why)
