"""The fast step is the plain one."""

import copy

import pytest
import torch
from designs import builts
from exact_model import random_model, step_inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_train.network.model import VARIANTS, SuperSimpleNet
from ssn_train.steps import training_step


def _losses_and_gradients(model, inputs, plain):
    model = copy.deepcopy(model).train()
    loss = training_step.batch_loss(model, *inputs, plain=plain).total
    loss.backward()
    return loss.item(), dict(model.named_parameters()), dict(model.named_buffers())


@given(
    batch=st.integers(1, 3),
    built=builts(),
    seed=st.integers(0, 2**20),
    variant=st.sampled_from(VARIANTS),
    supervised=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_fast_step_is_the_plain_step(batch, built, seed, variant, supervised):
    """Same loss, gradients and running statistics up to float64 rounding."""
    channels, sizes, shape = built
    model = random_model(channels, (64, 64), seed, variant, shape)
    model.discriminator.stop_grad = not supervised
    model.set_statistics(torch.randn(sum(channels)), torch.rand(sum(channels)) + 0.5)
    inputs = step_inputs(batch, model, sizes, seed, supervised)
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


def test_bfloat16_products_stay_close():
    torch.manual_seed(0)
    model = SuperSimpleNet(None, (8, 8), (64, 64)).train()
    features = [torch.randn(4, 8, 8, 8), torch.randn(4, 8, 4, 4)]
    draws = training_step.draw(4, 16, (16, 16), 0.3, 0.2, training_step.step_generator(0, 0))
    full = training_step.batch_loss(copy.deepcopy(model), features, draws).total
    low = training_step.batch_loss(model, features, draws, low_precision=True).total
    assert low.item() == pytest.approx(full.item(), rel=2e-2)
