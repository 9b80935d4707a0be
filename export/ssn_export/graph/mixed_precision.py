"""Which nodes stay in float32 in a half-precision graph: as few as the accuracy needs, measured."""

from __future__ import annotations

from typing import Callable, Dict, FrozenSet, List, Sequence, Tuple

import numpy as np
import onnx

from ssn_edge.model.schema import Verdict
from ssn_export.gates import parity
from ssn_export.gates.parity import Reference
from ssn_export.graph import float64_reference
from ssn_export.graph.half_precision import FLOAT_OPS, emulated, to_half
from ssn_export.half import centring, rounding

TARGET_RMS = 2e-3
"""Map error aimed at, below the gate of 3e-3 so that other images have room."""

MEASURED_IMAGES = 4
BLOCK = 8
IGNORED = 0.2
"""Tensors are measured one by one where a block of them alone costs this part of the target, a 25th of its
mean square, or more."""

GIVEN_BACK = 8
"""Tensors that are tried, at most."""

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

    Linear features are stored around zero (:mod:`ssn_export.half.centring`). If all in half exceeds the
    target then, weights are rounded for the photos (:mod:`ssn_export.half.rounding`) if that lowers it, and
    if that is not enough, the stored tensors that remove most error for their bytes stay in float32, with the
    nodes on both sides.
    """
    few = truth.spread(MEASURED_IMAGES)
    unit = float(few.maps.std() / truth.maps.std())  # the gate's: over the deviation of all maps

    def error(half: onnx.ModelProto) -> float:
        maps, scores = float64_reference.run_onnx(emulated(half), few.images)
        on_progress()
        return unit * parity.compare(few, maps, scores, verdict, "float16").map_rms

    model = centring.centred(model)
    plain = to_half(model)
    nearest = error(plain)
    if nearest <= TARGET_RMS:
        return plain, frozenset()
    values = rounding.chosen(model, truth.images)
    if not error(to_half(rounding.with_values(model, values))) < nearest:  # as on photos that are flat
        values = {}

    def half(keep: FrozenSet[str]) -> onnx.ModelProto:
        return to_half(rounding.with_values(model, values, keep), keep)

    def alone(names: Sequence[str]) -> float:
        maps, scores = float64_reference.run_onnx(rounding.stored(model, names), few.images)
        on_progress()
        return unit * parity.compare(few, maps, scores, verdict, "float16").map_rms

    keep = search(model, lambda nodes: error(half(nodes)), alone)
    return half(keep), keep


def search(
    model: onnx.ModelProto,
    error: Callable[[FrozenSet[str]], float],
    alone: Callable[[Sequence[str]], float],
) -> FrozenSet[str]:
    """Nodes to keep in float32 so that their ``error`` meets the target, for few bytes.

    ``alone`` is the error of tensors being stored in half, and nothing else: measured block by block, and one
    by one in blocks that matter. Tensors are kept in the order of that error's square by the bytes, as many
    as are needed; then what is not needed is given back, the most bytes first. All nodes where nothing else
    does.
    """
    if error(frozenset()) <= TARGET_RMS:
        return frozenset()
    places, added = islands(model), bytes_of(model)
    cost = {name: added(nodes) for name, nodes in places.items()}
    worth: Dict[str, float] = {}
    for block in (list(places)[n: n + BLOCK] for n in range(0, len(places), BLOCK)):
        if alone(block) > IGNORED * TARGET_RMS:
            worth.update({name: alone([name]) ** 2 / cost[name] for name in block})
    order = sorted(worth, key=lambda name: -worth[name])

    def together(names: Sequence[str]) -> FrozenSet[str]:
        return frozenset().union(*(places[name] for name in names))

    few, enough = 0, len(order)  # few are not enough, by halves
    if error(together(order)) > TARGET_RMS:
        return frozenset(node.name for node in model.graph.node)
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if error(together(order[:middle])) <= TARGET_RMS else (middle, enough)
    taken = order[:enough]
    for name in sorted(taken[:-1], key=lambda name: -cost[name])[:GIVEN_BACK]:
        fewer = [other for other in taken if other != name]
        if error(together(fewer)) <= TARGET_RMS:
            taken = fewer
    return together(taken)


def islands(model: onnx.ModelProto) -> Dict[str, FrozenSet[str]]:
    """By each tensor that one group writes and others read, the nodes that must be in float32 for it."""
    group_of = {name: group for group in groups(model) for name in group}
    readers = _readers(model)
    found = {}
    for node in model.graph.node:
        for name in node.output if node.op_type not in FLOAT_OPS else ():
            outside = [r for r in readers.get(name, []) if r.name not in group_of[node.name]]
            if outside:
                needed = ({r.name} if r.op_type in GROUP_STARTS else group_of[r.name] for r in outside)
                found[name] = group_of[node.name].union(*needed)
    return found


def float32_bytes(model: onnx.ModelProto, keep: FrozenSet[str]) -> int:
    """What ``keep`` adds to a call's memory traffic, by the sizes of tensors, batch 1: two bytes more of each
    element that a kept node writes for kept nodes of other groups, once written and once for each of these,
    and of each weight of a kept node. docs/fusion.md has the compiler's beside these: it is not
    asked, so that a file does not depend on its being there."""
    return bytes_of(model)(keep)


def bytes_of(model: onnx.ModelProto) -> Callable[[FrozenSet[str]], int]:
    """:func:`float32_bytes` for many sets of nodes: shapes are inferred once."""
    sizes = {w.name: int(np.prod(w.dims)) for w in model.graph.initializer}
    inner = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
    sizes.update({
        v.name: int(np.prod([d.dim_value or 1 for d in v.type.tensor_type.shape.dim])) for v in inner
    })
    constants = {w.name for w in model.graph.initializer}
    group_of = {name: group for group in groups(model) for name in group}
    readers = _readers(model)

    def added(keep: FrozenSet[str]) -> int:
        total = 0
        for node in model.graph.node:
            if node.name not in keep:
                continue
            total += 2 * sum(sizes[name] for name in set(node.input) if name in constants)
            for name in node.output:
                outside = {
                    group_of[r.name] for r in readers.get(name, [])
                    if r.name in keep and r.name not in group_of[node.name]
                }
                if outside:
                    total += 2 * sizes[name] * (1 + len(outside))
        return total

    return added


def _readers(model: onnx.ModelProto) -> Dict[str, List[onnx.NodeProto]]:
    found: Dict[str, List[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            found.setdefault(name, []).append(node)
    return found
