"""The module that is exported: camera pixels in, anomaly map and score out.

``plan`` says how far the linear part between features and heads is folded. ``none`` computes it
as trained; the fusion's plans (docs/architecture.md) take their place beside it in
:data:`PLANS`, with the same signature.
"""

from __future__ import annotations

import copy
from typing import Callable, Dict, Sequence, Tuple

import numpy as np
import torch
from timm.layers import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn

from ssn_edge.postprocess import map_matrix, resize_matrix
from ssn_train.backbones import Backbone
from ssn_train.model import SuperSimpleNet

Heads = Callable[[Sequence[Tensor]], Tuple[Tensor, Tensor]]


class Deployed(nn.Module):
    """uint8 BGR [N, height, width, 3] -> map logits [N, height, width], score [N].

    Normalisation and BGR to RGB are one 1x1 convolution in front: exact, since the backbone's
    padding comes after it. All constants are computed in float64.
    """

    def __init__(self, model: SuperSimpleNet, backbone: Backbone, plan: str = "none"):
        super().__init__()
        self.pixels = _pixel_convolution(backbone)
        self.backbone = _with_fixed_padding(model)
        self.heads = PLANS[plan](model)
        height, width = model.image_size
        map_hw = self.heads.map_hw
        self.register_buffer("map_rows", torch.from_numpy(map_matrix(map_hw[0], height)))
        self.register_buffer("map_columns", torch.from_numpy(map_matrix(map_hw[1], width).T.copy()))

    def forward(self, image: Tensor) -> Tuple[Tensor, Tensor]:
        pixels = image.to(self.map_rows.dtype).permute(0, 3, 1, 2)
        seg_logits, score_logit = self.heads(self.backbone(self.pixels(pixels)))
        anomaly_map = self.map_rows @ seg_logits[:, 0] @ self.map_columns
        return anomaly_map, torch.sigmoid(score_logit)


def _pixel_convolution(backbone: Backbone) -> nn.Conv2d:
    """``(rgb / 255 - mean) / std`` of BGR pixels in 0..255 as a 1x1 convolution, float64."""
    std = np.asarray(backbone.std, np.float64)
    convolution = nn.Conv2d(3, 3, kernel_size=1).double()
    weight = np.diag(1 / (255 * std))[:, ::-1].copy()
    with torch.no_grad():
        convolution.weight.copy_(torch.from_numpy(weight)[:, :, None, None])
        convolution.bias.copy_(torch.from_numpy(-np.asarray(backbone.mean) / std))
    return convolution


def _with_fixed_padding(model: SuperSimpleNet) -> nn.Module:
    """A copy of the backbone whose SAME convolutions pad by numbers instead of by computation.

    TensorFlow's SAME padding depends on the input's size and may be lopsided; at a fixed size it
    is a constant.
    """
    backbone = copy.deepcopy(model.backbone)
    names = {m: name for name, m in backbone.named_modules() if isinstance(m, Conv2dSame)}
    sizes: Dict[str, Tuple[int, int]] = {}
    hooks = [
        m.register_forward_pre_hook(lambda m, x: sizes.update({names[m]: tuple(x[0].shape[2:])}))
        for m in names
    ]
    _feature_sizes(backbone, model.image_size)
    for hook in hooks:
        hook.remove()
    for same, name in names.items():
        bottom, right = (
            get_same_padding(n, k, s, d)
            for n, k, s, d in zip(sizes[name], same.kernel_size, same.stride, same.dilation)
        )
        plain = copy.deepcopy(same)
        plain.__class__ = nn.Conv2d  # the same parameters, PyTorch's own forward
        plain.padding = (0, 0)
        sides = (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2)
        backbone.set_submodule(name, nn.Sequential(nn.ZeroPad2d(sides), plain))
    return backbone


class HeadsAsTrained(nn.Module):
    """Plan ``none``: standardise, upscale and pool (two matrices a level), adaptor, heads."""

    def __init__(self, model: SuperSimpleNet):
        super().__init__()
        sizes = _feature_sizes(model.backbone, model.image_size)
        self.map_hw = tuple(2 * n for n in sizes[0])
        self.adaptor = model.feature_adaptor
        self.discriminator = model.discriminator
        shifts = model.feature_shift.split(model.channels)
        scales = model.feature_scale.split(model.channels)
        for level, (size, shift, scale) in enumerate(zip(sizes, shifts, scales)):
            rows, columns = (pooled_upscale(n, m) for n, m in zip(size, self.map_hw))
            self.register_buffer(f"rows{level}", torch.from_numpy(rows))
            self.register_buffer(f"columns{level}", torch.from_numpy(columns.T.copy()))
            self.register_buffer(f"shift{level}", shift[:, None, None].clone())
            self.register_buffer(f"scale{level}", scale[:, None, None].clone())

    def forward(self, features: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        pooled = []
        for level, feature in enumerate(features):
            shift, scale = getattr(self, f"shift{level}"), getattr(self, f"scale{level}")
            rows, columns = getattr(self, f"rows{level}"), getattr(self, f"columns{level}")
            pooled.append(rows @ ((feature - shift) * scale) @ columns)
        return self.discriminator(self.adaptor(torch.cat(pooled, dim=1)))


PLANS: Dict[str, Callable[[SuperSimpleNet], nn.Module]] = {"none": HeadsAsTrained}


def pooled_upscale(n_in: int, n_out: int) -> np.ndarray:
    """``U = P B`` of one axis, float64 [n_out, n_in]: upscaling (end points onto end points),
    then the 3-tap mean with zeros outside."""
    band = np.eye(n_out) + np.eye(n_out, k=1) + np.eye(n_out, k=-1)
    return band / 3 @ resize_matrix(n_in, n_out, align_corners=True)


def _feature_sizes(backbone: nn.Module, size_hw: Tuple[int, int]) -> Tuple[Tuple[int, int], ...]:
    """Height and width of both feature levels for an input size."""
    parameter = next(backbone.parameters())
    with torch.inference_mode():
        levels = backbone(parameter.new_zeros(1, 3, *size_hw))
    return tuple(tuple(level.shape[2:]) for level in levels)
