"""Typed half precision: explicit float16 weights and casts, chosen node by node.

Strongly typed builders (TensorRT 10 and later) take the precision from the graph, so it has to
be written there. Inputs and outputs keep their types.
"""

from __future__ import annotations

import hashlib
from typing import AbstractSet, Dict, List, Set, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16

FLOAT_OPS = frozenset({"ReduceMean", "Sigmoid"})
"""Kept in float32 always: a mean over thousands of pixels loses digits in half, and the score is
a handful of values that cost nothing."""


def to_half(model: onnx.ModelProto, keep: AbstractSet[str] = frozenset()) -> onnx.ModelProto:
    """A copy with every float node in float16 except the nodes named in ``keep``.

    Weights are stored once per type that uses them, and once where rounding makes two equal; a value that
    both types use is cast once.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    floats = _float_values(model)
    weights = {w.name: numpy_helper.to_array(w) for w in graph.initializer if w.data_type == FLOAT}
    other = [w for w in graph.initializer if w.data_type != FLOAT]
    writer = _Writer(floats, weights)
    for node in graph.node:
        wanted = FLOAT if node.name in keep or node.op_type in FLOAT_OPS else HALF
        writer.add(node, wanted)
    for output in graph.output:
        writer.finish(output.name)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(writer.nodes)
    graph.initializer.extend(other + writer.initializers())
    return result


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """A typed half graph in float32 that rounds to half wherever the graph stores half.

    That is float16 storage with float32 accumulation, node by node, on any machine. ONNX Runtime
    on a CPU computes half nodes in float32 and leaves out the rounding between neighbours, so the
    half graph itself would look better there than it is on a device.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    halves = {v.name for v in values if v.type.tensor_type.elem_type == HALF}
    weights = []
    for weight in model.graph.initializer:
        if weight.data_type == HALF:
            array = numpy_helper.to_array(weight).astype(np.float32)
            weight = numpy_helper.from_array(array, weight.name)
        weights.append(weight)
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    result.graph.initializer.extend(weights)
    for node in model.graph.node:
        copy = result.graph.node.add()
        copy.CopyFrom(node)
        for attribute in copy.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == HALF:
                attribute.i = FLOAT
        for index, name in enumerate(node.output):
            if name in halves:
                copy.output[index] = f"{name}_exact"
                for kind, (before, after) in zip(
                    (HALF, FLOAT), ((f"{name}_exact", f"{name}_rounded"), (f"{name}_rounded", name))
                ):
                    result.graph.node.append(
                        helper.make_node("Cast", [before], [after], f"Cast_{after}_{kind}", to=kind)
                    )
    return result


def _float_values(model: onnx.ModelProto) -> Set[str]:
    """Names of all float32 values of the graph, weights included."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    names = {v.name for v in values if v.type.tensor_type.elem_type == FLOAT}
    return names | {w.name for w in graph.initializer if w.data_type == FLOAT}


class _Writer:
    """Rewrites nodes in order, casting where a value's type is not the one wanted."""

    def __init__(self, floats: Set[str], weights: Dict[str, np.ndarray]):
        self.nodes: List[onnx.NodeProto] = []
        self._floats = floats
        self._weights = weights
        self._used: Dict[Tuple[str, int], str] = {}  # (weight, type) -> name
        self._stored: Dict[Tuple[int, Tuple[int, ...], bytes], TensorProto] = {}  # by type, shape and digest
        self._types: Dict[str, int] = {}  # value -> its type now
        self._casts: Dict[Tuple[str, int], str] = {}

    def add(self, node: onnx.NodeProto, wanted: int) -> None:
        inputs = [self._typed(n, wanted) if n in self._floats else n for n in node.input]
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        if node.op_type == "Cast":
            for attribute in copy.attribute:
                if attribute.name == "to" and attribute.i == FLOAT:
                    attribute.i = wanted
        self.nodes.append(copy)
        self._types.update({name: wanted for name in node.output if name in self._floats})

    def finish(self, output: str) -> None:
        """A float32 output that a half node computes gets a cast behind it."""
        if self._types.get(output) != HALF:
            return
        inner = f"{output}_half"
        for node in self.nodes:
            node.input[:] = [inner if name == output else name for name in node.input]
            node.output[:] = [inner if name == output else name for name in node.output]
        self.nodes.append(helper.make_node("Cast", [inner], [output], f"Cast_{output}", to=FLOAT))

    def initializers(self) -> List[TensorProto]:
        return list(self._stored.values())

    def _typed(self, name: str, wanted: int) -> str:
        suffix = "half" if wanted == HALF else "float"
        if name in self._weights:
            if (name, wanted) not in self._used:
                self._used[name, wanted] = self._store(name, f"{name}_{suffix}", wanted)
            return self._used[name, wanted]
        if self._types.get(name, FLOAT) == wanted:
            return name
        if (name, wanted) not in self._casts:
            cast = f"{name}_{suffix}"
            self.nodes.append(helper.make_node("Cast", [name], [cast], f"Cast_{cast}", to=wanted))
            self._casts[name, wanted] = cast
        return self._casts[name, wanted]

    def _store(self, name: str, new_name: str, wanted: int) -> str:
        """The name under which the weight lies in that type: of two that are equal, the first's."""
        with np.errstate(over="ignore"):  # infinities are the gate's to refuse
            array = self._weights[name].astype(np.float16 if wanted == HALF else np.float32)
        key = wanted, array.shape, hashlib.sha256(array.tobytes()).digest()
        if key not in self._stored:
            self._stored[key] = numpy_helper.from_array(array, new_name)
        return str(self._stored[key].name)
