"""Heads in float64 away from their initial values, and a step's inputs."""

import torch

from ssn_train.network.design import PAPER
from ssn_train.network.model import SuperSimpleNet
from ssn_train.steps import training_step


def random_model(channels, image_size, seed=0, variant="icpr", shape=PAPER):
    """A float64 model whose every parameter and statistic is away from its initial value."""
    torch.manual_seed(seed)
    model = SuperSimpleNet(None, channels, image_size, variant=variant, shape=shape).double().eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
        for name, value in model.named_buffers():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                value.normal_()
    return model


def step_inputs(batch, model, sizes, seed, supervised):
    """float64 features of levels of ``sizes``, draws, and real defects (one of them without a mask left)."""
    generator = torch.Generator().manual_seed(seed)
    features = [
        torch.randn(batch, count, *size, generator=generator, dtype=torch.float64)
        for count, size in zip(model.channels, sizes)
    ]
    map_hw = model.shape.map_size(sizes[0])
    draws = training_step.draw(batch, sum(model.channels), map_hw, 0.3, 0.2, generator)
    draws = training_step.Draws(*(d.double() for d in draws))
    mask = label = None
    if supervised:
        mask = (torch.rand(batch, 1, *map_hw, generator=generator) > 0.7).double()
        mask[0] = 0
        label = torch.ones(batch, dtype=torch.float64)
    return features, draws, mask, label
