"""The roofline of an ONNX graph against a hand computation."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ssn_export.targets import rooflines
from ssn_export.targets.target import Target
from ssn_export.work import estimate
from ssn_export.work.cards import Card
from ssn_export.work.stages import Graph

CARD = Card(bandwidth=1e9, half=2e12, float32=1e12, l2=None)


def graph():
    """A 3 x 3 convolution of 2 to 4 channels on 8 x 8, its Relu, and a product of 4 rows with 16 x 16."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["image", "taps"], ["features"], "backbone/Conv_0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"], "backbone/Relu_1"),
        helper.make_node("Reshape", ["active", "shape"], ["rows"], "heads/Reshape_2"),
        helper.make_node("MatMul", ["rows", "weights"], ["map"], "heads/MatMul_3"),
    ]
    weights = [
        numpy_helper.from_array(rng.random((4, 2, 3, 3), np.float32), "taps"),
        numpy_helper.from_array(np.array([-1, 16, 16], np.int64), "shape"),
        numpy_helper.from_array(rng.random((16, 16), np.float32), "weights"),
    ]
    sides = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 2, 8, 8])], [
        helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", 16, 16]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "two", *sides, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.checker.check_model(model)
    return model


CONV = 8 * 8 * 4 * (2 * 3 * 3), 2 * 64 + 4 * 2 * 9 + 4 * 64
PRODUCT = 16 * 16 * 16, 3 * 16 * 16


@pytest.mark.parametrize("precision, width, peak", [("float16", 2, 2e12), ("float32", 4, 1e12)])
@pytest.mark.parametrize("bandwidth", [1e9, 1e15])
def test_by_hand(precision, width, peak, bandwidth):
    """The slower of both, product by product: from memory, and where memory is free by arithmetic."""
    card = CARD._replace(bandwidth=bandwidth)
    expected = sum(
        max(2 * macs / peak, width * elements / bandwidth) for macs, elements in (CONV, PRODUCT)
    )
    ours = Graph(graph())
    assert estimate.roofline_ms(ours, card, precision) == pytest.approx(1e3 * expected, rel=1e-12)
    assert estimate.gmac(ours) == pytest.approx((CONV[0] + PRODUCT[0]) / 1e9)
    assert estimate.megabytes(ours, precision) == pytest.approx(width * (CONV[1] + PRODUCT[1]) / 1e6)


def test_an_orins_bounds_are_by_its_own_figures():
    """102.4 GB/s: the graph is so small that all of it is traffic."""
    found = rooflines.judge(Target("orin", "Orin-NX-16GB"), graph(), "two", "float16")
    assert found.kernels is None and set(found.bounds) == {"Orin-NX-16GB"}
    first, second = found.bounds["Orin-NX-16GB"]
    assert second is None
    assert first == pytest.approx(1e3 * 2 * (CONV[1] + PRODUCT[1]) / 102.4e9, rel=1e-12)
