"""Each rule of the linter on the smallest graph that breaks it."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ssn_edge.errors import ModelError
from ssn_export.gates import lint

FLOAT, HALF, BYTE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8


def graph(nodes=None, inputs=None, outputs=None, weights=(), opset=17, domain=""):
    nodes = nodes or [helper.make_node("Cast", ["image"], ["y"], "cast", to=FLOAT)]
    inputs = inputs or [("image", BYTE, ["N", 4, 6, 3])]
    outputs = outputs or [("y", FLOAT, ["N", 4, 6, 3])]
    made = [[helper.make_tensor_value_info(*v) for v in values] for values in (inputs, outputs)]
    imports = [helper.make_opsetid("", opset)]
    if domain:
        imports.append(helper.make_opsetid(domain, 1))
    return helper.make_model(
        helper.make_graph(nodes, "g", *made, [numpy_helper.from_array(a, n) for n, a in weights]),
        opset_imports=imports,
    )


def cast(source, target, kind, name):
    return helper.make_node("Cast", [source], [target], name, to=kind)


X = [("x", FLOAT, ["N", 4])]
Y = [("y", FLOAT, ["N", 4])]
ONES = np.ones(4, np.float32)

BREACHES = {
    "opset 18": graph(opset=18),
    "operator set com.microsoft": graph(domain="com.microsoft"),
    "node sum: operator Einsum": graph(
        [helper.make_node("Einsum", ["x"], ["y"], "sum", equation="ni->ni")], X, Y
    ),
    "float64": graph([cast("x", "d", TensorProto.DOUBLE, "a"), cast("d", "y", FLOAT, "b")], X, Y),
    "int64 beyond 32 bits": graph(
        [helper.make_node("Reshape", ["x", "s"], ["y"], "r")], X, Y, [("s", np.array([-1, 2**40]))]
    ),
    "node other: uint8 input image": graph(
        [helper.make_node("Identity", ["image"], ["z"], "other"), cast("z", "y", FLOAT, "c")]
    ),
    "tensor z: uint8 inside": graph(
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
    "zero point 0": graph(
        [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
         helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "d")],
        X, Y, [("s", np.float32(0.1)), ("z", np.int8(3))],
    ),
    "stored twice": graph(
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
