"""Weights rounded to float16 so that the errors of a channel cancel on photos, not each to its nearest.

What the nearest values lose is for the most part a constant of each channel: the error of the bias, and that
of the weights times the inputs' means. So weights are rounded in turn, and the next ones take over what the
last one lost, as in GPTQ (Frantar et al., 2022): by the inputs' second moments on photos, the bias being the
weight of an input that is 1. Nothing is added to the graph; values move by a few units in their last place.
"""

from __future__ import annotations

from typing import AbstractSet, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ssn_edge.backends.onnxruntime_backend import inference_session
from ssn_export.half.centring import unused_removed

MOST_INPUTS = 1200
"""Of one output value: beyond, weights go to their nearest, since the moments' inverse would take seconds."""

POSITIONS = 1024
"""Taken of a photo and a product, at even distances."""

DAMPING = 1e-2
"""Added to each input's second moment, relative to it: photos that were not seen differ."""


class Product(NamedTuple):
    """A convolution or product whose ``weight`` [groups, outputs, inputs] and ``bias`` [groups, outputs] are
    constant, of the tensor ``source``; ``shape`` is the weight's in the graph."""

    node: onnx.NodeProto
    source: str
    weight: np.ndarray
    bias: Optional[np.ndarray]
    shape: Tuple[int, ...]


def products(model: onnx.ModelProto) -> List[Product]:
    """Those that are rounded here: with as many inputs of a value as :data:`MOST_INPUTS` at most."""
    constants = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    found = []
    for node in model.graph.node:
        weight, bias = constants.get(node.input[1]) if len(node.input) > 1 else None, None
        if weight is None or weight.dtype != np.float32:
            continue
        shape = weight.shape
        given = _attributes(node)
        if node.op_type == "Conv" and weight.ndim == 4 and given.get("auto_pad", b"NOTSET") == b"NOTSET":
            groups = given.get("group", 1)
            bias = constants[node.input[2]].reshape(groups, -1) if len(node.input) > 2 else None
            weight = weight.reshape(groups, weight.shape[0] // groups, -1)
        elif node.op_type == "MatMul" and weight.ndim == 2:
            weight = weight.T[None]
        else:
            continue
        if weight.shape[2] <= MOST_INPUTS:
            found.append(Product(node, node.input[0], weight, bias, shape))
    return found


def chosen(model: onnx.ModelProto, images: np.ndarray) -> Dict[str, Dict[int, np.ndarray]]:
    """Float16 values, in float32, of every product's inputs 1 (weight) and 2 (bias) by its node's name, for
    the activations of ``images`` uint8 [N, H, W, 3]."""
    found = products(model)
    moments = _moments(model, found, images)
    return {product.node.name: _values(product, moments[product.node.name]) for product in found}


def with_values(
    model: onnx.ModelProto, values: Mapping[str, Mapping[int, np.ndarray]],
    but: AbstractSet[str] = frozenset(),
) -> onnx.ModelProto:
    """A copy with the values of :func:`chosen`, except of the nodes named in ``but``."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for node in result.graph.node:
        for place, value in values.get(node.name, {}).items() if node.name not in but else ():
            name = f"{node.name}_{place}"
            result.graph.initializer.append(numpy_helper.from_array(value, name))
            node.input[place] = name
    return unused_removed(result)


def _values(product: Product, moments: np.ndarray) -> Dict[int, np.ndarray]:
    if product.bias is None:
        found = rounded(product.weight, moments[:, 1:, 1:]).astype(np.float32)
        found = found[0].T if product.node.op_type == "MatMul" else found
        return {1: np.ascontiguousarray(found).reshape(product.shape)}
    joined = np.concatenate([product.bias[..., None], product.weight], axis=2)
    found = rounded(joined, moments).astype(np.float32)
    return {1: found[:, :, 1:].reshape(product.shape), 2: found[:, :, 0].reshape(-1)}


def rounded(weight: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Float16 values near ``weight`` [groups, outputs, inputs] for inputs with second ``moments`` [groups,
    inputs, inputs], in float64: the inputs with the largest errors first, each error passed on to the others
    by the conditional expectation that the moments give."""
    size = np.einsum("gkk->gk", moments)
    scale = np.sqrt(size) * np.abs(weight).mean(axis=1)  # [groups, inputs]
    order = np.argsort(-scale.mean(axis=0))
    added = DAMPING * (size + 1e-6 * size.max(1, keepdims=True) + 1e-12)  # inputs that are always 0 too
    damped = moments + np.eye(len(order)) * added[:, None]
    inverse = np.linalg.inv(damped[:, order][:, :, order])
    passed = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
    rest, found = weight[:, :, order].astype(np.float64), np.empty(weight.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are the gate's to refuse
        for k, place in enumerate(order):
            nearest = rest[:, :, k].astype(np.float16).astype(np.float64)
            error = (rest[:, :, k] - nearest) / passed[:, k, k, None]
            rest[:, :, k:] -= error[:, :, None] * passed[:, None, k, k:]
            found[:, :, place] = nearest
    return found


def _moments(model: onnx.ModelProto, found: Sequence[Product], images: np.ndarray) -> Dict[str, np.ndarray]:
    """Second moments [groups, 1 + inputs, 1 + inputs] of each product's inputs, a 1 in front of them."""
    sums: Dict[str, np.ndarray] = {}
    for values in activations(model, [product.source for product in found], images):
        for product in found:
            inputs = _inputs(product, values[product.source])
            ours = (inputs @ inputs.transpose(0, 2, 1)).astype(np.float64) / (inputs.shape[2] * len(images))
            sums[product.node.name] = sums.get(product.node.name, 0) + ours
    return sums


def stored(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of a float32 graph that stores the named tensors, which nodes write, in half."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    for node in model.graph.node:
        copy = result.graph.node.add()
        copy.CopyFrom(node)
        for place, name in enumerate(node.output):
            if name in names:
                exact, half = f"{name}_exact", f"{name}_half"
                copy.output[place] = exact
                for one, other, to in ((exact, half, TensorProto.FLOAT16), (half, name, TensorProto.FLOAT)):
                    cast = helper.make_node("Cast", [one], [other], f"Cast_{other}", to=to)
                    result.graph.node.append(cast)
    return result


def activations(
    model: onnx.ModelProto, names: Sequence[str], images: np.ndarray
) -> Iterator[Mapping[str, np.ndarray]]:
    """Values by name of float32 tensors inside a graph, image by image, in ONNX Runtime on the CPU."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    wanted = list(dict.fromkeys(names))
    there = {output.name for output in model.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in there)
    session = inference_session(opened.SerializeToString())
    for image in images:
        yield dict(zip(wanted, session.run(wanted, {"image": image[None]})))


def _inputs(product: Product, x: np.ndarray) -> np.ndarray:
    """A 1 and the values that each of about POSITIONS output values is a sum of: float32 [groups, 1 + inputs,
    positions]."""
    if product.node.op_type == "MatMul":
        rows = x.reshape(-1, x.shape[-1])
        columns = rows[:: _step(len(rows))].T[None]
    else:
        columns = _patches(product, x)
    ones = np.ones((len(columns), 1, columns.shape[2]), np.float32)
    return np.concatenate([ones, columns], axis=1)


def _patches(product: Product, x: np.ndarray) -> np.ndarray:
    given, (high, wide) = _attributes(product.node), product.shape[2:]
    top, left, bottom, right = given.get("pads", [0] * 4)
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    x = np.pad(x[0], ((0, 0), (top, bottom), (left, right)))
    rows, columns = (
        np.arange(0, n - d * (k - 1), s) for n, d, k, s in zip(x.shape[1:], dilations, (high, wide), strides)
    )
    step = _step(int(np.sqrt(len(rows) * len(columns))), int(np.sqrt(POSITIONS)))
    rows, columns = rows[::step], columns[::step]
    taken = [
        x[:, rows[:, None] + i * dilations[0], columns[None] + j * dilations[1]]
        for i in range(high) for j in range(wide)
    ]
    return np.stack(taken, axis=1).reshape(len(product.weight), -1, len(rows) * len(columns))


def _step(count: int, wanted: int = POSITIONS) -> int:
    """An odd distance, so that positions are of both parities."""
    return max(1, count // wanted) | 1 if count > wanted else 1


def _attributes(node: onnx.NodeProto) -> Dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
