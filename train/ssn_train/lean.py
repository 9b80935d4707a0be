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

from typing import Iterator, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_train.model import LEAKY_SLOPE, Discriminator

BLOCK_ROWS = 1024
"""Pixels per block: 1024 x 1024 float32 hidden values are 4 MiB."""


class _LeakyProduct(torch.autograd.Function):
    """``leaky(x W^T + t) . w2`` for rows ``x`` [M, C]: float [M], hidden values never kept.

    The products run in ``dtype``; sums over pixels are kept in the inputs' own type.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, shift: Tensor, w2: Tensor, dtype: torch.dtype
    ) -> Tensor:
        low = [part.to(dtype) for part in (x, weight, shift, w2)]
        ctx.save_for_backward(*low)
        ctx.full_dtype = x.dtype
        x, weight, shift, w2 = low
        out = torch.empty(len(x), dtype=ctx.full_dtype, device=x.device)
        for rows in _blocks(x):
            hidden = torch.addmm(shift, x[rows], weight.T)
            out[rows] = torch.mv(F.leaky_relu_(hidden, LEAKY_SLOPE), w2)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        x, weight, shift, w2 = ctx.saved_tensors
        full = ctx.full_dtype
        grad = grad.to(x.dtype)
        grad_x = torch.empty_like(x, dtype=full)
        grad_weight = torch.zeros_like(weight, dtype=full)
        grad_shift, grad_w2 = (torch.zeros_like(v, dtype=full) for v in (shift, w2))
        for rows in _blocks(x):
            hidden = torch.addmm(shift, x[rows], weight.T)
            grad_hidden = torch.ops.aten.leaky_relu_backward(
                torch.outer(grad[rows], w2), hidden, LEAKY_SLOPE, False
            )
            grad_w2 += torch.mv(F.leaky_relu_(hidden, LEAKY_SLOPE).T, grad[rows])
            grad_x[rows] = grad_hidden @ weight
            grad_weight += grad_hidden.T @ x[rows]
            grad_shift += grad_hidden.sum(0)
        return grad_x, grad_weight, grad_shift, grad_w2, None


def _blocks(x: Tensor) -> Iterator[slice]:
    return (slice(start, start + BLOCK_ROWS) for start in range(0, len(x), BLOCK_ROWS))


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


def seg_logits(
    discriminator: Discriminator, perturbed: Tensor, dtype: Optional[torch.dtype] = None
) -> Tensor:
    """``discriminator.seg(perturbed)`` in training mode: [2B, C, H, W] -> [2B, 1, H, W].

    ``dtype`` of the large products, the input's own by default.
    """
    conv, norm, _, last = discriminator.seg
    n, channels, height, width = perturbed.shape
    rows = perturbed.permute(0, 2, 3, 1).reshape(-1, channels)
    weight, shift = _fold_batch_norm(conv, norm, rows)
    logits = _LeakyProduct.apply(rows, weight, shift, last.weight[0, :, 0, 0], dtype or rows.dtype)
    return logits.view(n, 1, height, width)
