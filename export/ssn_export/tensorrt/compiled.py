"""A graph compiled by NVIDIA's TensorRT for RTX, which needs no GPU: taken or refused, and what it became."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple, Union

from ssn_edge import backends
from ssn_edge.errors import BackendError, ModelError
from ssn_export.tensorrt import builder
from ssn_export.tensorrt.builder import BuildOptions

if TYPE_CHECKING:
    import onnx

RTX = "rtx"

CARD = ("8.6",)
"""What a report is of, unless asked for others: kernels are nearly the same for all."""


@dataclass(frozen=True)
class Compiled:
    """A graph that was taken: by which release and for which compute capabilities, in how many seconds and to
    how many bytes; the warnings, and the list of kernels, in the builder's words."""

    made_with: str
    capabilities: Tuple[str, ...]
    seconds: float
    size: int
    warnings: Tuple[str, ...]
    kernels: str

    def document(self) -> Dict[str, Any]:
        """For the record: all but the kernels."""
        return {
            "compiler": self.made_with, "compute_capabilities": list(self.capabilities),
            "engine_bytes": self.size, "warnings": list(self.warnings),
        }

    def line(self) -> str:
        warned = f"{len(self.warnings)} warnings" if self.warnings else "no warnings"
        return (
            f"{self.made_with} takes it for compute capability {', '.join(self.capabilities)}: {warned}, "
            f"{self.size / 1e6:.1f} MB in {self.seconds:.1f} s"
        )


def compiled(
    model: Union[Path, bytes], called: str, capabilities: Tuple[str, ...] = CARD, batch: int = 1,
) -> Compiled:
    """Compile an ONNX file, or its bytes; errors as of :func:`.builder.serialize`."""
    product = backends.engine_library(RTX).PRODUCT
    start = time.monotonic()
    options = BuildOptions(batch=batch, capabilities=capabilities)
    plan = builder.serialize(product, model, "", options, lambda line: None, called=called)
    return Compiled(
        product.words(), capabilities, time.monotonic() - start, len(plan),
        tuple(builder.warnings(product)), builder.kernels(product),
    )


def judged(
    model: onnx.ModelProto, called: str, log: Callable[[str], object]
) -> Optional[Compiled]:
    """Whether NVIDIA's parser and compiler take a graph, where they are installed; None where they are not,
    or do not start, which is said. ModelError in their words where they refuse it."""
    problem = missing()
    if problem is not None:
        log(f"{called}: not judged by NVIDIA's compiler ({problem})")
        return None
    product = backends.engine_library(RTX).PRODUCT
    try:
        found = compiled(model.SerializeToString(), called, shared_targets())
    except (ModelError, BackendError) as error:
        raise ModelError(f"{error}; nothing was written") from None
    for warning in found.warnings:
        log(f"{called}: {product.title} warns: {warning}")
    log(f"{called}: {found.line()}")
    return found


def missing() -> Optional[str]:
    """Why nothing can be compiled here, in a few words; None if it can."""
    try:
        product = backends.engine_library(RTX).PRODUCT
        product.created(product.trt.Builder, product.log)
    except BackendError as error:
        return str(error)
    except Exception as error:  # a library that is broken in its own way must not stop an export
        return f"TensorRT for RTX does not load ({str(error)[:120]})"
    return None


TURING = "7.5"


def shared_targets() -> Tuple[str, ...]:
    """The compute capabilities that one engine is for, unless it is asked for others: all but Turing's, which
    has an engine of its own."""
    return tuple(one for one in builder.targets(backends.engine_library(RTX).PRODUCT) if one != TURING)
