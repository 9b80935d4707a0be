"""Inference libraries behind one interface (:mod:`.session`), chosen by a dictionary. Each is a module of
this folder, which is imported only when it is chosen. Internal: Detector.open takes their names.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Dict, List, Optional, Sequence, cast

from ssn_edge.backends.session import EngineLibrary, Library
from ssn_edge.errors import BackendError
from ssn_edge.model.engine_file import PRODUCTS
from ssn_edge.text import one_line

BACKENDS: Dict[str, str] = {  # name -> importable library, best first
    "tensorrt": "tensorrt",
    "rtx": "tensorrt_rtx_bindings",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}

FILES = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",), ".engine": ("tensorrt", "rtx")}
"""Which back ends read which files."""

ENGINES = FILES[".engine"]
"""Those that run engines on a GPU, best first."""


def installed() -> List[str]:
    """Names of the back ends for ONNX files whose library can be imported, best first."""
    return [name for name in FILES[".onnx"] if importlib.util.find_spec(BACKENDS[name])]


def check_name(name: str, others: Sequence[str] = ("auto",)) -> None:
    """BackendError unless it is a back end's, one of ``others``, or ``onnxruntime:PROVIDER``. Whether the
    provider is here is not looked at."""
    base, colon, provider = name.partition(":")
    known = base in (*others, *BACKENDS) and (not colon or base == "onnxruntime" and provider)
    if not known:
        raise BackendError(
            f"backend {one_line(repr(name), 60)}; choose {', '.join((*others, *BACKENDS))}, or "
            "onnxruntime:PROVIDER, as onnxruntime:cuda"
        )


def base_of(name: str) -> str:
    """``onnxruntime`` of ``onnxruntime:cuda``."""
    return name.partition(":")[0]


def has_provider(library: Library) -> bool:
    """Whether it is ONNX Runtime with a provider other than the CPU's, which no export has judged."""
    return ":" in library.NAME


def load(name: str) -> Library:
    """The back end's module; ``auto`` takes the first for ONNX files that is installed. ``onnxruntime:cuda``
    and its like are ONNX Runtime with one of its providers.

    Raises BackendError, naming what to install, if there is none.
    """
    if name == "auto":
        found = installed()
        if not found:
            raise BackendError(
                "no inference library is installed; "
                'run: pip install "ssn-edge[onnxruntime]" (or [openvino])'
            )
        name = found[0]
    check_name(name)
    name, _, provider = name.partition(":")
    try:
        module = importlib.import_module(f"ssn_edge.backends.{name}_backend")
        return cast(Library, module.on_provider(provider) if provider else module)
    except ImportError as error:
        raise BackendError(
            f"backend {name} is not installed ({one_line(error)}); "
            f'run: pip install "ssn-edge[{name}]"'
        ) from None
    except (OSError, RuntimeError) as error:  # what bindings without their libraries raise
        raise BackendError(
            f"backend {name} does not load ({one_line(error)}); "
            f'run: pip install --force-reinstall "ssn-edge[{name}]"'
        ) from None


def engine_library(name: str = ENGINES[0]) -> EngineLibrary:
    """:func:`load` of one of :data:`ENGINES`."""
    return cast(EngineLibrary, load(name))


def engine_problem(name: str = ENGINES[0]) -> Optional[str]:
    """Why engines of this kind cannot run here, in a few words; None if library and GPU are there."""
    if importlib.util.find_spec(BACKENDS[name]) is None:
        return f"{PRODUCTS[name]} is not installed"
    try:
        engine_library(name).open_device()
    except BackendError as error:
        return str(error)
    except Exception as error:  # a library that is broken in its own way must not stop the others
        return f"{PRODUCTS[name]} does not load ({one_line(error)})"
    return None
