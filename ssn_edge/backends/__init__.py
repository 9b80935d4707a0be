"""Inference libraries behind one door, chosen by a dictionary. Each is a module with

    NAME, version()
    open_session(path, batch, sha256=None, host_code=False) -> Session    raises BackendError or ModelError

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
from types import ModuleType
from typing import Dict, List, Optional

from ssn_edge.errors import BackendError
from ssn_edge.text import one_line

BACKENDS: Dict[str, str] = {  # name -> importable library, best first
    "tensorrt": "tensorrt",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}

FILES = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",), ".engine": ("tensorrt",)}
"""Which back ends read which files."""


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
    """Why TensorRT cannot be used here, in a few arguments; None if library and GPU are there."""
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
