"""A trained model's stand-in, and photos of noise."""

import numpy as np
import torch

from ssn_train.network import backbones
from ssn_train.network.model import SuperSimpleNet


def random_model(name, size):
    """Random weights, and BatchNorm statistics away from their initial values."""
    torch.manual_seed(0)
    backbone = backbones.create(name)
    model = SuperSimpleNet(backbone.module, backbone.channels, size).eval()
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
