"""A trained PyTorch backbone made ready to trace: constants folded in, nothing computed twice."""

from __future__ import annotations

import copy
from typing import Callable, Dict, List, Tuple

import numpy as np
import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn

from ssn_export.graph import folding
from ssn_train.network.backbones import Backbone


def deployable(
    backbone: nn.Module, about: Backbone, size_hw: Tuple[int, int]
) -> Tuple[nn.Module, np.ndarray]:
    """A float64 copy for BGR pixels in 0..255 minus the returned mean [3] (BGR, 0..255).

    BatchNorm folded into convolutions, the input's scale and channel order into the first one,
    SAME padding fixed for ``size_hw``.
    """
    module = copy.deepcopy(backbone).double().eval()
    image = torch.zeros(1, 3, *size_hw, dtype=torch.float64)
    calls = _record(module, lambda: module(image))
    for name, norm, conv in _normalised(calls):
        _fold_norm(conv, norm)
        rest = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
        module.set_submodule(name, rest)
    mean = 255 * np.asarray(about.mean)[::-1]
    first = next((m for _, m, x, _ in calls if x is image and isinstance(m, nn.Conv2d)), None)
    if first is not None and first.in_channels == 3:
        first.weight.data = torch.from_numpy(folding.pixels(first.weight.data.numpy(), about.std))
    else:
        module = nn.Sequential(_pixel_convolution(about), module)
    _fix_padding(module, calls)
    return module, mean.copy()


Call = Tuple[str, nn.Module, Tensor, Tensor]  # name, module, input, output


def _record(module: nn.Module, run: Callable[[], object]) -> List[Call]:
    """Every convolution and BatchNorm in the order of execution, with the tensors themselves."""
    calls: List[Call] = []
    hooks = []
    for name, part in module.named_modules():
        if isinstance(part, (nn.Conv2d, nn.BatchNorm2d)):
            hooks.append(
                part.register_forward_hook(
                    lambda m, x, y, name=name: calls.append((name, m, x[0], y))
                )
            )
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return calls


def _normalised(calls: List[Call]) -> List[Tuple[str, nn.BatchNorm2d, nn.Conv2d]]:
    """BatchNorms that take a convolution's own output."""
    made: Dict[int, nn.Conv2d] = {id(y): m for _, m, _, y in calls if isinstance(m, nn.Conv2d)}
    norms = [(name, m, x) for name, m, x, _ in calls if isinstance(m, nn.BatchNorm2d)]
    return [(name, m, made[id(x)]) for name, m, x in norms if id(x) in made]


def _fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    bias = None if conv.bias is None else conv.bias.data.numpy()
    gamma, beta = (v.data.numpy() for v in (norm.weight, norm.bias))
    assert norm.running_mean is not None and norm.running_var is not None
    mean, var = norm.running_mean.numpy(), norm.running_var.numpy()
    weight, bias = folding.batch_norm(conv.weight.data.numpy(), bias, gamma, beta, mean, var, norm.eps)
    conv.weight.data = torch.from_numpy(weight)
    conv.bias = nn.Parameter(torch.from_numpy(bias), requires_grad=False)


def _fix_padding(module: nn.Module, calls: List[Call]) -> None:
    """TensorFlow's SAME padding depends on the input's size and may be lopsided; at a fixed size
    it is a constant."""
    names = {id(m): name for name, m in module.named_modules()}
    for _, same, x, _ in calls:
        if not isinstance(same, Conv2dSame):
            continue
        bottom, right = (
            get_same_padding(n, k, s, d)
            for n, k, s, d in zip(x.shape[2:], same.kernel_size, same.stride, same.dilation)
        )
        plain = copy.copy(same)
        plain.__class__ = nn.Conv2d  # type: ignore[assignment]  # the same parameters, PyTorch's own forward
        plain.padding = (0, 0)
        sides = (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2)
        module.set_submodule(names[id(same)], nn.Sequential(nn.ZeroPad2d(sides), plain))


def _pixel_convolution(about: Backbone) -> nn.Conv2d:
    """For a backbone that does not begin with a convolution of the image: scale and order as a
    1x1 convolution in front."""
    convolution = nn.Conv2d(3, 3, kernel_size=1, bias=False).double()
    convolution.weight.data = torch.from_numpy(folding.pixels(np.eye(3)[:, :, None, None], about.std))
    return convolution
