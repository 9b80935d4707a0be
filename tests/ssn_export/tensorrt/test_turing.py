"""Float32 products as convolutions: the same numbers, and no product left."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from parser_graphs import graph

from ssn_edge.backends.onnxruntime_backend import inference_session
from ssn_edge.errors import ModelError
from ssn_export.gates import lint
from ssn_export.tensorrt.turing import for_turing

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16

FORMS = {  # shape of the values, shape of the constant, whether the constant comes first
    "rows of matrices": ((2, 3, 4), (5, 3), True),
    "rows of maps": ((2, 7, 3, 4), (5, 3), True),
    "columns of matrices": ((2, 3, 4), (4, 6), False),
    "columns of maps": ((2, 7, 3, 4), (4, 6), False),
    "vectors": ((2, 8), (8, 3), False),
    "one number a vector": ((2, 8), (8, 1), False),
    "one channel to many": ((2, 3, 4, 1), (1, 6), False),
    "a matrix for each tap": ((2, 1, 3, 4), (5, 4, 6), False),
    "one tap": ((2, 1, 3, 4), (1, 4, 6), False),
}


def integers(shape, seed=0):
    """Sums of their products are exact in float32."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float32)


def product(shape, constant, left, made, kind=FLOAT, operator="MatMul"):
    names = ["w", "x"] if left else ["x", "w"]
    return graph(
        [helper.make_node(operator, names, ["y"], "n")], [("x", kind, ["N", *shape[1:]])],
        [("y", kind, ["N", *made[1:]])], [("w", constant)],
    )


def float32_products(model):
    found = onnx.shape_inference.infer_shapes(model).graph
    halves = {
        v.name for v in (*found.value_info, *found.output) if v.type.tensor_type.elem_type == HALF
    }
    return [n.name for n in found.node if n.op_type in ("MatMul", "Gemm") and n.output[0] not in halves]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_numbers(form):
    shape, weight, left = FORMS[form]
    constant, x = integers(weight, 1), integers(shape)
    expected = np.matmul(constant, x) if left else np.matmul(x, constant)
    rewritten = for_turing(product(shape, constant, left, expected.shape))
    lint.check_valid(rewritten)
    assert lint.problems(rewritten) == []
    assert [n.op_type for n in rewritten.graph.node if n.name == "n"] == ["Conv"]
    assert not float32_products(rewritten)
    session = inference_session(rewritten.SerializeToString())
    for count in (1, 2):
        np.testing.assert_array_equal(session.run(["y"], {"x": x[:count]})[0], expected[:count])


def test_half_products_stay():
    model = product((2, 3, 4), integers((5, 3)).astype(np.float16), True, (2, 5, 4), HALF)
    assert for_turing(model) == model


def test_equal_constants_are_stored_once():
    model = graph(
        [helper.make_node("MatMul", ["w", "x"], ["m"], "a"),
         helper.make_node("MatMul", ["w", "m"], ["y"], "b")],
        [("x", FLOAT, ["N", 4, 6])], [("y", FLOAT, ["N", 4, 6])], [("w", integers((4, 4)))],
    )
    assert [list(w.dims) for w in for_turing(model).graph.initializer] == [[4, 4, 1]]


@pytest.mark.parametrize("model", [
    graph([helper.make_node("MatMul", ["x", "x"], ["y"], "n")], [("x", FLOAT, ["N", 4, 4])],
          [("y", FLOAT, ["N", 4, 4])]),
    product((2, 8), integers((8, 3)), False, (2, 3), operator="Gemm"),
    product((2, 4, 5, 3), integers((4, 3, 6)), False, (2, 4, 5, 6)),
    graph([helper.make_node("MatMul", ["w", "x"], ["y"], "n")], [("x", FLOAT, [4, 6])],
          [("y", FLOAT, [5, 6])], [("w", integers((5, 4)))]),
    product((2, 2, 2, 3, 4), integers((4, 6)), False, (2, 2, 2, 3, 6)),
], ids=["no constant", "Gemm", "a matrix for each channel", "over the batch", "five dimensions"])
def test_what_has_no_such_form_is_refused_with_its_node(model):
    lint.check_valid(model)
    with pytest.raises(ModelError, match=r"^node n: Turing .* has no float32 .*--precision float16$"):
        for_turing(model)


def test_every_plan_computes_what_it_did():
    pytest.importorskip("torch")
    from plan_graphs import EVERY, SIZE, plan_graph
    from random_model import photos

    images = photos(2, SIZE)
    for plan, precision in EVERY:
        model = plan_graph(plan, precision)
        rewritten = for_turing(model)
        lint.check_valid(rewritten)
        lint.check(rewritten)
        assert bool(float32_products(model)) == (precision != "half") and not float32_products(rewritten)
        if precision == "float32":
            before, after = (
                inference_session(m.SerializeToString()).run(["anomaly_map", "score"], {"image": images})
                for m in (model, rewritten)
            )
            for was, now in zip(before, after):
                np.testing.assert_allclose(now, was, rtol=0, atol=1e-6 * np.abs(was).max(), err_msg=plan)
            assert np.abs(before[0]).max() > 0
