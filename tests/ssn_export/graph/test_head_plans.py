"""Every plan computes what the trained model does, in float64."""

import numpy as np
import pytest
import torch
from designs import builts
from exact_model import random_model as heads_model
from hypothesis import given, settings
from hypothesis import strategies as st
from random_model import LEAN, photos, random_model

from ssn_edge.backends.onnxruntime_backend import inference_session
from ssn_export.gates import lint
from ssn_export.graph import float64_reference, tracing
from ssn_export.graph.deployed import PLANS, Deployed
from ssn_export.graph.folding import Shapes
from ssn_export.graph.head_plans import trained
from ssn_train.network.model import VARIANTS

NAMES = ["efficientnet_lite0", "resnet18", "resnet50", "wide_resnet50_2"]
SIZE = (75, 98)
IDS = [f"{name}-{'-'.join(shape.levels)}" for name, shape in LEAN]


def needed_by(graph, output):
    """Names of the nodes that an output is computed from."""
    wanted, found = {output}, set()
    for node in reversed(graph.graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            found.add(node.name)
    return found


def assert_exact(model, backbone, plan, images, mean=None):
    """The plan's module against the trained model, both in float64, to 1e-10."""
    truth = float64_reference.reference(model, backbone, images)
    with torch.inference_mode():
        maps, scores = Deployed(model, backbone, plan, mean).double()(torch.from_numpy(images))
    np.testing.assert_allclose(maps, truth.maps, rtol=0, atol=1e-10 * np.abs(truth.maps).max())
    np.testing.assert_allclose(scores, truth.scores, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_is_the_model_in_float64(name, plan):
    model, backbone = random_model(name, SIZE)
    assert_exact(model, backbone, plan, photos(3, SIZE))


@given(
    size=st.tuples(st.integers(96, 640), st.integers(96, 640)),
    name=st.sampled_from(["efficientnet_lite0", "resnet18", "wide_resnet50_2"]),
    variant=st.sampled_from(["icpr", "jims"]),
    plan=st.sampled_from(["full", "row-first", "gather", "gather-columns", "gather-composed"]),
    centred=st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_fusion_is_exact_for_any_size(size, name, variant, plan, centred):
    if name == "wide_resnet50_2":
        size = tuple(96 + n % 104 for n in size)  # minutes otherwise
    model, backbone = random_model(name, size)
    model.variant = variant
    mean = np.linspace(-1, 2, sum(backbone.channels)) if centred else None
    assert_exact(model, backbone, plan, photos(1, size), mean)


@given(
    built=builts(),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**20),
    variant=st.sampled_from(VARIANTS),
    plan=st.sampled_from(sorted(PLANS)),
    centred=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_fusion_is_exact_for_any_levels_map_and_heads(built, batch, seed, variant, plan, centred):
    """The heads alone, both logits, on features away from zero."""
    channels, sizes, shape = built
    model = heads_model(channels, (64, 64), seed, variant, shape)
    model.set_statistics(torch.randn(sum(channels)), torch.rand(sum(channels)) + 0.5)
    mean = np.linspace(-1, 2, sum(channels)) if centred else None
    features = [1 + torch.randn(batch, c, *hw, dtype=torch.float64) for c, hw in zip(channels, sizes)]
    module = PLANS[plan](trained(model, mean), Shapes(sizes, shape.map_size(sizes[0])))
    with torch.inference_mode():
        expected_map, expected_score = model.discriminator(*model.head_inputs(features))
        logits, score = module(features)
    largest = float(expected_map.abs().max())
    torch.testing.assert_close(logits, expected_map[:, 0], rtol=0, atol=1e-10 * largest)
    torch.testing.assert_close(score, expected_score, rtol=1e-10, atol=1e-10 * largest)


@pytest.mark.parametrize("name, shape", LEAN, ids=IDS)
def test_every_plan_of_a_lean_model_is_it_in_float64(name, shape):
    model, backbone = random_model(name, SIZE, shape)
    truth = float64_reference.reference(model, backbone, photos(3, SIZE))
    for plan in PLANS:
        module = Deployed(model, backbone, plan).double()
        with torch.inference_mode():
            maps, scores = module(torch.from_numpy(truth.images))
            alone, _ = module(torch.from_numpy(truth.images[2:]))
        tolerance = 1e-10 * np.abs(truth.maps).max()
        np.testing.assert_allclose(maps, truth.maps, rtol=0, atol=tolerance)
        np.testing.assert_allclose(alone, truth.maps[2:], rtol=0, atol=tolerance)
        np.testing.assert_allclose(scores, truth.scores, atol=1e-10)


@pytest.mark.parametrize(
    "of, plan",
    [(0, "full"), (2, "row-first"), (3, "none"), (0, "gather"), (2, "gather"), (3, "gather-columns"),
     (0, "gather-composed")]
)
def test_a_lean_models_graph_is_it_in_onnx_runtime(of, plan):
    """Through tracer and linter, one image and three at once; a head that is not there costs nothing."""
    name, shape = LEAN[of]
    model, backbone = random_model(name, SIZE, shape)
    with torch.no_grad():  # logits of a few units, where the score is no 0 or 1
        model.discriminator.seg[3].weight.mul_(1e-3)
    graph = tracing.trace(Deployed(model, backbone, plan), SIZE)
    lint.check_valid(graph)
    lint.check(graph)
    truth = float64_reference.reference(model, backbone, photos(3, SIZE))
    session = inference_session(graph.SerializeToString())
    for count in (1, 3):
        maps, scores = session.run(["anomaly_map", "score"], {"image": truth.images[:count]})
        tolerance = 2e-5 * np.abs(truth.maps).max()
        np.testing.assert_allclose(maps, truth.maps[:count], rtol=0, atol=tolerance)
        np.testing.assert_allclose(scores, truth.scores[:count], atol=2e-5)
    assert 1e-3 < truth.scores.min() and truth.scores.max() < 1 - 1e-3
    # Plan gather has the convolution alone.
    own = [node.op_type for node in graph.graph.node if node.name not in needed_by(graph, "anomaly_map")]
    assert bool({"MatMul", "Conv"} & set(own)) == bool(shape.cls_width)
    assert shape.cls_width or own == ["ReduceMax", "Sigmoid"]
