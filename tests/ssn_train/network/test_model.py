"""The network, against the independent float64 reference, on random inputs."""

import numpy as np
import reference
import torch
from designs import builts
from exact_model import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_train.network.model import VARIANTS, SuperSimpleNet
from ssn_train.steps import training_step


@given(
    batch=st.integers(1, 2),
    built=builts(),
    image_size=st.tuples(st.integers(16, 88), st.integers(16, 88)),
    seed=st.integers(0, 2**20),
    variant=st.sampled_from(VARIANTS),
)
@settings(max_examples=30, deadline=None)
def test_forward_matches_reference(batch, built, image_size, seed, variant):
    channels, sizes, shape = built
    model = random_model(channels, image_size, seed, variant, shape)
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(batch, c, *hw)) for c, hw in zip(channels, sizes)]
    with torch.no_grad():
        final_map, score = model.predict([torch.from_numpy(a) for a in arrays])
    p = {k: v.numpy() for k, v in model.state_dict().items()}
    seg, _, logit = reference.heads(arrays, p, variant, shape.map_size(sizes[0]))
    np.testing.assert_allclose(final_map, reference.anomaly_map(seg, image_size), atol=1e-10)
    np.testing.assert_allclose(score, 1 / (1 + np.exp(-logit)), atol=1e-10)


def test_standardised_features_are_an_exact_diagonal():
    model = random_model((2, 3), (48, 64))
    features = [torch.randn(1, 2, 6, 8).double(), torch.randn(1, 3, 3, 4).double()]
    mean, std = torch.randn(5).double(), torch.rand(5).double() + 0.5
    plain = model.upscale(
        [(f - m[:, None, None]) / s[:, None, None]
         for f, m, s in zip(features, mean.split((2, 3)), std.split((2, 3)))]
    )
    model.set_statistics(mean, std)
    torch.testing.assert_close(model.upscale(features), plain)


def test_the_model_leaves_its_backbones_weights_alone():
    backbone = torch.nn.Conv2d(3, 2, 1)
    before = backbone.weight.clone()
    SuperSimpleNet(backbone, (1, 1), (32, 32))
    assert torch.equal(backbone.weight, before)


def test_backbone_stays_frozen_and_in_evaluation_mode():
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
    model = SuperSimpleNet(backbone, (1, 1), (32, 32)).train()
    assert not backbone.training and model.discriminator.training
    assert not any(p.requires_grad for p in backbone.parameters())
    trained = {id(p) for g in training_step.make_optimizer(model).param_groups for p in g["params"]}
    assert trained.isdisjoint(id(p) for p in backbone.parameters())
    assert len(trained) == len([p for p in model.parameters() if p.requires_grad])
