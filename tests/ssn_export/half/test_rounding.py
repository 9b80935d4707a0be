"""Rounding by the inputs' moments: what is lost, against the nearest values and closed forms."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from random_model import photos, random_model

from ssn_export.graph import tracing
from ssn_export.graph.deployed import Deployed
from ssn_export.half import rounding
from ssn_train.network.design import PAPER

SIZE = (64, 96)


def test_what_is_lost_on_inputs_with_a_mean_is_far_less_than_with_the_nearest_values():
    """Inputs like those behind an activation: means of many deviations. Errors of whole products."""
    rng = np.random.default_rng(0)
    x = 3 + 0.1 * rng.normal(size=(1, 40, 5000)) * rng.uniform(0.1, 1, (1, 40, 1))
    x = np.concatenate([np.ones((1, 1, 5000)), x], axis=1)
    weight = rng.normal(size=(1, 64, 41))
    found = rounding.rounded(weight, x @ x.transpose(0, 2, 1) / x.shape[2])
    assert np.array_equal(found, found.astype(np.float16))
    nearest = weight.astype(np.float16).astype(np.float64)
    lost, lost_by_nearest = (np.sqrt(np.mean(((w - weight) @ x) ** 2)) for w in (found, nearest))
    assert lost < 0.1 * lost_by_nearest
    assert np.abs(found - weight).max() < 4 * 2.0**-11 * np.abs(weight).max()


def test_uncorrelated_inputs_of_mean_zero_have_their_nearest_values():
    weight = np.random.default_rng(0).normal(size=(2, 5, 6))
    found = rounding.rounded(weight, np.stack([np.diag(np.arange(1.0, 7))] * 2))
    assert np.array_equal(found, weight.astype(np.float16))


def test_values_that_half_holds_stay():
    x = np.random.default_rng(0).normal(2, 1, (1, 6, 50))
    weight = np.random.default_rng(1).normal(size=(1, 3, 6)).astype(np.float16).astype(np.float64)
    assert np.array_equal(rounding.rounded(weight, x @ x.transpose(0, 2, 1)), weight)


def test_an_input_that_is_always_zero_is_no_obstacle():
    moments = np.zeros((1, 3, 3))
    moments[0, 0, 0] = 1
    assert np.isfinite(rounding.rounded(np.full((1, 2, 3), 0.1), moments)).all()
    assert np.isfinite(rounding.rounded(np.full((1, 2, 3), 0.1), np.zeros((1, 3, 3)))).all()


@pytest.fixture(scope="module")
def graph():
    model, backbone = random_model("efficientnet_lite0", SIZE, PAPER)
    return tracing.trace(Deployed(model, backbone, "gather"), SIZE)


def test_inputs_of_convolutions_are_torchs(graph):
    """Strides, lopsided padding and groups, against torch's own unfolding."""
    images = photos(1, SIZE)
    found = [p for p in rounding.products(graph) if p.node.op_type == "Conv"][:4]
    values = next(rounding.activations(graph, [p.source for p in found], images))
    assert {p.weight.shape[0] for p in found} == {1, 32, 96} or {p.weight.shape[0] for p in found} == {1, 32}
    for product in found:
        given = {a.name: onnx.helper.get_attribute_value(a) for a in product.node.attribute}
        top, left, bottom, right = given["pads"]
        x = torch.from_numpy(values[product.source]).double()
        x = torch.nn.functional.pad(x, (left, right, top, bottom))
        unfolded = torch.nn.functional.unfold(x, product.shape[2:], stride=given["strides"])[0]
        unfolded = unfolded.reshape(len(product.weight), -1, unfolded.shape[-1]).numpy()
        ours = rounding._inputs(product, values[product.source])
        assert np.array_equal(ours[:, 0], np.ones_like(ours[:, 0]))
        high, wide = (
            (n + before + after - k) // s + 1 for n, before, after, k, s in zip(
                values[product.source].shape[2:], (top, left), (bottom, right), product.shape[2:],
                given["strides"])
        )
        step = rounding._step(int(np.sqrt(high * wide)), int(np.sqrt(rounding.POSITIONS)))
        every = unfolded.reshape(*unfolded.shape[:2], high, wide)[:, :, ::step, ::step]
        assert np.array_equal(ours[:, 1:], every.reshape(*unfolded.shape[:2], -1))


def test_only_products_change_and_kept_ones_do_not(graph):
    values = rounding.chosen(graph, photos(2, SIZE))
    matrices = {w.name for w in graph.graph.initializer if len(w.dims) == 2}
    assert set(values) == {
        n.name for n in graph.graph.node
        if n.op_type == "Conv" or (n.op_type == "MatMul" and n.input[1] in matrices)
    }
    kept = next(iter(values))
    found = rounding.with_values(graph, values, {kept})
    onnx.checker.check_model(found, full_check=True)
    weights = {w.name: numpy_helper.to_array(w) for w in found.graph.initializer}
    before = {w.name: numpy_helper.to_array(w) for w in graph.graph.initializer}
    for one, other in zip(graph.graph.node, found.graph.node):
        assert one.op_type == other.op_type and one.output == other.output
        for place in values.get(one.name, {}):
            exact, ours = before[one.input[place]], weights[other.input[place]]
            if one.name == kept:
                assert np.array_equal(exact, ours)
            else:
                assert np.array_equal(ours, ours.astype(np.float16))
                assert np.abs(ours - exact).max() <= 0.1 * np.abs(exact).max()
