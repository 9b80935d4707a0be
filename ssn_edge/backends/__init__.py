"""Inference libraries behind one door: three functions each, chosen by a dictionary.

    open_session(path, batch) -> session      raises BackendError or ModelError
    metadata(session) -> dict of str
    run(session, images, maps, scores)        fills the caller's arrays, allocates none

``images`` uint8 [batch, H, W, 3], ``maps`` float32 [batch, H, W], ``scores`` float32 [batch], all
C-contiguous. Dropping the session closes it. A library is imported only when it is chosen.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Dict, List

from ssn_edge.errors import BackendError

BACKENDS: Dict[str, str] = {  # name -> importable library; "auto" takes the first that is there
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}


def installed() -> List[str]:
    """Names of the back ends whose library can be imported, best first."""
    return [name for name, library in BACKENDS.items() if importlib.util.find_spec(library)]


def load(name: str) -> ModuleType:
    """The back end's module; ``auto`` takes the first one installed.

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
            f'backend {name} is not installed ({error}); run: pip install "ssn-edge[{name}]"'
        ) from None
