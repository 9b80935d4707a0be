"""What a graph would take at least on cards that are not here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Mapping, NamedTuple, Optional, Tuple

from ssn_edge.errors import BackendError, ModelError
from ssn_export.targets.target import Target
from ssn_export.tensorrt import compiled, kernels
from ssn_export.work import cards
from ssn_export.work.cards import Card

if TYPE_CHECKING:
    import onnx

METHODS = {
    "rtx": "roofline of the compiled graph",
    "orin": "estimate: roofline of the ONNX graph",
}


class Judged(NamedTuple):
    """One graph for one image: ``kernels`` (None where nothing was compiled), 10^6 bytes read and written,
    10^9 multiply-accumulates, milliseconds by card, all from memory and with what fits the L2 kept there
    (None: not known), and by which compiler."""

    kernels: Optional[int]
    megabytes: float
    gmac: float
    bounds: Mapping[str, Tuple[float, Optional[float]]]
    compiler: str = ""


def check_here(target: Target) -> None:
    """BackendError where what the target is judged by is not installed."""
    problem = compiled.missing() if target.name == "rtx" else None
    if problem is not None:
        reason = problem.partition("; run: ")[0]
        raise BackendError(
            f'--for {target.words}: {reason}; run: pip install "ssn-edge[rtx]", which needs no GPU, or give '
            "targets without rtx"
        )


def capability(target: Target) -> str:
    """What the graphs are compiled for, as "8.6"."""
    return cards.compute_capability(target.card) if target.card else compiled.CARD[0]


def judge(target: Target, model: onnx.ModelProto, called: str, precision: str) -> Judged:
    """By the target's method; errors as of :func:`.compiled.compiled`."""
    if target.name == "rtx":
        return by_compiler(model, called, target.cards(), capability(target))
    return by_estimate(model, target.cards(), precision)


def by_compiler(
    model: onnx.ModelProto, called: str, known: Mapping[str, Card], capability: str
) -> Judged:
    """By the kernels that NVIDIA's compiler for RTX cards makes of it."""
    made = compiled.compiled(model.SerializeToString(), called, (capability,))
    found = kernels.report(made.kernels, model)
    document, limits = found.document(), found.bounds()
    if not limits:
        raise ModelError(f"{called}: {made.made_with} lists no kernels")
    return Judged(
        document["kernels"], document["megabytes"], sum(document["gmacs"].values()),
        {name: limits[name] for name in known}, made.made_with,
    )


def by_estimate(model: onnx.ModelProto, known: Mapping[str, Card], precision: str) -> Judged:
    """By its products alone."""
    from ssn_export.work import estimate
    from ssn_export.work.stages import Graph

    graph = Graph(model)
    bounds: Dict[str, Tuple[float, Optional[float]]] = {
        name: (estimate.roofline_ms(graph, card, precision), None) for name, card in known.items()
    }
    return Judged(None, estimate.megabytes(graph, precision), estimate.gmac(graph), bounds)
