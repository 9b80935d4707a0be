"""Each rule of the linter on the smallest graph that breaks it."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from parser_graphs import BYTE, FLOAT, HALF, REFUSED, STRICTER, TAKEN, cast, graph, quantised, values

from ssn_edge.errors import ModelError
from ssn_export.gates import lint

X = [("x", FLOAT, ["N", 4])]
Y = [("y", FLOAT, ["N", 4])]
ONES = np.ones(4, np.float32)

BREACHES = {
    "opset 18": graph(opset=18),
    "operator set com.microsoft": graph(domain="com.microsoft"),
    "node sum: operator Einsum": graph(
        [helper.make_node("Einsum", ["x"], ["y"], "sum", equation="ni->ni")], X, Y
    ),
    "node a: tensor d is float64": graph(
        [cast("x", "d", TensorProto.DOUBLE, "a"), cast("d", "y", FLOAT, "b")], X, Y
    ),
    "node r: s has int64 beyond 32 bits": graph(
        [helper.make_node("Reshape", ["x", "s"], ["y"], "r")], X, Y, [("s", np.array([-1, 2**40]))]
    ),
    "node other: uint8 input image": graph(
        [helper.make_node("Identity", ["image"], ["z"], "other"), cast("z", "y", FLOAT, "c")]
    ),
    "node b: tensor z: uint8 inside": graph(
        [cast("image", "f", FLOAT, "a"), cast("f", "z", BYTE, "b"), cast("z", "y", FLOAT, "c")]
    ),
    "uint8 output y must come": graph(
        [helper.make_node("Less", ["x", "t"], ["m"], "less"), cast("m", "y", BYTE, "c")],
        X, [("y", BYTE, ["N", 4])], [("t", ONES)],
    ),
    "node ge: operator GreaterOrEqual": graph(  # false for NaN: a verdict that fails open
        [helper.make_node("GreaterOrEqual", ["x", "t"], ["m"], "ge"), cast("m", "y", FLOAT, "c")],
        X, Y, [("t", ONES)],
    ),
    "axis 1 is free": graph(inputs=[("image", BYTE, ["N", "H", 6, 3])]),
    "node r: computed shape": graph(
        [cast("x", "s", TensorProto.INT64, "c"), helper.make_node("Reshape", ["x", "s"], ["y"], "r")],
        [("x", FLOAT, [4])], [("y", FLOAT, None)],
    ),
    "zero point 0": quantised(0.1, np.int8(3)),
    "node q: tensor b is stored twice, first as a": graph(
        [helper.make_node("Add", ["x", "a"], ["m"], "p"), helper.make_node("Add", ["m", "b"], ["y"], "q")],
        X, Y, [("a", ONES), ("b", ONES)],
    ),
    "names must be unique": graph(
        [helper.make_node("Relu", ["x"], ["m"], "same"), helper.make_node("Relu", ["m"], ["y"], "same")],
        X, Y,
    ),
}


@pytest.mark.parametrize("expected", BREACHES)
def test_breach_is_named(expected):
    found = lint.problems(BREACHES[expected])
    assert any(expected in line for line in found), found
    with pytest.raises(ModelError, match="TensorRT 8.5 to 11"):
        lint.check(BREACHES[expected])


def test_a_clean_graph_passes():
    assert lint.problems(graph()) == []
    verdict = graph(
        [cast("image", "x", HALF, "in"), helper.make_node("Less", ["x", "t"], ["m"], "less"),
         helper.make_node("Not", ["m"], ["n"], "not"), cast("n", "f", FLOAT, "f"),
         cast("f", "y", BYTE, "out")],
        outputs=[("y", BYTE, ["N", 4, 6, 3])], weights=[("t", np.ones(3, np.float16))],
    )
    assert lint.problems(verdict) == []


@pytest.mark.parametrize("what", [*REFUSED, *STRICTER])
def test_what_a_parser_would_not_take_is_named_with_its_node(what):
    model, expected = {**REFUSED, **STRICTER}[what]
    found = lint.problems(model)
    assert any(expected in line for line in found), found
    assert all(line.startswith("node ") for line in found)


@pytest.mark.parametrize("what", TAKEN)
def test_no_false_alarm(what):
    lint.check_valid(TAKEN[what])
    assert lint.problems(TAKEN[what]) == []


def test_equal_weights_are_stored_twice_whatever_their_scales():
    """Scales are excused, and what is equal to one is not compared with it; int8 weights are not excused."""
    weights = [("w", np.ones((4, 4), np.int8)), ("v", np.ones((4, 4), np.int8)), ("s", np.float32(0.5)),
               ("t", np.float32(0.5)), ("half", np.float32(0.5))]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["a"], "first"),
        helper.make_node("DequantizeLinear", ["v", "t"], ["b"], "second"),
        helper.make_node("MatMul", ["x", "a"], ["m"], "m"),
        helper.make_node("MatMul", ["m", "b"], ["n"], "n"),
        helper.make_node("Mul", ["n", "half"], ["y"], "scaled"),
    ]
    assert lint.problems(graph(nodes, X, Y, weights)) == [
        "node second: tensor v is stored twice, first as w"
    ]


def test_a_weight_of_unknown_shape_passes_no_rule():
    """Fails closed: what cannot be compared is named."""
    model = graph(
        [helper.make_node("Conv", ["x", "nowhere", "w"], ["y"], "n")], [("x", FLOAT, ["N", 4, 8, 8])],
        [("y", FLOAT, ["N", 4, 8, 8])], [("w", values(4))],
    )
    assert lint.problems(model) == ["node n: weight nowhere [] does not fit x [-1, 4, 8, 8]"]
