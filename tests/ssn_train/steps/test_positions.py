"""Steps on single positions against the model's own modules, and against what the photos hold."""

import copy

import numpy as np
import pytest
import torch
from designs import builts
from exact_model import random_model, step_inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_train.network import losses
from ssn_train.network.design import Design
from ssn_train.network.model import SuperSimpleNet
from ssn_train.steps import positions, training_step
from ssn_train.steps.positions import Batch, Reader, Sampler

SIGMAS = 6
"""Of a statistic's own standard error: beyond them less than once in 10^8 draws."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- Reading -------------------------------------------------------------------------------------


def levels_and_pooled(built, photos, seed):
    """Raw float32 levels, channels last, their statistics, and the features [N, C, H, W] that the model's
    modules make of them in float64."""
    rng = np.random.default_rng(seed)
    levels = [
        (2 + 3 * rng.standard_normal((photos, *size, count))).astype(np.float32)
        for count, size in zip(built.channels, built.sizes)
    ]
    model = SuperSimpleNet(None, built.channels, (32, 32), shape=built.shape).double()
    channels = sum(built.channels)
    mean, std = rng.normal(2, 1, channels), rng.uniform(1, 4, channels)
    model.set_statistics(torch.from_numpy(mean), torch.from_numpy(std))
    pooled = model.pool(model.upscale([torch.from_numpy(x).double().permute(0, 3, 1, 2) for x in levels]))
    return levels, (model.feature_shift.float(), model.feature_scale.float()), pooled


@settings(max_examples=40, deadline=None)
@given(builts(), st.integers(0, 2**31))
def test_a_position_is_read_as_the_model_makes_it(built, seed):
    """Every position of every photo: levels of any size, maps coarser, finer and no multiple of them."""
    levels, statistics, pooled = levels_and_pooled(built, 3, seed)
    photos, channels, height, width = pooled.shape
    reader = Reader(levels, (height, width), *statistics)
    photo, place = torch.meshgrid(torch.arange(photos), torch.arange(height * width), indexing="ij")
    found = reader.read(photo.flatten(), place.flatten())
    expected = pooled.permute(0, 2, 3, 1).reshape(-1, channels)
    # Sums of at most 16 products of magnitude 20, each rounded to 2^-24.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=16 * 20 * 2**-23)


@pytest.mark.parametrize("grid", [(4, 5), (7, 9), (8, 6), (16, 12), (21, 13)])
@pytest.mark.parametrize("count", [2, 3])
def test_positions_in_any_order_and_more_than_once(grid, count):
    """Coarser than a level of 8x6, equal, twice as fine, no multiple."""
    from designs import Built

    sizes, channels = [(8, 6), (4, 3), (2, 2)][:count], (3, 4, 5)[:count]
    built = Built(channels, tuple(sizes), Design(("a", "b", "c")[:count], grid))
    levels, statistics, pooled = levels_and_pooled(built, 4, 1)
    photos = torch.randint(4, (200,), generator=generator())
    places = torch.randint(grid[0] * grid[1], (200,), generator=generator(1))
    found = Reader(levels, grid, *statistics).read(photos, places)
    expected = pooled.flatten(2)[photos, :, places]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=16 * 20 * 2**-23)


# --- Drawing -------------------------------------------------------------------------------------


class Names:
    """In place of a reader: a position's features are its photo and place."""

    def __init__(self, map_hw):
        self.map_hw = map_hw

    def read(self, photos, places):
        assert photos.dtype == places.dtype == torch.int64
        return torch.stack([photos, places], dim=1).double()


def sampler(normals, masks, segmented, batch=positions.BATCH, map_hw=(5, 7)):
    masks = torch.as_tensor(np.asarray(masks, np.uint8).reshape(-1, 1, *map_hw))
    return Sampler(Names(map_hw), normals, masks, torch.as_tensor(segmented, dtype=torch.bool), 0.3, batch)


def no_masks(count=0):
    return np.zeros((count, 5, 7))


def test_without_defects_half_is_synthetic_on_good_photos():
    drawn = sampler(4, no_masks(), []).draw(generator())
    photos, places = drawn.features.long().T
    assert len(drawn.noise) == positions.BATCH // 2 == int(drawn.target.sum())
    assert drawn.target[: len(drawn.noise)].all() and not drawn.target[len(drawn.noise) :].any()
    assert set(photos.tolist()) == set(range(4)) and set(places.tolist()) == set(range(35))


def test_with_masks_it_is_thirds():
    masks = no_masks(3)
    masks[0, 1:3, 2:4] = masks[2, 4, 6] = 1
    drawn = sampler(4, masks, [True, True, True]).draw(generator())
    photos, places = drawn.features.long().T
    third = positions.BATCH // 3
    assert len(drawn.noise) == third
    assert (photos[:third] < 4).all() and drawn.target[:third].all()  # noise on good photos alone
    assert (photos[-third:] >= 4).all() and drawn.target[-third:].all()
    normal = slice(third, -third)
    seen = photos[normal] >= 4
    assert len(seen) == positions.BATCH - 2 * third and int(seen.sum()) == len(seen) // 2
    assert not drawn.target[normal][~seen].any()
    bad = photos >= 4
    expected = torch.from_numpy(masks).flatten(1)[photos[bad] - 4, places[bad]]
    torch.testing.assert_close(drawn.target[bad].double(), expected)  # what the mask says, each of them
    assert set(photos[-third:].tolist()) == {4, 6}  # a mask without a pixel has no defective position
    assert 5 in photos[normal]  # but its photo is a photo with a known truth


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 2**31))
def test_what_is_drawn_for_any_masks(data, seed):
    """Photos without a mask are never read, noise is on good photos, targets are the masks'."""
    normals, defects = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 5))
    rng = np.random.default_rng(seed)
    segmented = rng.random(defects) < data.draw(st.sampled_from([0, 0.5, 1]))
    masks = rng.random((defects, 5, 7)) < data.draw(st.sampled_from([0, 0.03, 0.5, 1]))
    masks = masks & segmented[:, None, None]
    batch = data.draw(st.sampled_from([2, 7, 64, 301]))
    synthetic = data.draw(st.booleans())
    drawn = sampler(normals, masks, segmented, batch).draw(generator(seed), synthetic)
    photos, places = drawn.features.long().T
    kinds = 1 + synthetic + bool(masks.any())
    each, noisy = batch // kinds, len(drawn.noise)
    assert len(photos) == len(drawn.target) == batch and noisy == (each if synthetic else 0)
    assert drawn.noise.shape == (noisy, 2)
    assert (photos[:noisy] < normals).all() and drawn.target[:noisy].all()
    bad = photos >= normals
    assert segmented[photos[bad] - normals].all()
    clean = batch - (kinds - 1) * each
    real = each if masks.any() else 0
    assert int(bad.sum()) == real + (clean // 2 if segmented.any() else 0)
    expected = torch.zeros(batch)
    expected[:noisy] = 1
    expected[bad] = torch.from_numpy(masks.reshape(defects, 35))[photos[bad] - normals, places[bad]].float()
    torch.testing.assert_close(drawn.target, expected)
    assert drawn.target[batch - real :].all()


def test_a_batch_is_the_generators():
    masks = no_masks(2)
    masks[0, 2, 2] = 1
    ours = sampler(3, masks, [True, False])
    one, same, other = (ours.draw(generator(seed)) for seed in (5, 5, 6))
    for x, y in zip(one, same):
        torch.testing.assert_close(x, y, rtol=0, atol=0)
    assert not torch.equal(one.features, other.features) and not torch.equal(one.noise, other.noise)


def test_photos_and_places_are_equally_likely():
    """Counts of 40 batches: binomial, so that their standard error is known."""
    ours = sampler(4, no_masks(), [])
    drawn = torch.cat([ours.draw(generator(seed)).features for seed in range(40)]).long()
    for column, kinds in ((drawn[:, 0], 4), (drawn[:, 1], 35), (drawn[:, 0] * 35 + drawn[:, 1], 140)):
        counts, chance = torch.bincount(column, minlength=kinds), 1 / kinds
        error = (len(drawn) * chance * (1 - chance)) ** 0.5
        assert (counts - len(drawn) * chance).abs().max() < SIGMAS * error


def test_noise_has_its_deviation():
    noise = torch.cat([sampler(4, no_masks(), []).draw(generator(seed)).noise for seed in range(20)])
    count = noise.numel()
    assert abs(float(noise.mean())) < SIGMAS * 0.3 / count**0.5
    assert abs(float(noise.var()) / 0.09 - 1) < SIGMAS * (2 / count) ** 0.5


# --- The segmentation head -----------------------------------------------------------------------

DESIGNS = [
    Design(("a", "b"), seg_width=16, cls_width=0, adaptor=False),
    Design(("a", "b"), seg_width=9, cls_width=0),
    Design(("a", "b", "c"), grid=(7, 5), seg_width=7, cls_width=4, cls_kernel=3, adaptor=False),
]


def training_model(shape, seed=0, variant="icpr"):
    model = random_model((3, 4, 2)[: len(shape.levels)], (32, 48), seed, variant, shape).train()
    if not shape.adaptor:  # random_model moved it
        with torch.no_grad():
            projection = model.feature_adaptor.projection
            projection.weight.copy_(torch.eye(sum(model.channels))[:, :, None, None])
            projection.bias.zero_()
    return model


def random_batch(channels, count=60, noisy=20, seed=0):
    def random(*size):
        return torch.randn(*size, generator=generator(seed), dtype=torch.float64)

    target = (random(count) > 0.5).double()
    target[:noisy] = 1
    return Batch(random(count, channels), 0.3 * random(noisy, channels), target)


def as_maps(batch, height, width):
    """The batch's positions as one image's: features, noise and mask [1, ., height, width]."""
    noise = torch.zeros_like(batch.features)
    noise[: len(batch.noise)] = batch.noise
    return [x.T.reshape(1, -1, height, width) for x in (batch.features, noise, batch.target[:, None])]


@pytest.mark.parametrize("shape", DESIGNS)
@pytest.mark.parametrize("noisy", [0, 20, 60])
def test_loss_gradients_and_statistics_are_the_modules(shape, noisy):
    """In float64 and training mode: the adaptor and ``discriminator.seg`` as modules, on maps."""
    model = training_model(shape)
    modules = copy.deepcopy(model)
    batch = random_batch(sum(model.channels), noisy=noisy)
    features, noise, mask = as_maps(batch, 6, 10)
    seg = modules.discriminator.seg(modules.feature_adaptor(features) + noise)
    expected = losses.loss(seg, mask, seg.new_zeros(1), seg.new_zeros(1))
    found = positions.loss(model, batch)
    for name in ("l1_normal", "l1_anomalous", "focal_seg"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-12, atol=1e-12)
    assert float(found.focal_cls) == 0
    found.total.backward()
    (expected.total - expected.focal_cls).backward()
    learning = 0
    for (name, ours), theirs in zip(model.named_parameters(), modules.parameters()):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            learning += 1
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12, msg=name)
    assert learning == 5 + 2 * shape.adaptor
    for (name, ours), theirs in zip(model.named_buffers(), modules.buffers()):
        if "running" in name:
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12, msg=name)


def test_the_loss_does_not_know_where_a_position_is():
    model = training_model(DESIGNS[0])
    batch = random_batch(sum(model.channels), noisy=0)
    order = torch.randperm(len(batch.features), generator=generator(3))
    mixed = Batch(batch.features[order], batch.noise, batch.target[order])
    torch.testing.assert_close(positions.loss(model, batch).total, positions.loss(model, mixed).total)


# --- BatchNorm's statistics ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", DESIGNS)
def test_settled_statistics_are_the_linear_layers_of_the_batches(shape):
    """Exactly, whatever was drawn: the means of W m + b and of diag(W S W^T) over the batches' own means m
    and covariances S."""
    model = training_model(shape)
    batches = [random_batch(sum(model.channels), noisy=20, seed=seed) for seed in range(7)]
    before = copy.deepcopy(model.state_dict())
    positions.settle(model, batches)
    adaptor, (conv, norm, _) = model.feature_adaptor.projection, model.discriminator.seg_layers
    weight, bias = conv.weight[:, :, 0, 0].detach().numpy(), conv.bias.detach().numpy()
    means, variances = [], []
    for batch in batches:
        seen = batch.features.numpy() @ adaptor.weight[:, :, 0, 0].detach().numpy().T
        seen += adaptor.bias.detach().numpy()
        seen[:20] += batch.noise.numpy()
        means.append(weight @ seen.mean(0) + bias)
        variances.append(np.diag(weight @ np.cov(seen.T) @ weight.T))
    np.testing.assert_allclose(norm.running_mean, np.mean(means, 0), rtol=1e-11)
    np.testing.assert_allclose(norm.running_var, np.mean(variances, 0), rtol=1e-11)
    for name, value in model.state_dict().items():
        assert "seg.1.running" in name or torch.equal(value, before[name]), name


def test_settled_statistics_are_the_photos():
    """Of what can be drawn: every position of every good photo equally often, half of them with noise. The
    tolerance is the estimates' own standard error, by the hidden channels' fourth moments."""
    rng, std = np.random.default_rng(0), 0.4
    levels = [rng.gamma(2, 1, (6, *size)).astype(np.float32) for size in ((8, 6, 3), (4, 3, 5))]
    shape = Design(("a", "b"), (9, 7), seg_width=12, cls_width=0, adaptor=False)
    torch.manual_seed(0)
    model = SuperSimpleNet(None, (3, 5), (32, 32), shape=shape).train()
    model.set_statistics(torch.full((8,), 2.0), torch.full((8,), 1.4))
    reader = Reader(levels, shape.grid, model.feature_shift, model.feature_scale)
    ours = Sampler(reader, 6, torch.zeros(0, 1, 9, 7), torch.zeros(0, dtype=torch.bool), std)
    positions.settle(model, (ours.draw(generator(seed)) for seed in range(positions.SETTLING)))

    pooled = model.pool(model.upscale([torch.from_numpy(x).permute(0, 3, 1, 2) for x in levels]))
    conv, norm, _ = model.discriminator.seg_layers
    weight = conv.weight[:, :, 0, 0].detach().double().numpy()
    seen = pooled.double().permute(0, 2, 3, 1).reshape(-1, 8).numpy()
    covariance = np.cov(seen.T, bias=True) + 0.5 * std**2 * np.eye(8)
    mean = weight @ seen.mean(0) + conv.bias.detach().double().numpy()
    variance = np.diag(weight @ covariance @ weight.T)
    central = (seen - seen.mean(0)) @ weight.T
    noise = std**2 * (weight**2).sum(1)  # of the half that has it
    second, fourth = (central**2).mean(0), (central**4).mean(0)
    fourth = fourth + 0.5 * (6 * second * noise + 3 * noise**2)
    count = positions.SETTLING * positions.BATCH
    assert np.all(np.abs(norm.running_mean.numpy() - mean) < SIGMAS * np.sqrt(variance / count))
    error = np.sqrt((fourth - variance**2) / count)
    assert np.all(error < 0.02 * variance)  # the tolerance tells something
    assert np.all(np.abs(norm.running_var.numpy() - variance) < SIGMAS * error)


# --- The classification head ---------------------------------------------------------------------

CLASSIFIERS = [
    Design(("a", "b"), seg_width=16, cls_width=5),
    Design(("a", "b", "c"), grid=(7, 5), seg_width=7, cls_width=4, cls_kernel=3, adaptor=False),
]


@pytest.mark.parametrize("supervised", [False, True])
@pytest.mark.parametrize("variant", ["icpr", "jims"])
@pytest.mark.parametrize("shape", CLASSIFIERS)
def test_classification_is_the_published_steps_and_teaches_its_head_alone(shape, variant, supervised):
    """The focal term and its gradients of the published step, whose segmentation head is in evaluation mode;
    nothing else learns, and the segmentation head's statistics stay."""
    model = training_model(shape, variant=variant)
    published = copy.deepcopy(model)
    published.discriminator.seg.eval()
    sizes = [(4, 6), (2, 3), (2, 3)][: len(shape.levels)]
    features, draws, mask, label = step_inputs(3, model, sizes, 0, supervised)
    if not supervised:
        mask = torch.zeros(3, 1, *draws.perlin_mask.shape[2:], dtype=torch.float64)
        label = mask.new_zeros(3)
    before = copy.deepcopy(dict(model.discriminator.seg.named_buffers()))
    found = positions.classification_loss(model, features, draws, mask, label)
    expected = training_step.batch_loss(published, features, draws, mask, label, plain=True).focal_cls
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    found.backward()
    expected.backward()
    head = {"discriminator.dec_head", "discriminator.fc_score"}
    theirs = dict(published.named_parameters())
    learnt = set()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            learnt.add(name.rsplit(".", 2)[0] if "dec_head" in name else name.rsplit(".", 1)[0])
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-10, atol=1e-13, msg=name)
    assert learnt == head
    assert all(module.training for module in model.discriminator.modules())
    for name, value in model.discriminator.seg.named_buffers():
        assert torch.equal(value, before[name]), name
    ours, published_norm = model.discriminator.cls_layers[1], published.discriminator.cls_layers[1]
    torch.testing.assert_close(ours.running_mean, published_norm.running_mean)
    torch.testing.assert_close(ours.running_var, published_norm.running_var)
