"""NVIDIA's own builder for Turing: what it refuses, and that it takes what is made of it."""

import numpy as np
import pytest
import rtx
from onnx import helper
from parser_graphs import FLOAT, HALF, graph, node, values

from ssn_edge.errors import ModelError
from ssn_export.tensorrt.turing import for_turing

pytest.importorskip("tensorrt_rtx_bindings")

REASON = "FP32 GEMM is not supported"

REFUSES = rtx.release() >= (1, 7)
"""Releases before build float32 products for Turing."""

only_where_it_refuses = pytest.mark.skipif(
    not REFUSES, reason="this release builds float32 products for Turing"
)


@only_where_it_refuses
@pytest.mark.parametrize("model", [
    graph([helper.make_node("MatMul", ["x", "x"], ["y"], "n")], [("x", FLOAT, ["N", 4, 4])],
          [("y", FLOAT, ["N", 4, 4])]),
    node("Gemm", {"w": values(8, 3)}, ["N", 8], ["N", 3]),
    node("MatMul", {"w": values(4, 3, 6)}, ["N", 4, 5, 3], ["N", 4, 5, 6]),
], ids=["no constant", "Gemm", "a matrix for each channel"])
def test_what_we_refuse_it_refuses_for_that_reason(model):
    with pytest.raises(ModelError):
        for_turing(model)
    assert REASON in rtx.refusal(model, "SM75")


def test_every_plan_in_every_precision():
    pytest.importorskip("torch")
    from plan_graphs import EVERY, plan_graph

    for plan, precision in EVERY:
        model = plan_graph(plan, precision)
        said = rtx.refusal(model, "SM75")
        if precision == "half" or not REFUSES:
            assert said is None, (plan, said)
        else:
            assert REASON in said, (plan, precision, said)
        for most in (1, 16) if plan == "none" else (16,):
            assert rtx.refusal(for_turing(model), "SM75", most) is None, (plan, precision, most)


@only_where_it_refuses
def test_the_reason_is_the_product_in_float32_alone():
    """Not its size, nor anything else of the graph."""
    single, half = (
        node("MatMul", {"w": values(8, 3, dtype=dtype)}, ["N", 4, 8], ["N", 4, 3], kind)
        for dtype, kind in ((np.float32, FLOAT), (np.float16, HALF))
    )
    assert REASON in rtx.refusal(single, "SM75")
    assert rtx.refusal(single, "SM86") is None
    assert rtx.refusal(half, "SM75") is None
