"""The heads' centring taken into the backbone's last convolutions: a kernel a level less, and features that
are stored around zero.

Half precision rounds in proportion to the value, and features have means far above their deviation, which the
heads subtract first. Where features are linear, as outputs of bottlenecks and their sums are, the centre c
leaves by the bias of the convolution that writes them, and every other reader, a 1x1 convolution W, takes
``W c`` into its own. Tensors further up are left alone: with means near zero the readers' biases alone would
carry the constants, and those are rounded too.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Dict, List, Mapping, Set

import numpy as np
import onnx
from onnx import helper, numpy_helper


def linear(model: onnx.ModelProto) -> List[str]:
    """Tensors that may carry a constant, in the order of the graph: written by convolutions and sums of each
    other alone, read by 1x1 convolutions without padding, such sums and subtractions of a constant alone."""
    constants = {w.name: tuple(w.dims) for w in model.graph.initializer}
    found = {
        node.output[0] for node in model.graph.node
        if (node.op_type == "Conv" and set(node.input[1:]) <= set(constants)) or node.op_type == "Add"
    } - {output.name for output in model.graph.output}
    while True:
        refused = {
            name for node in model.graph.node for name in _refused(node, found, constants) if name in found
        }
        if not refused:
            return [node.output[0] for node in model.graph.node if node.output[0] in found]
        found -= refused


def _refused(node: onnx.NodeProto, found: Set[str], constants: Mapping[str, tuple]) -> Set[str]:
    """What this node does not let carry a constant."""
    if node.op_type == "Add":
        around = {*node.input, node.output[0]}
        return set() if around <= found else around
    if node.op_type == "Conv" and _is_pointwise(node, constants):
        return set()
    if node.op_type == "Sub" and len(constants.get(node.input[1], ())) == 3:
        return set() if constants[node.input[1]][1:] == (1, 1) else set(node.input)
    return set(node.input)


def _is_pointwise(node: onnx.NodeProto, constants: Mapping[str, tuple]) -> bool:
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = given.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not any(given.get("pads", ()))
    return plain and given.get("group", 1) == 1 and constants.get(node.input[1], ())[2:] == (1, 1)


def centred(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that stores :func:`linear` tensors minus what their readers subtract, which then do not. The
    answers are the same but for float32's rounding of the new biases."""
    weights = {w.name: numpy_helper.to_array(w).astype(np.float64) for w in model.graph.initializer}
    carried = _carried(model, linear(model), weights)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph, kept, gone = result.graph, [], {}  # type: ignore[var-annotated]
    for node in graph.node:
        node.input[:] = [gone.get(name, name) for name in node.input]
        if node.op_type == "Conv":
            change = -np.asarray(carried.get(node.output[0], 0.0))
            if node.input[0] in carried:
                change = change + weights[node.input[1]][:, :, 0, 0] @ carried[node.input[0]]
            if np.any(change):
                before = weights[node.input[2]] if len(node.input) > 2 else 0.0
                node.input[2:] = [_constant(graph, f"{node.name}_bias", np.asarray(before + change))]
        elif node.op_type == "Sub" and node.input[0] in carried:
            left = weights[node.input[1]] - carried[node.input[0]][:, None, None]
            if not left.any():
                gone[node.output[0]] = node.input[0]
                continue
            node.input[1] = _constant(graph, f"{node.name}_constant", left)
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    return unused_removed(result)


def _carried(
    model: onnx.ModelProto, names: List[str], weights: Mapping[str, np.ndarray]
) -> Dict[str, np.ndarray]:
    """The constants [C], where there are any: a sum's comes from the operand that nothing else reads."""
    readers = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    found: Dict[str, Any] = dict.fromkeys(names, 0.0)
    for node in model.graph.node:
        name = node.output[0]
        if name not in found:
            continue
        wish = [weights[r.input[1]].reshape(-1) for r in readers[name] if r.op_type == "Sub"]
        if node.op_type == "Conv":
            found[name] = wish[0] if wish else 0.0
            continue
        first, second = node.input
        free = [pair for pair in ((first, second), (second, first)) if _is_free(pair[0], model, readers)]
        if free:
            one, other = free[0]
            found[one] = (wish[0] if wish else 0.0) - found[other]
        found[name] = found[first] + found[second]
    return {name: value for name, value in found.items() if np.any(value)}


def _is_free(name: str, model: onnx.ModelProto, readers: Mapping[str, List[onnx.NodeProto]]) -> bool:
    written = next(node for node in model.graph.node if name in node.output)
    return written.op_type == "Conv" and len(readers[name]) == 1


def _constant(graph: onnx.GraphProto, name: str, values: np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return name


def unused_removed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself without the weights that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    weights = [w for w in model.graph.initializer if w.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    return model
