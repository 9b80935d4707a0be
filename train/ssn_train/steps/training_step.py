"""One optimizer step, as published (sections 3.3 to 3.5 and 4.3), and its learning-rate schedule.

Every random draw of a step comes from a generator seeded by (seed, step), so a resumed run needs
no generator state to go on exactly as an uninterrupted one.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ssn_train.network import anomalies, losses, perlin
from ssn_train.network.model import SuperSimpleNet
from ssn_train.options.recipe import Recipe
from ssn_train.steps import fast_step

SUPERSIMPLENET = Recipe()

LEARNING_RATES = (1e-4, 2e-4, 2e-4)  # adaptor, segmentation head, classification head
WEIGHT_DECAYS = (1e-2, 1e-5, 1e-5)  # the published adaptor group keeps AdamW's default
DECAY = 0.4
MILESTONES = (0.8, 0.9)
CLIP_NORM = 1.0  # supervised only


class Draws(NamedTuple):
    """A step's random part: Perlin masks [2B, 1, H, W], and noise [K, C] for the K positions that
    they select, in flat order."""

    noise: Tensor
    perlin_mask: Tensor

    def dense(self) -> Tensor:
        """The noise as the published code holds it, zero outside the masks: [2B, C, H, W]."""
        batch, _, height, width = self.perlin_mask.shape
        rows = self.noise.new_zeros(batch * height * width, self.noise.shape[1])
        rows[self.perlin_mask.flatten() > 0] = self.noise
        return rows.view(batch, height, width, -1).permute(0, 3, 1, 2).contiguous()

    def inside(self, regions: Tensor) -> fast_step.Noise:
        """The noise that falls into ``regions`` [2B, 1, H, W], a part of the masks."""
        drawn = self.perlin_mask.flatten() > 0
        kept = regions.flatten()[drawn] > 0
        return fast_step.Noise(self.noise[kept], drawn.nonzero()[:, 0][kept])


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
    kind: str = "perlin",
) -> Draws:
    """Masks first, then noise where they are: an eighth of what the published code draws, which
    takes it everywhere and first. The same distribution, so only the seed's numbers differ.

    ``kind`` is :attr:`ssn_train.options.recipe.Recipe.anomalies`. Without synthetic anomalies the published
    code makes no second copy; two equal ones give the same loss and gradients."""
    if kind == "perlin":
        masks = perlin.perlin_masks(2 * batch, size, threshold, generator)
    else:
        masks = torch.zeros(2 * batch, 1, *size)
        masks[batch:] = float(kind == "simplenet")
    count = int((masks > 0).sum())
    return Draws(torch.randn(count, channels, generator=generator) * noise_std, masks)


def make_optimizer(model: SuperSimpleNet, rate_scale: float = 1.0) -> torch.optim.AdamW:
    """AdamW with the published groups: adaptor, segmentation head, classification head.

    ``rate_scale`` multiplies all three rates; 1 is the paper.
    """
    heads = model.discriminator
    groups = (
        list(model.feature_adaptor.parameters()) if model.shape.adaptor else [],
        list(heads.seg.parameters()),
        [*heads.dec_head.parameters(), *heads.fc_score.parameters()] if heads.classifies else [],
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
    segmented: Optional[Tensor] = None,
    recipe: Recipe = SUPERSIMPLENET,
    plain: bool = False,
    low_precision: bool = False,
) -> losses.Loss:
    """Loss of a batch of raw features [B, C_l, h_l, w_l] with the given draws.

    ``mask`` [B, 1, H, W], ``label`` [B] and ``segmented`` [B] of real defects
    (:class:`ssn_train.training.supervision.Targets`), none when unsupervised. ``plain`` takes
    the modules as they are, at full resolution, instead of :mod:`.fast_step`'s exact rewriting.
    ``low_precision`` runs the heads' large products in bfloat16 (not with ``plain``); statistics,
    losses and weights stay in float32.
    """
    batch, size = len(features[0]), model.shape.map_size(features[0].shape[2:])
    if mask is None:
        mask = features[0].new_zeros(batch, 1, *size)
    if label is None:
        label = features[0].new_zeros(batch)
    regions = anomalies.noise_regions(draws.perlin_mask, mask, recipe.overlap)
    if plain:
        noise = draws.dense()
        inputs = model.head_inputs(features)
        perturbed = [anomalies.add_noise(x, noise, regions) for x in inputs]
        seg_logits, score_logit = model.discriminator(*perturbed)
    else:
        noise_rows = draws.inside(regions)
        seg_logits, score_logit = fast_step.heads(model, features, noise_rows, low_precision)
    new_mask, new_label = anomalies.targets(mask, label, regions)
    if segmented is not None:
        segmented = torch.cat([segmented, segmented])
    terms = losses.loss(seg_logits, new_mask, score_logit, new_label, segmented)
    zero = torch.zeros_like(terms.focal_cls)
    if not recipe.optimised:
        terms = terms._replace(focal_seg=zero)
    return terms if recipe.cls_head else terms._replace(focal_cls=zero)


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
