"""The segmentation head's training step without its large tensors.

Written plainly the head stores [2B, 1024, H, W] four times over (convolution, BatchNorm,
activation and their gradients): memory traffic, not arithmetic, is then what a step costs.
Two exact rewritings remove it:

* BatchNorm of a linear map needs only the input's mean and covariance:
  ``mean(Wx + b) = W mu + b`` and ``var(Wx + b) = diag(W Cov(x) W^T)``, so it folds into a
  second linear map ``W' = diag(gamma / sqrt(var + eps)) W`` before any pixel is touched.
* ``w2 . leaky(W' x + t)`` is then computed in blocks of pixels that stay in the cache, and
  computed again in the backward pass instead of being kept.

Same loss and gradients up to rounding (tested in float64 against the plain modules).
"""

from __future__ import annotations

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_train.model import LEAKY_SLOPE, Discriminator

BLOCK_ROWS = 2048
"""Pixels per block: 256 x 1024 float32 hidden values are 1 MiB, in reach of a core's cache."""


class _LeakyProduct(torch.autograd.Function):
    """``leaky(x W^T + t) . w2`` for rows ``x`` [M, C]: float [M], hidden values never kept."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, shift: Tensor, w2: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, shift, w2)
        out = x.new_empty(len(x))
        for start in range(0, len(x), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            hidden = torch.addmm(shift, x[rows], weight.T)
            torch.mv(F.leaky_relu_(hidden, LEAKY_SLOPE), w2, out=out[rows])
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tuple[Tensor, ...]:
        x, weight, shift, w2 = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        grad_weight, grad_shift = torch.zeros_like(weight), torch.zeros_like(shift)
        grad_w2 = torch.zeros_like(w2)
        for start in range(0, len(x), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            hidden = torch.addmm(shift, x[rows], weight.T)
            grad_hidden = torch.ops.aten.leaky_relu_backward(
                torch.outer(grad[rows], w2), hidden, LEAKY_SLOPE, False
            )
            grad_w2 += torch.mv(F.leaky_relu_(hidden, LEAKY_SLOPE).T, grad[rows])
            torch.mm(grad_hidden, weight, out=grad_x[rows])
            grad_weight.addmm_(grad_hidden.T, x[rows])
            grad_shift += grad_hidden.sum(0)
        return grad_x, grad_weight, grad_shift, grad_w2


def _fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, rows: Tensor) -> Tuple[Tensor, Tensor]:
    """Weight [K, C] and shift [K] of convolution and training-mode BatchNorm over ``rows`` [M, C].

    Updates the running statistics as the module would. The convolution's bias cancels: its
    gradient is exactly zero here, where the plain modules give it rounding noise.
    """
    weight = conv.weight[:, :, 0, 0]
    mu = rows.mean(0)
    centred = rows - mu
    covariance = centred.T @ centred / len(rows)
    var = ((weight @ covariance) * weight).sum(1)
    with torch.no_grad():
        norm.num_batches_tracked += 1
        unbiased = var * (len(rows) / (len(rows) - 1))
        norm.running_mean.lerp_(weight @ mu + conv.bias, norm.momentum)
        norm.running_var.lerp_(unbiased, norm.momentum)
    scale = norm.weight * torch.rsqrt(var + norm.eps)
    shift = norm.bias - scale * (weight @ mu) + 0.0 * conv.bias
    return scale[:, None] * weight, shift


def seg_logits(discriminator: Discriminator, perturbed: Tensor) -> Tensor:
    """``discriminator.seg(perturbed)`` in training mode: [2B, C, H, W] -> [2B, 1, H, W]."""
    conv, norm, _, last = discriminator.seg
    n, channels, height, width = perturbed.shape
    rows = perturbed.permute(0, 2, 3, 1).reshape(-1, channels)
    weight, shift = _fold_batch_norm(conv, norm, rows)
    logits = _LeakyProduct.apply(rows, weight, shift, last.weight[0, :, 0, 0])
    return logits.view(n, 1, height, width)
