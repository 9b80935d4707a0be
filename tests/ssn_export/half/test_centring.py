"""The heads' centring in the backbone's biases: the same numbers, and no subtraction left."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from random_model import LEAN, photos, random_model

from ssn_export.graph import tracing
from ssn_export.graph.deployed import Deployed
from ssn_export.half import centring
from ssn_train.network.design import PAPER

SIZE = (64, 96)
CASES = [("efficientnet_lite0", LEAN[0][1]), ("efficientnet_lite0", PAPER), ("mobilenetv2_100", PAPER)]


def in_float64(model):
    """The same graph with double in place of float."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            exact = numpy_helper.to_array(weight).astype(np.float64)
            weight.CopyFrom(numpy_helper.from_array(exact, weight.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    for output in graph.output:
        output.type.tensor_type.elem_type = TensorProto.DOUBLE
    return found


def answers(model, images):
    return ReferenceEvaluator(in_float64(model)).run(["anomaly_map", "score"], {"image": images})


def subtracted(model):
    """Constants that something behind the backbone subtracts."""
    return [n.name for n in model.graph.node if n.op_type == "Sub" and n.name.startswith("heads")]


@pytest.mark.parametrize(("name", "design"), CASES, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("plan", ["none", "gather"])
def test_the_subtractions_are_gone_and_the_answers_are_the_same(name, design, plan):
    """In float64 but for float32's rounding of the new biases, which is what 1e-6 allows for; a bias that is
    wrong by a centre would show as much as the centre."""
    model, backbone = random_model(name, SIZE, design)
    mean = 1 + np.arange(sum(backbone.channels)) % 3
    graph = tracing.trace(Deployed(model, backbone, plan, mean), SIZE)
    found = centring.centred(graph)
    onnx.checker.check_model(found, full_check=True)
    assert subtracted(graph) and not subtracted(found)
    assert len(found.graph.node) == len(graph.graph.node) - len(subtracted(graph))
    images = photos(1, SIZE)
    (map_before, score_before), (map_after, score_after) = answers(graph, images), answers(found, images)
    assert np.abs(map_after - map_before).max() < 1e-5 * map_before.std()
    assert np.abs(score_after - score_before).max() < 1e-5


def test_features_behind_an_activation_stay_as_they_are():
    model, backbone = random_model("resnet18", SIZE)
    graph = tracing.trace(Deployed(model, backbone, "full"), SIZE)
    assert centring.linear(graph) == []
    assert centring.centred(graph) == graph


def small(reader):
    """A convolution, what reads it, and a centre: float32 values whose sums are exact."""
    rng = np.random.default_rng(0)
    whole = {
        "w": rng.integers(-3, 4, (4, 3, 1, 1)), "b": rng.integers(-3, 4, 4),
        "v": rng.integers(-3, 4, (5, 4, 3, 3) if reader == "padded" else (5, 4, 1, 1)),
        "centre": rng.integers(1, 4, (4, 1, 1)),
    }
    pads = [1] * 4 if reader == "padded" else [0] * 4
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["t"], "first"),
        helper.make_node("Conv", ["t", "v"], ["y"], "reader", pads=pads),
        helper.make_node("Sub", ["t", "centre"], ["z"], "centring"),
        helper.make_node("Neg", ["z"], ["out"], "last"),
    ]
    if reader == "relu":
        nodes[1] = helper.make_node("Relu", ["t"], ["y"], "reader")
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "small", [tensor("x", TensorProto.FLOAT, ["N", 3, 6, 7])],
        [tensor("out", TensorProto.FLOAT, None), tensor("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in whole.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("reader", ["pointwise", "padded", "relu"])
def test_only_readers_that_can_return_a_constant_let_it_leave(reader):
    """Zeros around a kernel and what an activation cuts are not linear in the constant."""
    model = small(reader)
    found = centring.centred(model)
    x = np.random.default_rng(1).integers(-9, 10, (2, 3, 6, 7)).astype(np.float32)
    for one, other in zip(*(ReferenceEvaluator(m).run(None, {"x": x}) for m in (model, found))):
        assert np.array_equal(one, other)
    assert len(found.graph.node) == (3 if reader == "pointwise" else 4)
