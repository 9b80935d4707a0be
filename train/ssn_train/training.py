"""One optimizer step, as published (sections 3.3 to 3.5 and 4.3), and its learning-rate schedule.

Every random draw of a step comes from a generator seeded by (seed, step), so a resumed run needs
no generator state to go on exactly as an uninterrupted one.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ssn_train import anomalies, lean, losses, perlin
from ssn_train.model import SuperSimpleNet

LEARNING_RATES = (1e-4, 2e-4, 2e-4)  # adaptor, segmentation head, classification head
WEIGHT_DECAYS = (1e-2, 1e-5, 1e-5)  # the published adaptor group keeps AdamW's default
DECAY = 0.4
MILESTONES = (0.8, 0.9)
CLIP_NORM = 1.0  # supervised only


class Draws(NamedTuple):
    """A step's random part: noise [2B, C, H, W], Perlin masks [2B, 1, H, W]."""

    noise: Tensor
    perlin_mask: Tensor


def step_generator(seed: int, step: int) -> torch.Generator:
    """The CPU generator of one step; nearby seeds and steps do not overlap."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 2_654_435_761 % 2**63)


def draw(
    batch: int,
    channels: int,
    size: Tuple[int, int],
    noise_std: float,
    threshold: float,
    generator: torch.Generator,
) -> Draws:
    """Noise first, masks second: the published order."""
    shape = (2 * batch, channels, *size)
    noise = torch.randn(shape, generator=generator) * noise_std
    return Draws(noise, perlin.perlin_masks(2 * batch, size, threshold, generator))


def make_optimizer(model: SuperSimpleNet, rate_scale: float = 1.0) -> torch.optim.AdamW:
    """AdamW with the published groups: adaptor, segmentation head, classification head.

    ``rate_scale`` multiplies all three rates; 1 is the paper.
    """
    heads = model.discriminator
    groups = (
        list(model.feature_adaptor.parameters()),
        list(heads.seg.parameters()),
        [*heads.dec_head.parameters(), *heads.fc_score.parameters()],
    )
    rates = [rate * rate_scale for rate in LEARNING_RATES]
    return torch.optim.AdamW(
        {"params": params, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for params, rate, decay in zip(groups, rates, WEIGHT_DECAYS)
    )


def milestones(units: int) -> List[int]:
    """After how many of ``units`` (epochs, or steps) the rates drop: 0.8 and 0.9, rounded.

    The published code passes floats, so a fraction never fires; rounding lets it.
    """
    return [int(share * units + 0.5) for share in MILESTONES]


def set_rates(optimizer: torch.optim.Optimizer, drops: int) -> None:
    """Initial rates times 0.4 for each milestone passed."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * DECAY**drops


def batch_loss(
    model: SuperSimpleNet,
    features: Sequence[Tensor],
    draws: Draws,
    mask: Optional[Tensor] = None,
    label: Optional[Tensor] = None,
    overlap: bool = False,
    plain: bool = False,
    low_precision: bool = False,
) -> losses.Loss:
    """Loss of a batch of raw features [B, C_l, h_l, w_l] with the given draws.

    ``mask`` [B, 1, H, W] and ``label`` [B] of real defects, none when unsupervised. ``plain`` takes
    the segmentation head's own modules instead of :mod:`ssn_train.lean`'s exact rewriting.
    ``low_precision`` runs the heads' large products in bfloat16 (not with ``plain``); statistics,
    losses and weights stay in float32.
    """
    layout = torch.contiguous_format if plain else torch.channels_last
    adapted = model.adapt(features).contiguous(memory_format=layout)
    if mask is None:
        mask = adapted.new_zeros(len(adapted), 1, *adapted.shape[2:])
    if label is None:
        label = adapted.new_zeros(len(adapted))
    regions = anomalies.noise_regions(draws.perlin_mask, mask, overlap)
    noise = draws.noise.contiguous(memory_format=layout)
    perturbed = anomalies.add_noise(adapted, mask, label, noise, regions)
    heads = model.discriminator
    if plain:
        seg_logits = heads.seg(perturbed.features)
    else:
        dtype = torch.bfloat16 if low_precision else None
        seg_logits = lean.seg_logits(heads, perturbed.features, dtype)
    with torch.autocast(adapted.device.type, torch.bfloat16, enabled=low_precision):
        score_logit = heads.classify(perturbed.features, seg_logits)
    score_logit = score_logit.to(seg_logits.dtype)
    return losses.loss(seg_logits, perturbed.mask, score_logit, perturbed.label)


def take_step(
    optimizer: torch.optim.Optimizer, loss: Tensor, clip_norm: Optional[float] = None
) -> Optional[float]:
    """Backward, joint clipping where asked, one update. Returns the norm before clipping."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = None
    if clip_norm is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip_norm))
    optimizer.step()
    return norm
