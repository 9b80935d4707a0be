"""Which nodes stay in float32 in a half-precision graph: as few as the accuracy needs, measured."""

from __future__ import annotations

from typing import Callable, FrozenSet, List, Tuple

import onnx

from ssn_edge.model.schema import Verdict
from ssn_export.gates import parity
from ssn_export.gates.parity import Reference
from ssn_export.graph import float64_reference
from ssn_export.graph.half_precision import FLOAT_OPS, emulated, to_half

TARGET_RMS = 2e-3
"""Map error aimed at, below the gate of 3e-3 so that other images have room."""

MEASURED_IMAGES = 4
GROUP_STARTS = ("Conv", "Add", "Gemm", "MatMul")


def groups(model: onnx.ModelProto) -> List[FrozenSet[str]]:
    """Nodes in groups that are judged together: each product or sum with what follows it."""
    found: List[List[str]] = []
    for node in model.graph.node:
        if node.op_type in GROUP_STARTS or not found:
            found.append([])
        found[-1].append(node.name)
    return [frozenset(group) for group in found]


def float_nodes(model: onnx.ModelProto, keep: FrozenSet[str]) -> Tuple[str, ...]:
    """Names of all nodes that compute in float32 in the half graph made with ``keep``."""
    return tuple(n.name for n in model.graph.node if n.name in keep or n.op_type in FLOAT_OPS)


def all_half_rms(model: onnx.ModelProto, truth: Reference, verdict: Verdict) -> float:
    """The map's error with every node in half: what the plan itself costs, for comparing plans."""
    maps, scores = float64_reference.run_onnx(emulated(to_half(model)), truth.images)
    return parity.compare(truth, maps, scores, verdict, "float16").map_rms


def mixed_half(
    model: onnx.ModelProto,
    truth: Reference,
    verdict: Verdict,
    on_progress: Callable[[], object] = lambda: None,
) -> Tuple[onnx.ModelProto, FrozenSet[str]]:
    """The half graph and the names of the nodes it keeps in float32.

    If all in half exceeds the target, each group's own cost is measured (that group alone in
    half), and the costliest are kept in float32 until the target is met.
    """
    few = truth.spread(MEASURED_IMAGES)
    unit = float(few.maps.std() / truth.maps.std())  # the gate's: over the deviation of all maps

    def error(keep: FrozenSet[str]) -> float:
        maps, scores = float64_reference.run_onnx(emulated(to_half(model, keep)), few.images)
        on_progress()
        return unit * parity.compare(few, maps, scores, verdict, "float16").map_rms

    keep: FrozenSet[str] = frozenset()
    if error(keep) <= TARGET_RMS:
        return to_half(model, keep), keep
    candidates = groups(model)
    everything = frozenset().union(*candidates)
    cost = {group: error(everything - group) for group in candidates}
    for group in sorted(candidates, key=lambda g: -cost[g]):
        keep |= group
        if error(keep) <= TARGET_RMS:
            break
    return to_half(model, keep), keep
