"""Every plan computes what the trained model does, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_model import photos, random_model

from ssn_export.graph import float64_reference
from ssn_export.graph.deployed import Deployed
from ssn_export.graph.head_plans import PLANS

NAMES = ["efficientnet_lite0", "resnet18", "resnet50", "wide_resnet50_2"]


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
    model, backbone = random_model(name, (75, 98))
    assert_exact(model, backbone, plan, photos(3, (75, 98)))


@given(
    size=st.tuples(st.integers(96, 640), st.integers(96, 640)),
    name=st.sampled_from(["efficientnet_lite0", "resnet18", "wide_resnet50_2"]),
    variant=st.sampled_from(["icpr", "jims"]),
    plan=st.sampled_from(["full", "row-first"]),
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
