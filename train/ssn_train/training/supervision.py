"""Labelled defects in training: orientations, targets, balanced batches, images without a mask.

Full supervision is section 4.3 of the paper. Mixed and weak supervision (defective images of which
only the label is known) follow the journal extension, "No Label Left Behind: A Unified Surface
Defect Detection Model for all Supervision Regimes" (Rolih, Fucka, Skocaj, 2025, arXiv 2508.19060):
such an image takes part in the classification loss and in no term of the segmentation loss, since
nobody knows which of its pixels are defective. The synthetic anomalies put into it are left out of the
segmentation loss with it. (The extension also widens masks by 7 pixels and weighs pixels by their
distance from the defect's rim; that changes full supervision and is not done here.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssn_edge.frames.decoding import Reading
from ssn_edge.frames.placement import fit_mask
from ssn_train.data.datasets import Sample
from ssn_train.data.truth import read_truth
from ssn_train.training.photo_loader import Photo

ORIENTATIONS: Tuple[Tuple[int, ...], ...] = ((), (0,), (1,), (0, 1))
"""Axes that defects are flipped along: none, vertical, horizontal, both (a turn by 180 degrees)."""

SHARPNESS = 4.0
"""Exponent of the inverse-frequency sampling, times the logarithm of the number of photos."""


class Targets(NamedTuple):
    """Of a batch: ``mask`` [B, 1, H, W] 0/1 of real defects, ``label`` [B] 0/1, ``segmented``
    [B] bool, false where a defective image has no mask."""

    mask: Tensor
    label: Tensor
    segmented: Tensor


@dataclass(frozen=True)
class TrainingSet:
    """Photos in the feature cache's order: ``normals`` good ones, then defects in all orientations."""

    photos: Tuple[Photo, ...]
    samples: Tuple[Sample, ...]
    normals: int

    @property
    def defects(self) -> int:
        """Labelled photos, each orientation counted."""
        return len(self.photos) - self.normals


def training_set(samples: Sequence[Sample]) -> TrainingSet:
    """Good photos as they are, defective ones four times (section 4.3; none of them: unsupervised)."""
    good = [s for s in samples if not s.label]
    bad = [(s, axes) for axes in ORIENTATIONS for s in samples if s.label]
    photos = [Photo(s.path) for s in good] + [Photo(s.path, axes) for s, axes in bad]
    return TrainingSet(tuple(photos), (*good, *(s for s, _ in bad)), len(good))


class TargetStore:
    """Targets of a training set: ``masks`` [D, 1, H, W] uint8 of its labelled photos at the segmentation
    map's size, ``segmented`` [D] whether there is one."""

    def __init__(
        self, data: TrainingSet, image_hw: Tuple[int, int], map_hw: Tuple[int, int],
        geometry: str = "stretch", reading: Reading = Reading(),  # noqa: B008 (frozen)
    ):
        self._normals, self._map_hw = data.normals, map_hw
        self.masks = torch.zeros(data.defects, 1, *map_hw, dtype=torch.uint8)
        self.segmented = torch.zeros(data.defects, dtype=torch.bool)
        labelled = zip(data.samples[data.normals :], data.photos[data.normals :])
        for i, (sample, photo) in enumerate(labelled):
            if sample.mask is not None:
                mask = fit_mask(read_truth(sample.mask, None, reading), image_hw, geometry)
                self.masks[i] = shrink(np.flip(mask, photo.flip), map_hw)
                self.segmented[i] = True

    def __getitem__(self, index: np.ndarray) -> Targets:
        mask = torch.zeros(len(index), 1, *self._map_hw)
        label = torch.zeros(len(index))
        segmented = torch.ones(len(index), dtype=torch.bool)
        bad = torch.from_numpy(index >= self._normals)
        rows = torch.from_numpy(index[index >= self._normals] - self._normals)
        mask[bad] = self.masks[rows].float()
        label[bad] = 1.0
        segmented[bad] = self.segmented[rows]
        return Targets(mask, label, segmented)


def shrink(mask: np.ndarray, map_hw: Tuple[int, int]) -> Tensor:
    """A bool mask [height, width] at the map's size [1, H, W]: bilinear, then at least a half, as
    published. A thin defect may vanish; its image's label stays."""
    dense = torch.from_numpy(np.ascontiguousarray(mask)).float()[None, None]
    return F.interpolate(dense, size=map_hw, mode="bilinear", align_corners=False)[0] >= 0.5


class BalancedOrder:
    """Batches of as many defective as good photos, reproducible from the seed and the step alone.

    Every epoch shows each defect once in each orientation, but for a remainder that fills no batch,
    and as many good photos, those shown least so far the likeliest (as in SegDecNet and the published
    code). The paper composes each batch of
    equal parts, which is done here; the published code shuffles the balanced epoch, which gives
    equal parts on average. An odd batch takes one more good photo; with too few defects for half a
    batch the good half stays whole.
    """

    def __init__(self, seed: int, normals: int, defects: int, batch: int):
        self._bad = min(batch // 2, defects)
        self.batch = self._bad + batch - batch // 2
        self.per_epoch = defects // self._bad
        self._seed, self._normals, self._defects = seed, normals, defects
        self._epoch, self._shown = -1, np.zeros(normals)
        self._good_order = self._bad_order = np.zeros(0, np.int64)

    def indices(self, step: int) -> np.ndarray:
        """Cache rows of one batch. Steps may be asked for in any order; forward is cheap."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch < self._epoch:
            self._epoch, self._shown = -1, np.zeros(self._normals)
        while self._epoch < epoch:
            self._next_epoch()
        good = self.batch - self._bad
        return np.concatenate(
            [
                self._good_order[position * good : (position + 1) * good],
                self._normals + self._bad_order[position * self._bad : (position + 1) * self._bad],
            ]
        )

    def _next_epoch(self) -> None:
        self._epoch += 1
        rng = np.random.default_rng((self._seed, self._epoch))
        count = self.per_epoch * (self.batch - self._bad)
        chance = inverse_frequency(self._shown)
        again = count > np.count_nonzero(chance)
        self._good_order = rng.choice(self._normals, count, replace=bool(again), p=chance)
        np.add.at(self._shown, self._good_order, 1)
        self._bad_order = rng.permutation(self._defects)


def inverse_frequency(shown: np.ndarray) -> np.ndarray:
    """Chances [N] of good photos that were ``shown`` [N] times: the published code's formula."""
    if not shown.any():
        return np.full(len(shown), 1 / len(shown))
    rarity = 1 - shown / shown.max()
    weight = (rarity - np.median(rarity) + 1) ** (SHARPNESS * np.log(max(len(shown), 2)))
    return weight / weight.sum()


def describe(samples: Sequence[Sample]) -> str:
    """The kind of supervision: ``mixed supervision: 12 defects, 3 without a mask``."""
    bad = [s for s in samples if s.label]
    without = sum(s.mask is None for s in bad)
    if not bad:
        return "unsupervised"
    count = f"{len(bad)} defect{'s' if len(bad) > 1 else ''}"
    if not without:
        return f"supervised: {count}"
    kind = "weak" if without == len(bad) else "mixed"
    return f"{kind} supervision: {count}, {without} without a mask"
