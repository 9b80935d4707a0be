"""Folding, counting and emulation against torch's own functions and closed forms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from random_model import LEAN, random_model
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ssn_export.graph import folding
from ssn_export.graph.head_plans import shapes_of, trained
from ssn_train.network.design import PAPER


@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_is_torchs(bias):
    generator = torch.Generator().manual_seed(0)
    weight, b, gamma, beta, mean, var = (
        torch.rand(*shape, generator=generator, dtype=torch.float64)
        for shape in ((5, 3, 2, 2), *[(5,)] * 5)
    )
    b = b if bias else None
    theirs = fuse_conv_bn_weights(weight, b, mean, var, 1e-3, gamma, beta)
    arrays = [None if v is None else v.numpy() for v in (weight, b, gamma, beta, mean, var)]
    for ours, value in zip(folding.batch_norm(*arrays, 1e-3), theirs):
        np.testing.assert_allclose(ours, value.detach(), rtol=1e-13)


@pytest.mark.parametrize("name, shape", [("resnet18", PAPER), *LEAN])
def test_constants_lose_at_the_border_what_padding_takes(name, shape):
    model, _ = random_model(name, (64, 80), shape)
    mean = np.linspace(-1, 2, sum(model.channels))
    weights, shapes = trained(model, mean), shapes_of(model)
    assert shapes.map == shape.map_size(shapes.levels[0]) and len(shapes.levels) == len(shape.levels)
    level_constants = [
        level.offset[:, None, None] * np.ones((1, *hw))
        for level, hw in zip(folding.levels(weights), shapes.levels)
    ]
    raw = [torch.from_numpy(c * 1.0)[None] for c in level_constants]
    pooled = model.double().pool(torch.cat(
        [F.interpolate(x * s[:, None, None], shapes.map, mode="bilinear", align_corners=True)
         for x, s in zip(raw, model.feature_scale.split(model.channels))], dim=1))
    adapted = model.feature_adaptor(pooled).detach()
    seg = torch.from_numpy(weights.seg[:, :, None, None])
    expected = F.conv2d(adapted, seg, torch.from_numpy(weights.seg_bias))[0]
    ours = folding.seg_constant(weights, folding.levels(weights), shapes)
    np.testing.assert_allclose(ours.transpose(2, 0, 1), expected, atol=1e-11)
    if shape.cls_width:
        taps = torch.from_numpy(weights.taps.transpose(2, 3, 0, 1).copy())
        bias = torch.from_numpy(weights.cls_bias)
        expected = F.conv2d(adapted, taps, bias, padding=shape.cls_kernel // 2)[0]
        ours = folding.constant_map(weights, folding.levels(weights), shapes)
        np.testing.assert_allclose(ours.transpose(2, 0, 1), expected, atol=1e-11)
        assert not np.allclose(ours[0, 0], ours[3, 3])
