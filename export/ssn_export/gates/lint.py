"""Would every TensorRT release from 8.5 to 11 parse this graph? Rules, each with its reason.

No torch and no TensorRT: the rules are facts about the parsers, gathered in docs/fusion.md.
"""

from __future__ import annotations

from collections import Counter
from typing import Dict, Iterator, List, Optional

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ssn_edge.errors import ModelError

MAX_OPSET = 17
"""The newest that 8.5 and 8.6 read."""

OPERATORS = frozenset(
    "Add AveragePool BatchNormalization Cast Clip Concat Conv DequantizeLinear Div Exp Flatten Gather "
    "Gemm GlobalAveragePool HardSigmoid HardSwish Identity LeakyRelu Less MatMul Max MaxPool "
    "Mul Not Pow QuantizeLinear ReduceMax ReduceMean ReduceSum Relu Reshape Sigmoid Slice Softmax Split "
    "Sqrt Squeeze Sub Tanh Transpose Unsqueeze".split()
)
"""What our graphs are made of and all parsers take; Einsum, Shape and control flow are not in it. Nor are
Greater and GreaterOrEqual, which are false for NaN: a threshold is ``Not(Less)``, which fails closed."""

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def problems(model: onnx.ModelProto) -> List[str]:
    """One line per breach, naming the node or tensor and the rule; empty when there is none."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return [
        *_opsets(model),
        *_operators(graph),
        *_types(graph),
        *_bytes(graph),
        *_quantisation(graph),
        *_shapes(graph),
        *_duplicates(graph),
    ]


def check(model: onnx.ModelProto, before: Optional[onnx.ModelProto] = None) -> None:
    """ModelError with the first problem and their number; of a graph that was added to, those that it did not
    have ``before``."""
    found = problems(model)
    if found and before is not None:
        known = problems(before)
        found = [problem for problem in found if problem not in known]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ModelError(f"graph that TensorRT 8.5 to 11 would not parse: {found[0]}{more}")


def check_valid(model: onnx.ModelProto) -> None:
    """ONNX's own checker with shape inference; ModelError if it objects."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"exported graph is invalid: {str(error).splitlines()[0]}") from None


def _opsets(model: onnx.ModelProto) -> Iterator[str]:
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            yield f"operator set {entry.domain}: only ONNX's own is parsed without plugins"
        elif entry.version > MAX_OPSET:
            yield f"opset {entry.version}: TensorRT 8.x reads {MAX_OPSET} at most"


def _operators(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        if node.op_type not in OPERATORS:
            yield f"node {node.name}: operator {node.op_type} is not parsed by every release"


def _types(graph: onnx.GraphProto) -> Iterator[str]:
    for name, kind in _kinds(graph).items():
        if kind == TensorProto.DOUBLE:
            yield f"tensor {name}: float64 does not exist in TensorRT"
    for weight in graph.initializer:
        if weight.data_type == TensorProto.INT64:
            values = numpy_helper.to_array(weight)
            if values.size and np.abs(values).max() > np.iinfo(np.int32).max:
                yield f"tensor {weight.name}: int64 beyond 32 bits is clipped by 8.x"


def _bytes(graph: onnx.GraphProto) -> Iterator[str]:
    """uint8 exists at the network's border only, and only with a Cast beside it."""
    kinds = _kinds(graph)
    inputs, outputs = ({v.name for v in values} for values in (graph.input, graph.output))
    made_by = {name: node for node in graph.node for name in node.output}
    for name in (name for name, kind in kinds.items() if kind == TensorProto.UINT8):
        users = [node for node in graph.node if name in node.input]
        if name in inputs:
            fine = len(users) == 1 and users[0].op_type == "Cast"
            if not fine or kinds.get(users[0].output[0]) not in FLOATS:
                where = users[0].name if users else "nothing"
                yield f"node {where}: uint8 input {name} may feed one Cast to float and nothing else"
        elif name in outputs and name in made_by:
            node = made_by[name]
            if node.op_type != "Cast" or kinds.get(node.input[0]) not in FLOATS or users:
                yield f"node {node.name}: uint8 output {name} must come from a Cast of floats, unused"
        else:
            yield f"tensor {name}: uint8 inside the network"


def _quantisation(graph: onnx.GraphProto) -> Iterator[str]:
    weights = {w.name: w for w in graph.initializer}
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        zero = weights.get(node.input[2])
        if zero is None or zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
            yield f"node {node.name}: quantisation must be symmetric int8 with zero point 0"


def _shapes(graph: onnx.GraphProto) -> Iterator[str]:
    """One symbolic dimension at most, the batch, in front; constants where a shape is asked for."""
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims):
            if axis and not dim.HasField("dim_value"):
                yield f"input {value.name}: axis {axis} is free; only the batch may be"
    constants = {w.name for w in graph.initializer}
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[1] not in constants:
            yield f"node {node.name}: computed shape; static shapes and one batch profile only"


def _duplicates(graph: onnx.GraphProto) -> Iterator[str]:
    names = Counter(w.name for w in graph.initializer)
    content = Counter(
        (w.data_type, tuple(w.dims), numpy_helper.to_array(w).tobytes()) for w in graph.initializer
    )
    if max(names.values(), default=0) > 1 or max(content.values(), default=0) > 1:
        yield "initializers: the same tensor is stored twice"
    nodes = Counter(node.name for node in graph.node)
    for name, count in nodes.items():
        if count > 1 or not name:
            yield f"node {name or '(no name)'}: names must be unique for precision constraints"


def _kinds(graph: onnx.GraphProto) -> Dict[str, int]:
    """Element type of every tensor that has one."""
    values = [*graph.value_info, *graph.input, *graph.output]
    kinds = {v.name: v.type.tensor_type.elem_type for v in values}
    kinds.update({w.name: w.data_type for w in graph.initializer})
    return kinds
