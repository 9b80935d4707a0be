"""What is timed where the weights do not matter: models with random ones, or of a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Sequence, Tuple

import torch
from torch import nn

from ssn_bench.measure.ready import noise
from ssn_edge.errors import InputError
from ssn_train.network import backbones
from ssn_train.network.backbones import Backbone
from ssn_train.network.model import SuperSimpleNet
from ssn_train.training import checkpoint
from ssn_train.training.photo_loader import normalise


class Subject(NamedTuple):
    """What is timed: a model with its backbone and feature means, and how it came about."""

    model: SuperSimpleNet
    backbone: Backbone
    mean: Sequence[float]
    name: str
    is_trained: bool


def open_subject(name: str, size: Tuple[int, int], seed: int = 0) -> Subject:
    """A run folder, or a backbone's name for random weights; InputError for anything else."""
    if Path(name).is_dir():
        model, header, backbone = checkpoint.load_model(name)
        return Subject(model, backbone, header.feature_mean, f"run folder, {header.backbone}", True)
    if name not in backbones.TIMM_NAMES:
        raise InputError(f"{name}: neither a run folder nor one of {', '.join(backbones.TIMM_NAMES)}")
    return random_weights(name, size, seed)


def random_weights(name: str, size: Tuple[int, int], seed: int = 0) -> Subject:
    """A model with random weights, its statistics (BatchNorm's, the features') taken from noise images:
    with arbitrary ones a deep backbone leaves float16's range. Timings do not depend on weights."""
    torch.manual_seed(seed)
    backbone = backbones.create(name)
    model = SuperSimpleNet(backbone.module, backbone.channels, size).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # plain averages
    images = normalise(noise(4, size, seed), backbone)
    with torch.no_grad():
        backbone.module.train()(images)
        backbone.module.eval()
        features = model.features(images)
        mean, std = (
            torch.cat([f(level, (0, 2, 3)) for level in features]) for f in (torch.mean, torch.std)
        )
        if backbone.standardise:
            model.set_statistics(mean, std.clamp(min=1e-6))
        model.train()(images)
        model.eval()
    return Subject(model, backbone, mean.tolist(), f"{name}, random weights", False)
