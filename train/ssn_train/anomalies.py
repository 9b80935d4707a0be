"""Synthetic anomalies in feature space (section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Perturbed(NamedTuple):
    """Both copies of a batch, first the originals: [2B, C, H, W], [2B, 1, H, W], [2B]."""

    features: Tensor
    mask: Tensor
    label: Tensor


def noise_regions(perlin_mask: Tensor, mask: Tensor, overlap: bool) -> Tensor:
    """``M_a``: where noise goes [2B, 1, H, W]; off the real defects in ``mask`` [B, 1, H, W]
    unless ``overlap``."""
    return perlin_mask if overlap else perlin_mask * (1 - torch.cat([mask, mask]))


def add_noise(
    adapted: Tensor, mask: Tensor, label: Tensor, noise: Tensor, regions: Tensor
) -> Perturbed:
    """Duplicate adapted features and add noise inside ``regions``.

    ``adapted`` [B, C, H, W], ``mask`` [B, 1, H, W] and ``label`` [B] of real defects (zeros when
    unsupervised), ``noise`` [2B, C, H, W], ``regions`` [2B, 1, H, W] from :func:`noise_regions`.
    The paper speaks of a copy; the published code duplicates after the adaptor and perturbs
    both copies, so no clean copy is guaranteed. The label stays 1 for a real defect whose mask
    vanished on shrinking.
    """
    new_mask = (torch.cat([mask, mask]) + regions > 0).to(adapted.dtype)
    synthetic = regions.flatten(1).any(dim=1)
    new_label = ((torch.cat([label, label]) > 0) | synthetic).to(adapted.dtype)
    return Perturbed(torch.cat([adapted, adapted]) + noise * regions, new_mask, new_label)
