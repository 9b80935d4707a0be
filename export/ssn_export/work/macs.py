"""Multiply-accumulates of an exported graph, counted node by node."""

from __future__ import annotations

from math import prod
from typing import Dict, List

import onnx
from onnx import helper

PRODUCTS = ("Conv", "MatMul", "Gemm")


def shapes(model: onnx.ModelProto, batch: int = 1) -> Dict[str, List[int]]:
    """Every tensor's shape at a batch size, weights included."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del copy.graph.value_info[:]
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(copy, strict_mode=True, data_prop=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    found = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    found.update({w.name: list(w.dims) for w in graph.initializer})
    return found


def count(model: onnx.ModelProto, batch: int = 1) -> Dict[str, int]:
    """MACs by node name for every Conv, MatMul and Gemm at a batch size; other operators have none.

    One MAC is one product and its addition; biases and activations are not counted. ValueError
    where a shape is unknown.
    """
    known = shapes(model, batch)
    return {node.name: _macs(node, known) for node in model.graph.node if node.op_type in PRODUCTS}


def total(model: onnx.ModelProto) -> int:
    """MACs of one image."""
    return sum(count(model).values())


def _macs(node: onnx.NodeProto, shapes: Dict[str, List[int]]) -> int:
    result, first, second = (shapes[name] for name in (node.output[0], *node.input[:2]))
    if 0 in result or not result:
        raise ValueError(f"{node.name}: shape of {node.output[0]} is unknown")
    if node.op_type == "Conv":
        return prod(result) * prod(second[1:])  # [K, C / groups, kh, kw]
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and helper.get_attribute_value(a) for a in node.attribute)
        return prod(result) * first[0 if transposed else 1]
    return prod(result) * first[-1]
