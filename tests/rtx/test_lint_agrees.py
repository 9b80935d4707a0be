"""The linter against NVIDIA's own parser and builder (TensorRT for RTX), which need no GPU."""

import pytest
import rtx
from onnx import helper
from parser_graphs import FLOAT, IMAGE, REFUSED, STRICTER, TAKEN, graph, node, reshaped, values

from ssn_edge.errors import ModelError
from ssn_export.gates import lint

pytest.importorskip("tensorrt_rtx_bindings")

INVALID = {  # what an export refuses before it asks the linter
    "axes in a wrong order": node("Transpose", {}, perm=[0, 1, 1, 2]),
    "parts of different heights": node(
        "Concat", {"w": values(1, 4, 7, 8)}, [1, 4, 8, 8], [1, 8, 8, 8], axis=1
    ),
    "product of 8 by 7": node("MatMul", {"w": values(7, 8)}),
    "reshape to no whole number": reshaped([1, 5, -1], [1, 5, 51], shape=[1, 4, 8, 8]),
    "a tensor that nothing makes": graph(
        [helper.make_node("Add", ["x", "nowhere"], ["y"], "n")], [("x", FLOAT, IMAGE)], [("y", FLOAT, IMAGE)]
    ),
    "an output that nothing makes": graph(
        [helper.make_node("Relu", ["x"], ["z"], "n")], [("x", FLOAT, IMAGE)], [("y", FLOAT, IMAGE)]
    ),
}


def said(model):
    """By the compiler too, but for int8 before 1.7: 1.4 wants a driver, 1.5 and 1.6 fail at small kernels."""
    quantised = any(n.op_type in lint.QUANTISING for n in model.graph.node)
    return rtx.refusal(model, build=not quantised or rtx.release() >= (1, 7))


@pytest.mark.parametrize("what", REFUSED)
def test_nvidia_refuses_what_the_linter_refuses(what):
    model, _ = REFUSED[what]
    assert lint.problems(model)
    assert said(model)


@pytest.mark.parametrize("what", STRICTER)
def test_nvidia_takes_what_the_linter_refuses_for_a_reason_of_its_own(what):
    """A graph that this parser refuses after all belongs to those above."""
    model, _ = STRICTER[what]
    assert lint.problems(model)
    assert said(model) is None


@pytest.mark.parametrize("what", TAKEN)
def test_nvidia_takes_what_the_linter_takes(what):
    assert lint.problems(TAKEN[what]) == []
    assert said(TAKEN[what]) is None


@pytest.mark.parametrize("what", INVALID)
def test_nvidia_refuses_what_onnx_own_checker_refuses(what):
    with pytest.raises(ModelError, match="invalid"):
        lint.check_valid(INVALID[what])
    assert rtx.refusal(INVALID[what])
