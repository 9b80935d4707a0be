"""Half precision: what is rounded, and where it is cast."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from random_model import random_model

from ssn_export.gates import lint
from ssn_export.graph import float64_reference, half_precision, tracing
from ssn_export.graph.deployed import Deployed


def test_emulated_half_rounds_what_is_stored():
    """Two layers by hand: float32 products of half values, rounded to half behind each node."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 6)).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "a"], ["y"], "first"),
        helper.make_node("MatMul", ["y", "b"], ["anomaly_map"], "second"),
        helper.make_node("ReduceMean", ["anomaly_map"], ["score"], "mean", axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "two", [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 5, 6])],
        [helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", 5, 4]),
         helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(a, "a"), numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    images = rng.integers(0, 256, (2, 5, 6), dtype=np.uint8)
    found, _ = float64_reference.run_onnx(half_precision.emulated(half_precision.to_half(model)), images)

    def rounded(x):
        return x.astype(np.float16).astype(np.float32)

    expected = rounded(rounded(images.astype(np.float32) @ rounded(a)) @ rounded(b))
    np.testing.assert_allclose(found, expected, rtol=2**-10)  # one unit where sums round apart
    assert np.mean(found == expected) > 0.9
    exact = images.astype(np.float64) @ a @ b
    assert np.abs(found - exact).max() > 10 * np.abs(found - expected).max()


def test_mixed_graph_casts_once_and_keeps_its_outputs():
    size = (48, 64)
    model, backbone = random_model("resnet18", size)
    graph = tracing.trace(Deployed(model, backbone), size)
    nodes = [node.name for node in graph.graph.node]
    mixed = half_precision.to_half(graph, frozenset(nodes[: len(nodes) // 2]))
    lint.check_valid(mixed)
    casts = [(n.input[0], n.attribute[0].i) for n in mixed.graph.node if n.op_type == "Cast"]
    assert len(casts) == len(set(casts))
    outputs = {v.name: v.type.tensor_type.elem_type for v in mixed.graph.output}
    assert outputs == {"anomaly_map": TensorProto.FLOAT, "score": TensorProto.FLOAT}
    onnx.checker.check_model(mixed, full_check=True)


def test_weights_that_rounding_makes_equal_are_stored_once():
    """As the variant jims has them: the standardisation's shift, and the centre, which is that in half."""
    shift = np.float32([0.1, 0.2, 0.3])
    centre = shift.astype(np.float16).astype(np.float32)
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in names]
        for names in (["x"], ["y", "z"])
    ]
    nodes = [
        helper.make_node("Sub", ["x", "shift"], ["y"], "a"),
        helper.make_node("Sub", ["x", "centre"], ["z"], "b"),
    ]
    weights = [numpy_helper.from_array(shift, "shift"), numpy_helper.from_array(centre, "centre")]
    model = helper.make_model(
        helper.make_graph(nodes, "two", *values, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    single, half_ = np.float32, np.float16
    for keep, stored in (((), [half_]), (("a",), [single, half_]), (("a", "b"), [single, single])):
        half = half_precision.to_half(model, frozenset(keep))
        lint.check_valid(half)
        assert lint.problems(half) == []
        assert [numpy_helper.to_array(w).dtype for w in half.graph.initializer] == stored
