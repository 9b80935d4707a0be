"""A trained model's stand-in, and photos of noise."""

import numpy as np
import torch

from ssn_train.network import backbones
from ssn_train.network.design import PAPER, Design
from ssn_train.network.model import SuperSimpleNet

LEAN = [
    ("efficientnet_lite0", Design(("block5", "block6"), scale=1, seg_width=7, cls_width=0)),
    ("efficientnet_lite0", Design(("8", "16"), grid=(7, 9), seg_width=64, cls_width=3, cls_kernel=1)),
    ("resnet18", Design(("layer2", "layer3", "layer4"), (11, 6), seg_width=33, cls_width=5, cls_kernel=3)),
    ("resnet18", Design(("layer1", "layer3"), grid=(13, 17), seg_width=16, cls_width=0)),
]
"""Shapes beside the paper's: maps coarser and finer than a level, with and without classification head."""


def random_model(name, size, shape=PAPER):
    """Random weights, and BatchNorm statistics away from their initial values."""
    torch.manual_seed(0)
    backbone = backbones.create(name, shape.levels)
    model = SuperSimpleNet(backbone.module, backbone.channels, size, shape=shape).eval()
    channels = sum(backbone.channels)
    if backbone.standardise:
        model.set_statistics(0.1 * torch.randn(channels), 0.5 + torch.rand(channels))
    for key, value in model.named_buffers():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif key.endswith("running_mean"):
            value.normal_(std=0.1)
    return model, backbone


def photos(count, size):
    return np.random.default_rng(1).integers(0, 256, (count, *size, 3), dtype=np.uint8)
