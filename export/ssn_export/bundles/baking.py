"""Thresholds into a finished graph: nodes behind its outputs that judge as the runtime does. No torch.

The rule is the runtime's (:mod:`ssn_edge.verdict.judge`), which fails closed here too: NG, and a pixel of the
mask, is what is *not below* its limit, as a value that is not a number is. The map's maximum is not taken:
ReduceMax may pass over a NaN. Whether any pixel reaches the limit says the same. A source that does not count
has a limit that only +inf and NaN reach. (An infinite logit alone cannot hide as -inf: the map's products
make NaN of it.)
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ssn_edge.errors import InputError
from ssn_edge.model.schema import METADATA_KEY, ModelInfo, Verdict
from ssn_edge.verdict.judge import Judge
from ssn_export.gates import lint

OUTPUTS = ("mask", "is_defect")
"""What a graph with thresholds has beside ``anomaly_map`` and ``score``."""

FLOAT, BYTE = TensorProto.FLOAT, TensorProto.UINT8


def baked(model: onnx.ModelProto, info: ModelInfo) -> onnx.ModelProto:
    """A copy with the thresholds of ``info.verdict`` inside, described by ``info``, checked.

    The comparisons are named as nodes that stay in float32, where such were measured: a threshold rounded to
    half would be another one. Errors as of :func:`with_thresholds`.
    """
    result = with_thresholds(model, info.verdict)
    if info.float32_nodes is not None:
        added = result.graph.node[len(model.graph.node):]
        compared = (node.name for node in added if node.op_type == "Less")
        info = dataclasses.replace(info, float32_nodes=(*info.float32_nodes, *compared))
    describe(result, dataclasses.replace(info, verdict_inside=True))
    return result


def with_thresholds(model: onnx.ModelProto, verdict: Verdict) -> onnx.ModelProto:
    """A copy with the outputs ``mask`` uint8 [N, H, W] and ``is_defect`` uint8 [N], computed from its float32
    outputs ``anomaly_map`` [N, H, W] and ``score`` [N].

    Raises InputError for a graph that has thresholds inside, ModelError where the result is no sound graph.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    outputs = {value.name: value for value in graph.output}
    if set(OUTPUTS) & set(outputs):
        raise InputError("the graph has thresholds inside; give one that was exported without --verdict")
    limits, nodes = Judge(verdict).limits, _Nodes(graph)
    score = nodes.reaches("score", limits.score)
    somewhere = nodes.add("ReduceMax", nodes.reaches("anomaly_map", limits.map_max), axes=[1, 2], keepdims=0)
    nodes.add("Cast", nodes.reaches("anomaly_map", limits.pixel), output="mask", to=BYTE)
    nodes.add("Cast", nodes.add("Max", score, somewhere), output="is_defect", to=BYTE)
    for name, like in zip(OUTPUTS, ("anomaly_map", "score")):
        value = graph.output.add()
        value.CopyFrom(outputs[like])
        value.name, value.type.tensor_type.elem_type = name, BYTE
    lint.check_valid(result)
    lint.check(result, model)
    return result


def describe(model: onnx.ModelProto, info: ModelInfo) -> None:
    """Put the description into the model's metadata, in place of one that is there."""
    helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    model.producer_name = "ssn-export"


class _Nodes:
    """Appends nodes to a graph, each named by its operator and place, ``verdict/Less_123``."""

    def __init__(self, graph: onnx.GraphProto):
        self._graph = graph
        self._reached: Dict[Tuple[str, float], str] = {}

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """The name of the one output."""
        name = f"verdict/{operator}_{len(self._graph.node)}"
        node = helper.make_node(operator, inputs, [output or name], name, **attributes)
        self._graph.node.append(node)
        return output or name

    def reaches(self, values: str, limit: float) -> str:
        """float32 of the values' shape: 0 where a value is below the limit, else 1. Asked for once, so that
        the mask costs nothing where the map's two limits are one."""
        key = values, limit
        if key not in self._reached:
            below = self.add("Less", values, self._constant(limit))
            self._reached[key] = self.add("Cast", self.add("Not", below), to=FLOAT)
        return self._reached[key]

    def _constant(self, value: float) -> str:
        """A scalar's name; an equal one of the graph serves, since no tensor is stored twice."""
        array = np.float32(value)
        for weight in self._graph.initializer:
            if weight.data_type == FLOAT and not weight.dims and same(numpy_helper.to_array(weight), array):
                return str(weight.name)
        name = f"verdict/limit_{len(self._graph.initializer)}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Bit by bit: 0 and -0 are two."""
    return one.tobytes() == other.tobytes()
