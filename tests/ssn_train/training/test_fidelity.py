"""Fidelity on any clone: our functions against the independent float64 reference, random inputs."""

import copy

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_train.network import anomalies, losses, perlin
from ssn_train.network.model import VARIANTS, SuperSimpleNet
from ssn_train.training import training_step


def random_model(channels, image_size, seed=0, variant="icpr"):
    """A float64 model whose every parameter and statistic is away from its initial value."""
    torch.manual_seed(seed)
    model = SuperSimpleNet(None, channels, image_size, variant=variant).double().eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
        for name, value in model.named_buffers():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                value.normal_()
    return model


@given(
    batch=st.integers(1, 2),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    level2=st.tuples(st.integers(4, 11), st.integers(4, 11)),
    seed=st.integers(0, 2**20),
    variant=st.sampled_from(VARIANTS),
)
@settings(max_examples=15, deadline=None)
def test_forward_matches_reference(batch, channels, level2, seed, variant):
    image_size = tuple(8 * n for n in level2)
    level3 = tuple(-(-n // 2) for n in level2)  # ceil: 15 -> 8
    model = random_model(channels, image_size, seed, variant)
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(batch, c, *hw)) for c, hw in zip(channels, (level2, level3))]
    with torch.no_grad():
        final_map, score = model.predict([torch.from_numpy(a) for a in arrays])
    p = {k: v.numpy() for k, v in model.state_dict().items()}
    seg, _, logit = reference.heads(arrays, p, variant)
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


@given(exponents=st.tuples(st.integers(0, 4), st.integers(0, 4)), seed=st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_perlin_noise_matches_reference(exponents, seed):
    cells = tuple(2**e for e in exponents)
    angles = np.random.default_rng(seed).random((cells[0] + 1, cells[1] + 1))
    ours = perlin.perlin_noise(torch.from_numpy(angles), (16, 32))
    np.testing.assert_allclose(ours, reference.perlin(angles, (16, 32)), atol=1e-12)


@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), seed=st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_perlin_masks_of_any_size(size, seed):
    """Also under 17 pixels, where the published code fails."""
    masks = perlin.perlin_masks(3, size, 0.2, torch.Generator().manual_seed(seed))
    assert masks.shape == (3, 1, *size)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}


def test_half_of_the_masks_are_empty():
    masks = perlin.perlin_masks(400, (32, 32), 0.2, torch.Generator().manual_seed(0))
    full = masks.flatten(1).any(1).float().mean()
    assert 0.4 < full < 0.6


@pytest.mark.parametrize("overlap", [True, False])
def test_synthetic_anomalies_match_reference(overlap):
    rng = np.random.default_rng(3)
    features, noise = rng.normal(size=(3, 4, 6, 5)), rng.normal(size=(6, 4, 6, 5))
    mask = (rng.random((3, 1, 6, 5)) > 0.8).astype(float)
    mask[2] = 0
    label = np.array([1.0, 0.0, 1.0])  # the last: a defect whose mask vanished on shrinking
    drawn = (rng.random((6, 1, 6, 5)) > 0.5).astype(float)
    drawn[2], drawn[1] = 0, 0
    t = [torch.from_numpy(a) for a in (features, mask, label, noise, drawn)]
    regions = anomalies.noise_regions(t[4], t[1], overlap)
    ours = (anomalies.add_noise(t[0], t[3], regions), *anomalies.targets(t[1], t[2], regions))
    exact = reference.synthetic(features, mask, label, noise, drawn, overlap)
    for value, value64 in zip(ours, exact):
        np.testing.assert_allclose(value, value64, atol=0)
    assert ours[2][2] == 1


@given(
    bad=st.sampled_from([0.0, 0.01, 0.4, 1.0]), scale=st.floats(0.1, 8), seed=st.integers(0, 99)
)
@settings(max_examples=25, deadline=None)
def test_losses_match_reference(bad, scale, seed):
    rng = np.random.default_rng(seed)
    seg, score = scale * rng.normal(size=(2, 1, 7, 9)), scale * rng.normal(size=2)
    mask = (rng.random(seg.shape) < bad).astype(float)
    label = mask.reshape(2, -1).max(1)
    ours = losses.loss(*(torch.from_numpy(a) for a in (seg, mask, score, label)))
    np.testing.assert_allclose(
        [float(v) for v in ours], reference.losses(seg, mask, score, label), rtol=1e-9, atol=1e-12
    )


def _step_inputs(batch, channels, level2, seed, supervised):
    """float64 features, draws, and real defects (one of them without a mask left)."""
    generator = torch.Generator().manual_seed(seed)
    h, w = level2
    shapes = ((batch, channels[0], h, w), (batch, channels[1], -(-h // 2), -(-w // 2)))
    features = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    draws = training_step.draw(batch, sum(channels), (2 * h, 2 * w), 0.3, 0.2, generator)
    draws = training_step.Draws(*(d.double() for d in draws))
    mask = label = None
    if supervised:
        mask = (torch.rand(batch, 1, 2 * h, 2 * w, generator=generator) > 0.7).double()
        mask[0] = 0
        label = torch.ones(batch, dtype=torch.float64)
    return features, draws, mask, label


def _losses_and_gradients(model, inputs, plain):
    model = copy.deepcopy(model).train()
    loss = training_step.batch_loss(model, *inputs, plain=plain).total
    loss.backward()
    return loss.item(), dict(model.named_parameters()), dict(model.named_buffers())


@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    level2=st.tuples(st.integers(2, 11), st.integers(2, 11)),
    seed=st.integers(0, 2**20),
    variant=st.sampled_from(VARIANTS),
    supervised=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_fast_step_is_the_plain_step(batch, channels, level2, seed, variant, supervised):
    """Same loss, gradients and running statistics up to float64 rounding."""
    size = tuple(8 * n for n in level2)
    model = random_model(channels, size, seed, variant)
    model.discriminator.stop_grad = not supervised
    model.set_statistics(torch.randn(sum(channels)), torch.rand(sum(channels)) + 0.5)
    inputs = _step_inputs(batch, channels, level2, seed, supervised)
    plain_loss, plain_parameters, plain_buffers = _losses_and_gradients(model, inputs, True)
    fast_loss, fast_parameters, fast_buffers = _losses_and_gradients(model, inputs, False)
    assert fast_loss == pytest.approx(plain_loss, rel=1e-11)
    for name, parameter in plain_parameters.items():
        close = 1e-9 * max(1.0, float(parameter.grad.abs().max()))
        assert fast_parameters[name].grad is not None, name
        torch.testing.assert_close(
            fast_parameters[name].grad, parameter.grad, rtol=0, atol=close, msg=name
        )
    for name, buffer in plain_buffers.items():
        torch.testing.assert_close(fast_buffers[name], buffer, rtol=1e-10, atol=1e-11, msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_step_matches_reference(variant):
    """The whole loss from NumPy's definitions, for jims too, which has no golden vectors: one
    noise draw and one mask, added to what either head sees."""
    model = random_model((2, 3), (48, 40), 5, variant).train()
    features, draws, mask, label = _step_inputs(3, (2, 3), (6, 5), 5, supervised=True)
    p = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    drawn = (mask.numpy(), label.numpy(), draws.dense().numpy(), draws.perlin_mask.numpy())
    pooled, adapted = reference.pooled_and_adapted([f.numpy() for f in features], p)
    for_seg, new_mask, new_label = reference.synthetic(adapted, *drawn, False)
    for_cls = for_seg if variant == "icpr" else reference.synthetic(pooled, *drawn, False)[0]
    seg, _, score = reference.discriminate(for_seg, for_cls, p, batch_statistics=True)
    ours = training_step.batch_loss(model, features, draws, mask, label)
    expected = reference.losses(seg, new_mask, score, new_label)
    np.testing.assert_allclose([float(v.detach()) for v in ours], expected, rtol=1e-9)


def test_noise_is_drawn_where_the_masks_are():
    draws = training_step.draw(4, 3, (16, 20), 0.3, 0.2, training_step.step_generator(0, 0))
    dense, masked = draws.dense(), draws.perlin_mask.bool()
    assert len(draws.noise) == int(masked.sum()) > 0
    assert dense.shape == (8, 3, 16, 20) and not (dense * ~masked).any()
    rows = dense.permute(0, 2, 3, 1)[masked[:, 0]]
    assert torch.equal(rows, draws.noise)
    assert 0.25 < draws.noise.std() < 0.35
    again = training_step.draw(4, 3, (16, 20), 0.3, 0.2, training_step.step_generator(0, 0))
    assert all(torch.equal(a, b) for a, b in zip(draws, again))


def test_gradient_stops_at_the_map_only():
    """Unsupervised: the score's gradient reaches features, not the segmentation head."""
    for stop in (True, False):
        torch.manual_seed(0)
        model = SuperSimpleNet(None, (2, 2), (32, 32), stop_grad=stop).train()
        adapted = torch.randn(2, 4, 8, 8, requires_grad=True)
        seg_logits = model.discriminator.seg(adapted)
        model.discriminator.classify(adapted, seg_logits).sum().backward()
        assert adapted.grad.abs().sum() > 0
        reached = model.discriminator.seg[3].weight.grad is not None
        assert reached is not stop


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


def test_bfloat16_products_stay_close():
    torch.manual_seed(0)
    model = SuperSimpleNet(None, (8, 8), (64, 64)).train()
    features = [torch.randn(4, 8, 8, 8), torch.randn(4, 8, 4, 4)]
    draws = training_step.draw(4, 16, (16, 16), 0.3, 0.2, training_step.step_generator(0, 0))
    full = training_step.batch_loss(copy.deepcopy(model), features, draws).total
    low = training_step.batch_loss(model, features, draws, low_precision=True).total
    assert low.item() == pytest.approx(full.item(), rel=2e-2)
