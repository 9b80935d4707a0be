"""Synthetic anomalies in feature space (section 3.3)."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor


def noise_regions(perlin_mask: Tensor, mask: Tensor, overlap: bool) -> Tensor:
    """``M_a``: where noise goes [2B, 1, H, W]; off the real defects in ``mask`` [B, 1, H, W]
    unless ``overlap``."""
    return perlin_mask if overlap else perlin_mask * (1 - torch.cat([mask, mask]))


def add_noise(features: Tensor, noise: Tensor, regions: Tensor) -> Tensor:
    """Duplicate features [B, C, H, W] and add ``noise`` [2B, C, H, W] inside ``regions``
    [2B, 1, H, W].

    The paper speaks of a copy; the published code duplicates after the adaptor and perturbs
    both copies, so no clean copy is guaranteed.
    """
    return torch.cat([features, features]) + noise * regions


def targets(mask: Tensor, label: Tensor, regions: Tensor) -> Tuple[Tensor, Tensor]:
    """Mask [2B, 1, H, W] and label [2B] of both copies, from real defects and ``regions``.

    The label stays 1 for a real defect whose mask vanished on shrinking.
    """
    new_mask = (torch.cat([mask, mask]) + regions > 0).to(mask.dtype)
    synthetic = regions.flatten(1).any(dim=1)
    return new_mask, ((torch.cat([label, label]) > 0) | synthetic).to(mask.dtype)
