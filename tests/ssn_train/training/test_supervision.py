"""Labelled defects: targets, batches, images without a mask, and what the ablations switch."""


import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge.errors import InputError
from ssn_edge.frames.image_files import write_image
from ssn_train.data.datasets import Sample
from ssn_train.network import losses
from ssn_train.network.design import Design
from ssn_train.network.model import SuperSimpleNet
from ssn_train.options import recipe
from ssn_train.options.recipe import Recipe
from ssn_train.options.settings import Settings
from ssn_train.steps import training_step
from ssn_train.training import supervision
from ssn_train.training.photo_loader import Photo, PhotoLoader


def test_shrunk_masks_are_the_published_ones(golden):
    z = golden("train_steps")
    for step in range(len(z["sup/loss"])):
        masks = z[f"step{step}/in/gt_mask_image_res"]
        masks = masks.reshape(-1, *masks.shape[-2:])
        expected = z[f"sup/step{step}/mask_feature_res"]
        for mask, small in zip(masks, expected):
            ours = supervision.shrink(mask > 0, small.shape[-2:])
            np.testing.assert_array_equal(ours.numpy()[0], small.reshape(small.shape[-2:]) > 0)


@pytest.fixture
def samples(tmp_path):
    """Three good photos, a defect with a mask in the upper left, one without."""
    rng = np.random.default_rng(0)
    for i in range(5):
        write_image(tmp_path / f"{i}.png", rng.integers(0, 255, (16, 24, 3), dtype=np.uint8))
    mask = np.zeros((16, 24), np.uint8)
    mask[:8, :8] = 255
    write_image(tmp_path / "mask.png", mask)
    good = [Sample(tmp_path / f"{i}.png") for i in range(3)]
    return [*good, Sample(tmp_path / "3.png", 1, tmp_path / "mask.png"), Sample(tmp_path / "4.png", 1)]


def test_targets_follow_their_photos_orientation(samples):

    data = supervision.training_set(samples)
    assert (data.normals, data.defects) == (3, 8)
    store = supervision.TargetStore(data, (16, 24), (4, 6))
    index = np.arange(11)
    mask, label, segmented = store[index]
    assert label.tolist() == [0] * 3 + [1] * 8
    assert segmented.tolist() == [True] * 3 + [True, False] * 4
    first = torch.zeros(4, 6)
    first[:2, :2] = 1
    for row, axes in zip(range(3, 11, 2), ((), (0,), (1,), (0, 1))):  # none, v, h, 180 degrees
        torch.testing.assert_close(mask[row, 0], first.flip(axes) if axes else first)
        assert mask[row + 1].sum() == 0
    loader = PhotoLoader(None, (16, 24))
    upright, turned = loader.image(Photo(samples[3].path)), loader.image(data.photos[9])
    np.testing.assert_array_equal(np.rot90(upright, 2), turned)


@given(
    normals=st.integers(2, 40), defects=st.integers(1, 30), batch=st.integers(2, 12),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_balanced_batches(normals, defects, batch, seed):
    order = supervision.BalancedOrder(seed, normals, defects, batch)
    steps = range(3 * order.per_epoch)
    batches = [order.indices(step) for step in steps]
    half = min(batch // 2, defects)
    for index in batches:
        assert len(index) == order.batch and (index >= normals).sum() == half
        assert index.min() >= 0 and index.max() < normals + defects
    for epoch in range(3):
        part = np.concatenate(batches[epoch * order.per_epoch : (epoch + 1) * order.per_epoch])
        bad = part[part >= normals]
        assert len(set(bad)) == len(bad) == order.per_epoch * half  # each defect once
    again = supervision.BalancedOrder(seed, normals, defects, batch)
    for step in reversed(steps):  # resumed anywhere: the same batches
        np.testing.assert_array_equal(again.indices(step), batches[step])


def test_good_photos_come_round_evenly():
    """Inverse-frequency sampling against drawing at random: the counts spread less."""
    order = supervision.BalancedOrder(0, normals=60, defects=20, batch=10)
    counts = np.zeros(60)
    for step in range(order.per_epoch * 30):
        index = order.indices(step)
        np.add.at(counts, index[index < 60], 1)
    assert counts.sum() == 30 * 20 and counts.mean() == 10
    assert counts.std() < 1.0 < np.sqrt(10 * (1 - 20 / 60))  # the latter: without the weights


def test_sampling_chances_are_the_published_formula():
    shown = np.array([0, 1, 1, 3])
    rarity = np.array([1, 2 / 3, 2 / 3, 0])
    weight = (rarity - 2 / 3 + 1) ** (4 * np.log(4))
    np.testing.assert_allclose(supervision.inverse_frequency(shown), weight / weight.sum())
    np.testing.assert_allclose(supervision.inverse_frequency(np.zeros(5)), np.full(5, 0.2))


def reference_loss(seg, mask, score, label, known):
    """Equations 1 to 4, image by image, pixel by pixel, in float64; ``known`` images for the map."""
    def focal(logit, target):
        p = 1 / (1 + np.exp(-logit))
        p_true = p if target else 1 - p
        return -np.log(p_true) * (1 - p_true) ** 4

    good, bad, seg_focal = [], [], []
    for image, truth in zip(seg[known], mask[known]):
        for logit, target in zip(image.ravel(), truth.ravel()):
            (bad if target else good).append(max(0, 0.5 - logit if target else 0.5 + logit))
            seg_focal.append(focal(logit, target))
    means = [np.mean(part) if part else 0.0 for part in (good, bad, seg_focal)]
    return [*means, np.mean([focal(x, y) for x, y in zip(score, label)])]


@pytest.mark.parametrize("known", [[True] * 4, [True, False, True, True], [False] * 4])
def test_images_without_a_mask_are_left_out_of_the_maps_loss(known):
    rng = np.random.default_rng(1)
    seg, score = rng.normal(size=(4, 1, 3, 5)), rng.normal(size=4)
    mask = (rng.random((4, 1, 3, 5)) > 0.7).astype(float)
    label = np.array([0.0, 1, 1, 0])
    known = np.array(known)
    t = [torch.from_numpy(a).requires_grad_(i in (0, 2)) for i, a in enumerate((seg, mask, score, label))]
    ours = losses.loss(*t, torch.from_numpy(known))
    np.testing.assert_allclose(
        [float(x.detach()) for x in ours], reference_loss(seg, mask, score, label, known), rtol=1e-9
    )
    ours.total.backward()
    gradient = t[0].grad.abs().amax(dim=(1, 2, 3))
    assert ((gradient > 0).numpy() == known).all() and (t[2].grad != 0).all()


def features(batch):
    g = torch.Generator().manual_seed(3)
    return [torch.randn(batch, 4, 8, 8, generator=g), torch.randn(batch, 8, 4, 4, generator=g)]


@pytest.mark.parametrize("name", [None, *recipe.ABLATIONS])
@pytest.mark.parametrize("supervised", [False, True])
def test_ablated_fast_step_is_the_plain_one(name, supervised):
    chosen = recipe.find(name, supervised=True)
    torch.manual_seed(0)
    stop = chosen.optimised and not supervised
    shape = Design(scale=2 if chosen.upscale else 1)
    model = SuperSimpleNet(None, (4, 8), (64, 64), stop, shape=shape).train().double()
    size = model.shape.map_size((8, 8))
    assert size == ((16, 16) if chosen.upscale else (8, 8))
    draws = training_step.draw(4, 12, size, 0.3, 0.2, training_step.step_generator(1, 0), chosen.anomalies)
    draws = training_step.Draws(*(part.double() for part in draws))
    targets = ()
    if supervised:
        mask = torch.zeros(4, 1, *size).double()
        mask[2:, :, 2:6, 2:6] = 1
        targets = (mask, torch.tensor([0.0, 0, 1, 1]), torch.tensor([True, True, True, False]))
    results = []
    for plain in (True, False):
        model.zero_grad()
        found = [x.double() for x in features(4)]
        loss = training_step.batch_loss(model, found, draws, *targets, recipe=chosen, plain=plain)
        loss.total.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results.append((torch.stack([term.detach() for term in loss]), gradients))
    (loss_a, grads_a), (loss_b, grads_b) = results
    torch.testing.assert_close(loss_a, loss_b, rtol=1e-9, atol=1e-12)
    for a, b in zip(grads_a, grads_b):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
    assert (loss_a[2] == 0) == (not chosen.optimised) and (loss_a[3] == 0) == (not chosen.cls_head)


def test_simplenet_noise_covers_the_second_copy_alone():
    draws = training_step.draw(3, 5, (4, 6), 1.0, 0.2, training_step.step_generator(0, 0), "simplenet")
    assert draws.perlin_mask[:3].sum() == 0 and draws.perlin_mask[3:].min() == 1
    assert len(draws.noise) == 3 * 4 * 6
    none = training_step.draw(3, 5, (4, 6), 1.0, 0.2, training_step.step_generator(0, 0), "none")
    assert none.perlin_mask.sum() == 0 and len(none.noise) == 0


def test_two_equal_copies_without_noise_are_one():
    """The published ``no_anom`` makes no copy: same loss and gradients."""
    torch.manual_seed(0)
    model = SuperSimpleNet(None, (4, 8), (64, 64), False).train().double()
    found = [x.double() for x in features(4)]
    mask = torch.zeros(4, 1, 16, 16).double()
    mask[2:, :, 3:9, 3:9] = 1
    label = torch.tensor([0.0, 0, 1, 1])
    draws = training_step.draw(4, 12, (16, 16), 0.3, 0.2, training_step.step_generator(0, 0), "none")
    draws = training_step.Draws(*(part.double() for part in draws))
    ours = training_step.batch_loss(model, found, draws, mask, label, recipe=Recipe(anomalies="none"))
    seg, score = model.discriminator(*model.head_inputs(found))
    single = losses.loss(seg, mask, score, label)
    torch.testing.assert_close(ours.total, single.total, rtol=1e-9, atol=0)


def test_ablation_needs_something_to_learn():
    with pytest.raises(InputError, match="no_anom: trains on real defects alone"):
        Settings("resnet18", ablation="no_anom").recipe(supervised=False)
    assert Settings("resnet18").mask_threshold(True) == 0.6
    assert Settings("resnet18").mask_threshold(False) == 0.2
    assert Settings("resnet18", perlin_threshold=0.4).mask_threshold(True) == 0.4


def test_kinds_of_supervision_are_told(samples):
    assert supervision.describe(samples[:3]) == "unsupervised"
    assert supervision.describe(samples) == "mixed supervision: 2 defects, 1 without a mask"
    assert supervision.describe(samples[:4]) == "supervised: 1 defect"
    assert supervision.describe(samples[4:]) == "weak supervision: 1 defect, 1 without a mask"
