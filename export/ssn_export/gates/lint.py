"""Would every TensorRT release from 8.5 to 11 parse this graph? Rules, each with its reason.

No torch and no TensorRT: the rules are facts about the parsers, gathered in docs/fusion.md.
"""

from __future__ import annotations

from collections import Counter
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

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

TYPES = frozenset(
    (*FLOATS, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)
)
"""What all releases have; float64, bfloat16 and 16-bit integers are not in it."""

ONE_TYPE = frozenset("Add Concat Conv Div Gemm Less MatMul Max Mul Sub".split())
"""Operators that take operands of one type only. Others may mix: a half base and a float32 exponent."""

QUANTISING = ("QuantizeLinear", "DequantizeLinear")


def problems(model: onnx.ModelProto) -> List[str]:
    """One line per breach, naming the node or tensor and the rule; empty when there is none."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return [
        *_opsets(model),
        *_operators(graph),
        *_types(graph),
        *_operands(graph),
        *_bytes(graph),
        *_quantisation(graph),
        *_shapes(graph),
        *_convolutions(graph),
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
    places = _places(graph)
    for name, kind in _kinds(graph).items():
        if kind and kind not in TYPES:
            yield f"node {places[name]}: tensor {name} is {_word(kind)}, which not every TensorRT has"
    for weight in graph.initializer:
        if weight.data_type == TensorProto.INT64:
            values = numpy_helper.to_array(weight)
            if values.size and np.abs(values).max() > np.iinfo(np.int32).max:
                yield f"node {places[weight.name]}: {weight.name} has int64 beyond 32 bits, clipped by 8.x"


def _operands(graph: onnx.GraphProto) -> Iterator[str]:
    """A half convolution with a float32 weight, say: strongly typed networks convert nothing."""
    kinds = _kinds(graph)
    for node in graph.node:
        if node.op_type not in ONE_TYPE:
            continue
        found = {name: kinds[name] for name in node.input if kinds.get(name)}
        if len(set(found.values())) > 1:
            words = ", ".join(f"{name} {_word(kind)}" for name, kind in found.items())
            yield f"node {node.name}: {node.op_type} takes operands of one type, these are {words}"


def _bytes(graph: onnx.GraphProto) -> Iterator[str]:
    """uint8 exists at the network's border only, and only with a Cast beside it."""
    kinds, places = _kinds(graph), _places(graph)
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
            yield f"node {places[name]}: tensor {name}: uint8 inside the network"


def _quantisation(graph: onnx.GraphProto) -> Iterator[str]:
    kinds, dims = _kinds(graph), _dims(graph)
    weights = {w.name: w for w in graph.initializer}
    for node in (node for node in graph.node if node.op_type in QUANTISING):
        values, scale, *zeros = node.input
        if node.op_type == "DequantizeLinear" and kinds.get(values) != TensorProto.INT8:
            yield f"node {node.name}: {values} is {_word(kinds.get(values, 0))}; only int8 is dequantised"
        for name in zeros:
            zero = weights.get(name)
            if zero is None or zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
                yield f"node {node.name}: quantisation must be symmetric int8 with zero point 0"
        if scale not in weights:
            yield f"node {node.name}: its scale {scale} must be a constant"
            continue
        scales = numpy_helper.to_array(weights[scale])
        wrong = scales[~(np.isfinite(scales) & (scales > 0))]
        if wrong.size:
            yield f"node {node.name}: its scale {scale} must be finite and above 0, not {wrong[0]}"
        axis, shape = _number(node, "axis", 1), dims.get(values, [])
        channels = shape[axis] if -len(shape) <= axis < len(shape) else None
        zero_sizes = {int(np.prod(dims.get(name, []))) for name in zeros}
        if scales.ndim > 1 or scales.size not in (1, channels) or zero_sizes - {scales.size}:
            yield (f"node {node.name}: scales {scale} {list(scales.shape)} for {channels} channels on axis "
                   f"{axis}; one for all, or a list with one for each, and as many zero points")


def _shapes(graph: onnx.GraphProto) -> Iterator[str]:
    """One symbolic dimension at most, the batch, in front; constants where a shape is asked for."""
    for value in graph.input:
        for axis, size in enumerate(_sizes(value)):
            if axis and size < 0:
                yield f"input {value.name}: axis {axis} is free; only the batch may be"
    constants, dims = {w.name: w for w in graph.initializer}, _dims(graph)
    for node in graph.node:
        if node.op_type != "Reshape":
            continue
        values, shape = node.input
        if shape not in constants:
            yield f"node {node.name}: computed shape; static shapes and one batch profile only"
            continue
        target = numpy_helper.to_array(constants[shape]).ravel().tolist()
        if values in dims and not _holds(target, dims[values]):
            yield f"node {node.name}: shape {target} does not hold {values} {dims[values]} at every batch"


def _holds(target: Sequence[int], dims: Sequence[int]) -> bool:
    """Whether Reshape's ``target`` (-1 what is left, 0 a copy) takes values of ``dims`` (-1 free) whatever
    the free ones are."""
    copied = {axis for axis, size in enumerate(target) if size == 0 and axis < len(dims)}
    free = any(size < 0 and axis not in copied for axis, size in enumerate(dims))
    wanted = [abs(dims[axis]) if axis in copied else size for axis, size in enumerate(target) if size != -1]
    have, want = int(np.prod([abs(size) for size in dims])), int(np.prod(wanted))
    if -1 not in target:
        return not free and have == want
    return target.count(-1) == 1 and want > 0 and have % want == 0


def _convolutions(graph: onnx.GraphProto) -> Iterator[str]:
    """ONNX's checker compares neither channels nor biases."""
    dims = _dims(graph)
    for node in (node for node in graph.node if node.op_type == "Conv"):
        values, weight, *bias = node.input
        shape, kernel, group = dims.get(values, []), dims.get(weight, []), _number(node, "group", 1)
        if len(kernel) < 3 or len(shape) != len(kernel):
            yield f"node {node.name}: weight {weight} {kernel} does not fit {values} {shape}"
            continue
        if group < 1 or shape[1] != group * kernel[1] or kernel[0] % group:
            yield (f"node {node.name}: weight {weight} {kernel} in {group} groups does not fit the "
                   f"{shape[1]} channels of {values}")
        for name in bias:
            if dims.get(name) != kernel[:1]:
                yield f"node {node.name}: bias {name} {dims.get(name, [])} must be [{kernel[0]}]"


def _duplicates(graph: onnx.GraphProto) -> Iterator[str]:
    """Scales and zero points may be equal: each belongs to a tensor of its own, and they are small."""
    places = _places(graph)
    small = {name for node in graph.node if node.op_type in QUANTISING for name in node.input[1:]}
    names: Set[str] = set()
    content: Dict[Tuple[int, Tuple[int, ...], bytes], str] = {}
    for weight in graph.initializer:
        key = weight.data_type, tuple(weight.dims), numpy_helper.to_array(weight).tobytes()
        if weight.name in names or (weight.name not in small and key in content):
            first = content.get(key, weight.name)
            yield f"node {places[weight.name]}: tensor {weight.name} is stored twice, first as {first}"
        names.add(weight.name)
        if weight.name not in small:
            content.setdefault(key, weight.name)
    nodes = Counter(node.name for node in graph.node)
    for name, count in nodes.items():
        if count > 1 or not name:
            yield f"node {name or '(no name)'}: names must be unique for precision constraints"


def _places(graph: onnx.GraphProto) -> Dict[str, str]:
    """The node that makes each tensor, or the first that uses it; "(none)" where none does."""
    places: Dict[str, str] = {}
    for node in graph.node:
        for name in (*node.input, *node.output):
            places.setdefault(name, node.name)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        places.setdefault(value.name, "(none)")
    return places


def _kinds(graph: onnx.GraphProto) -> Dict[str, int]:
    """Element type of every tensor that has one."""
    values = [*graph.value_info, *graph.input, *graph.output]
    kinds = {v.name: v.type.tensor_type.elem_type for v in values}
    kinds.update({w.name: w.data_type for w in graph.initializer})
    return kinds


def _dims(graph: onnx.GraphProto) -> Dict[str, List[int]]:
    """Shape of every tensor that has one; -1 is free."""
    values = [*graph.value_info, *graph.input, *graph.output]
    dims = {v.name: _sizes(v) for v in values if v.type.tensor_type.HasField("shape")}
    dims.update({w.name: list(w.dims) for w in graph.initializer})
    return dims


def _sizes(value: onnx.ValueInfoProto) -> List[int]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]


def _number(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _word(kind: int) -> str:
    word = str(TensorProto.DataType.Name(kind)).lower()
    return {"float": "float32", "double": "float64"}.get(word, word)
