"""The training loss (section 3.5), as the published code computes it."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

TRUNCATION = 0.5
"""``th`` of equation 1."""

FOCAL_GAMMA = 4.0
"""The published code's exponent; the paper names none."""


class Loss(NamedTuple):
    """Scalars of one batch. ``total`` is the plain sum of the others (equations 2 to 4)."""

    l1_normal: Tensor
    l1_anomalous: Tensor
    focal_seg: Tensor
    focal_cls: Tensor

    @property
    def total(self) -> Tensor:
        return self.l1_normal + self.l1_anomalous + self.focal_seg + self.focal_cls


def _mean_or_zero(values: Tensor, select: Tensor) -> Tensor:
    """Mean of the selected values; an empty class adds 0 instead of NaN."""
    return (values * select).sum() / select.sum().clamp(min=1)


def focal(logits: Tensor, target: Tensor, gamma: float = FOCAL_GAMMA) -> Tensor:
    """Focal loss without class weights, elementwise.

    On probabilities, with the logarithm clamped at -100, as published: where the sigmoid
    saturates it differs from the logits' form (which grows on without bound).
    """
    p = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy(p, target, reduction="none")
    p_true = p * target + (1 - p) * (1 - target)
    return cross_entropy * (1 - p_true) ** gamma


def loss(
    seg_logits: Tensor,
    mask: Tensor,
    score_logit: Tensor,
    label: Tensor,
    segmented: Optional[Tensor] = None,
) -> Loss:
    """The four terms for ``seg_logits`` and ``mask`` [B, 1, H, W], ``score_logit`` and ``label`` [B].

    ``segmented`` [B] bool leaves images whose defects have no mask out of the map's three terms.
    The paper averages equation 1 over all elements; the published code, followed here, averages
    over normal and over anomalous pixels apart and adds the two.
    """
    mask = mask.to(seg_logits.dtype)
    known = torch.ones_like(mask)
    if segmented is not None:
        known = known * segmented[:, None, None, None]
    classification = focal(score_logit, label.to(score_logit.dtype)).mean()
    return Loss(*segmentation(seg_logits, mask, known), classification)


def segmentation(seg_logits: Tensor, mask: Tensor, known: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """The map's three terms, over the elements of any shape that are ``known`` (1, else 0)."""
    normal = torch.clamp(seg_logits + TRUNCATION, min=0)
    anomalous = torch.clamp(TRUNCATION - seg_logits, min=0)
    return (
        _mean_or_zero(normal, (1 - mask) * known),
        _mean_or_zero(anomalous, mask * known),
        _mean_or_zero(focal(seg_logits, mask), known),
    )
