"""One optimizer step, against the independent float64 reference."""

import numpy as np
import pytest
import reference
import torch
from exact_model import random_model, step_inputs

from ssn_train.network.model import VARIANTS, SuperSimpleNet
from ssn_train.steps import training_step


@pytest.mark.parametrize("variant", VARIANTS)
def test_step_matches_reference(variant):
    """The whole loss from NumPy's definitions, for jims too, which has no golden vectors: one
    noise draw and one mask, added to what either head sees."""
    model = random_model((2, 3), (48, 40), 5, variant).train()
    features, draws, mask, label = step_inputs(3, model, ((6, 5), (3, 3)), 5, supervised=True)
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
