"""A backbone made ready to trace computes what it did."""

import torch
from random_model import photos, random_model
from torch import nn


def test_a_backbone_without_a_first_convolution_keeps_its_pixels_exact():
    from dataclasses import replace

    from ssn_export.graph.backbone_folding import deployable

    model, backbone = random_model("resnet18", (48, 48))
    odd = nn.Sequential(nn.AvgPool2d(1), model.backbone)
    module, mean = deployable(odd, replace(backbone, module=odd), (48, 48))
    bgr = torch.from_numpy(photos(1, (48, 48))).double()
    rgb = (bgr.flip(-1) / 255 - torch.tensor(backbone.mean)) / torch.tensor(backbone.std)
    with torch.no_grad():
        theirs = model.backbone.double()(rgb.permute(0, 3, 1, 2))
        ours = module((bgr - torch.from_numpy(mean)).permute(0, 3, 1, 2))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)  # mean and std are float32 above
