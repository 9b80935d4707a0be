"""The training step at the features' own resolution: same loss and gradients, a third of the time.

Written plainly, a step convolves 2B upscaled maps. Three exact rewritings (docs/fusion.md):

* Up to the first non-linearity both heads are linear and both copies of the batch share their
  input, so adaptor and first convolutions run once, at low resolution, composed.
* The noise lives under the Perlin mask, K of 2BHW positions: only there is it drawn, multiplied
  with the weights, and added.
* BatchNorm is per channel, so the segmentation head's channels go block by block, each block
  from projection to logits while it is in the cache, and once more in the backward pass.

Layout is channels-last throughout: position x channel matrices, no transposes.
"""

from __future__ import annotations

import functools
import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssn_train.network import operators
from ssn_train.network.model import LEAKY_SLOPE, SuperSimpleNet

BLOCK = {"cpu": 2 << 20, "cuda": 64 << 20}
"""Values of one block of hidden channels: 8 MiB of float32 stay in a CPU's cache."""


class Noise(NamedTuple):
    """The perturbed positions: ``values`` [K, C] and ``positions`` int64 [K], flat indices into
    [2B, H, W], each at most once."""

    values: Tensor
    positions: Tensor


def heads(
    model: SuperSimpleNet,
    features: Sequence[Tensor],
    noise: Noise,
    low_precision: bool = False,
) -> Tuple[Tensor, Tensor]:
    """Map logits [2B, 1, H, W] and score logits [2B] of both copies, in training mode.

    ``features`` are the raw levels [B, C_l, h_l, w_l]. ``low_precision`` runs the large products in
    bfloat16; statistics, activations and weights keep the features' type.
    """
    dtype = torch.bfloat16 if low_precision else features[0].dtype
    levels = [level.permute(0, 2, 3, 1).contiguous() for level in model.standardise(features)]
    seg_logits = _seg_logits(model, levels, noise, dtype)
    if not model.discriminator.classifies:
        return seg_logits, seg_logits.amax((1, 2, 3))
    seg = seg_logits.detach() if model.discriminator.stop_grad else seg_logits
    hidden = _cls_pre_activation(model, levels, noise, dtype)
    return seg_logits, model.discriminator.score(hidden, seg)


def _seg_logits(
    model: SuperSimpleNet, levels: List[Tensor], noise: Noise, dtype: torch.dtype
) -> Tensor:
    conv, norm, last = model.discriminator.seg_layers
    adaptor = model.feature_adaptor.projection
    weight = conv.weight[:, :, 0, 0]
    composed = (weight @ adaptor.weight[:, :, 0, 0]).split(model.channels, dim=1)
    size = model.shape.map_size(levels[0].shape[1:3])
    spatial = [_matrices("upscale", level, size) for level in levels]
    low = [_product(level, w.T, dtype) for level, w in zip(levels, composed)]
    delta = _product(noise.values, weight.T, dtype)

    one_copy = len(levels[0]) * size[0] * size[1]
    index = noise.positions % one_copy
    step = max(8, BLOCK[delta.device.type] // one_copy)
    parts = (*low, delta, norm.weight, norm.bias, last.weight[0, :, 0, 0])
    base, rows = delta.new_zeros(one_copy), delta.new_zeros(len(delta))
    means, variances = [], []
    for block in zip(*(part.split(step, dim=-1) for part in parts)):
        done = checkpoint(
            _seg_block, block[: len(low)], spatial, index, *block[len(low) :], norm.eps,
            use_reentrant=False, preserve_rng_state=False,
        )
        base, rows = base + done[0], rows + done[1]
        means.append(done[2])
        variances.append(done[3])
    assert adaptor.bias is not None and conv.bias is not None
    with torch.no_grad():
        constant = weight @ adaptor.bias + conv.bias  # cancels in BatchNorm but for its mean
        _track(norm, torch.cat(means) + constant, torch.cat(variances), 2 * one_copy)
    logits = torch.cat([base, base]).index_put((noise.positions,), rows)
    # The biases' gradient is exactly zero; the plain modules give it rounding noise.
    logits = logits + 0.0 * (conv.bias.sum() + adaptor.bias.sum())
    return logits.view(-1, 1, *size)


def _seg_block(
    low: Sequence[Tensor],
    spatial: Sequence[Tuple[Tensor, Tensor]],
    index: Tensor,
    delta: Tensor,
    gamma: Tensor,
    beta: Tensor,
    last: Tensor,
    eps: float,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """A block of c channels: its share of the logits at all positions [BHW] (one copy, no noise)
    and at the perturbed ones [K]; mean and variance [c] over both copies.

    Both copies equal the base but for the K rows, so sums over 2BHW positions are twice the
    base's plus what the noise changes.
    """
    summed: Optional[Tensor] = None
    for level, matrices in zip(reversed(low), reversed(spatial)):
        summed = _upscale(level, matrices, add_to=summed)
    assert summed is not None
    hidden = summed.flatten(0, 1)
    unperturbed = hidden.index_select(0, index)
    perturbed = unperturbed + delta
    count = 2 * len(hidden)
    mean = (2 * hidden.sum(0) + delta.sum(0)) / count
    centred = hidden - mean
    change = delta * (unperturbed + perturbed - 2 * mean)
    variance = (2 * (centred * centred).sum(0) + change.sum(0)) / count
    scale = gamma * torch.rsqrt(variance + eps)
    shift = beta - mean * scale
    base, rows = (
        F.leaky_relu(torch.addcmul(shift, t, scale), LEAKY_SLOPE) @ last
        for t in (hidden, perturbed)
    )
    return base, rows, mean.detach(), variance.detach()


def _cls_pre_activation(
    model: SuperSimpleNet, levels: List[Tensor], noise: Noise, dtype: torch.dtype
) -> Tensor:
    """The classification head's convolution of the features, without the map's part and the bias:
    [2B, K, H, W]."""
    weight = model.discriminator.cls_layers[0].weight
    taps = weight[:, :-1].permute(2, 3, 0, 1)  # [i, j, K, C]; the last input is the map
    flat = taps.reshape(-1, taps.shape[-1])
    kernel, width_out = taps.shape[0], taps.shape[2]
    batch, (height, width) = len(levels[0]), model.shape.map_size(levels[0].shape[1:3])
    composed, parts = flat, []
    if model.variant == "icpr":
        adaptor = model.feature_adaptor.projection
        composed = flat @ adaptor.weight[:, :, 0, 0]
        assert adaptor.bias is not None
        parts.append(_border((flat @ adaptor.bias).view(kernel, kernel, -1), (height, width)))
    by_row = composed.view(kernel, kernel * width_out, -1)
    for level, w in zip(levels, by_row.split(model.channels, dim=2)):
        rows, columns = _matrices("taps", level, (height, width), kernel)
        h, w_low = level.shape[1:3]
        low = _product(level.view(batch, 1, h * w_low, -1), w.transpose(1, 2), dtype)
        left = _product(rows, low.view(batch, kernel * h, -1), dtype)  # [B, H, w j K]
        left = left.view(batch, height, w_low * kernel, width_out)
        parts.append(_product(columns, left, dtype))  # [B, H, W, K]
    return _add_noise(sum(parts[1:], parts[0]), noise, flat, dtype)


def _border(tap_constants: Tensor, size: Tuple[int, int]) -> Tensor:
    """A constant's way through the zero-padded kernel: [kernel, kernel, K] -> [H, W, K].

    ``sum_ij (S_i 1)(S_j 1)^T q_ij``: less of it near the border.
    """
    ones = (operators.shifted(np.ones((n, 1)), len(tap_constants))[:, :, 0] for n in size)
    rows, columns = (torch.from_numpy(one).to(tap_constants) for one in ones)
    return torch.einsum("iy,jx,ijk->yxk", rows, columns, tap_constants)


def _add_noise(base: Tensor, noise: Noise, flat: Tensor, dtype: torch.dtype) -> Tensor:
    """Both copies of ``base`` [B, H, W, K] plus the convolution of the noise by ``flat`` [kernel kernel K,
    C]: each perturbed position adds to its neighbours."""
    batch, height, width, channels = base.shape
    kernel = math.isqrt(len(flat) // channels)
    reach = kernel // 2
    padded = F.pad(base, (0, 0, reach, reach, reach, reach))
    tall, wide = padded.shape[1:3]
    row = torch.div(noise.positions, width, rounding_mode="floor")  # over all images
    image = torch.div(row, height, rounding_mode="floor")
    corner = (image * tall + row % height) * wide + noise.positions % width
    back = torch.arange(kernel - 1, -1, -1, device=corner.device)  # tap i moves by reach - i
    target = corner[:, None] + (back[:, None] * wide + back).flatten()
    spread = _product(noise.values, flat.T, dtype).view(-1, channels)
    both = torch.cat([padded, padded]).view(-1, channels)
    both = both.index_add(0, target.flatten(), spread).view(2 * batch, tall, wide, channels)
    return both[:, reach : tall - reach, reach : wide - reach].permute(0, 3, 1, 2)


def _upscale(
    low: Tensor, matrices: Tuple[Tensor, Tensor], add_to: Optional[Tensor] = None
) -> Tensor:
    """``U_h low U_w^T`` of [B, h, w, c]: [BH, W, c], on top of ``add_to``."""
    rows, columns = matrices
    batch, h, w, channels = low.shape
    left = (rows @ low.reshape(batch, h, w * channels)).view(-1, w, channels)
    if add_to is None:
        return columns @ left
    return torch.baddbmm(add_to, columns.expand(len(left), -1, -1), left)


def _product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    return (a.to(dtype) @ b.to(dtype)).to(a.dtype)


def _matrices(
    kind: str, level: Tensor, size: Tuple[int, int], kernel: int = 1
) -> Tuple[Tensor, Tensor]:
    """Row and column matrices for a level [B, h, w, C]."""
    pairs = zip(("rows", "columns"), level.shape[1:3], size)
    rows, columns = (_matrix(kind, *p, kernel, level.dtype, level.device) for p in pairs)
    return rows, columns


@functools.lru_cache(maxsize=32)
def _matrix(
    kind: str, axis: str, n_in: int, n_out: int, kernel: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    matrix = operators.pooled_upscale(n_in, n_out)
    if kind == "taps":
        matrix = (operators.tap_rows if axis == "rows" else operators.tap_columns)(matrix, kernel)
    return torch.from_numpy(np.ascontiguousarray(matrix)).to(device, dtype)


def _track(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running statistics as the module would."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    norm.num_batches_tracked += 1
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
