"""Training from single positions of the map: a step's batch comes from the whole training set.

The segmentation head is a function of one position's features, so nothing but time is gained by seeing a
whole photo at once: 2,048 positions of as many photos say more of the data than two photos' 2,048. A region's
shape is invisible to the head too; what the Perlin masks (section 3.3) decide is which positions are
perturbed, and drawn uniformly they have the same distribution. What differs from the published step is the
mixture: normal, synthetic and real defective positions come in equal numbers, of which BatchNorm keeps the
statistics (:func:`settle`).

The classification head needs whole maps (:func:`classification_loss`). It learns from the segmentation head
as that is, without changing it, whatever the supervision.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssn_train.network import anomalies, losses
from ssn_train.network.model import LEAKY_SLOPE, SuperSimpleNet
from ssn_train.network.operators import pooled_upscale
from ssn_train.steps.training_step import Draws

BATCH = 2048
"""Positions of a step."""

SETTLING = 50
"""Batches whose statistics BatchNorm keeps at the end."""


class Reader:
    """Standardised, upscaled and pooled features of single positions, from raw ``levels`` [N, h_l, w_l, C_l].

    ``shift`` and ``scale`` [C] standardise; the map has ``map_hw``. A row of the pooled upscaling has three
    or four taps, so that a position costs a few rows of each level.
    """

    def __init__(
        self, levels: Sequence[np.ndarray], map_hw: Tuple[int, int], shift: Tensor, scale: Tensor
    ):
        self.map_hw, self._shift, self._scale = map_hw, shift.cpu(), scale.cpu()
        self._levels = [torch.from_numpy(level) for level in levels]
        self._taps = [
            [_taps(pooled_upscale(n, m)) for n, m in zip(level.shape[1:3], map_hw)] for level in levels
        ]

    def read(self, photos: Tensor, positions: Tensor) -> Tensor:
        """Features [K, C] of ``positions`` [K], flat in the map, of ``photos`` [K], both int64."""
        row, column = positions // self.map_hw[1], positions % self.map_hw[1]
        parts, start = [], 0
        for level, ((at_row, by_row), (at_column, by_column)) in zip(self._levels, self._taps):
            _, height, width, channels = level.shape
            lines = (photos[:, None] * height + at_row[row])[:, :, None]  # [K, taps, 1]
            index = (lines * width + at_column[column][:, None]).flatten(1)  # [K, taps taps']
            weight = (by_row[row][:, :, None] * by_column[column][:, None]).flatten(1)
            part = F.embedding_bag(index, level.view(-1, channels), per_sample_weights=weight, mode="sum")
            own = slice(start, start + channels)
            parts.append((part - weight.sum(1, keepdim=True) * self._shift[own]) * self._scale[own])
            start += channels
        return torch.cat(parts, dim=1)


def _taps(matrix: np.ndarray) -> Tuple[Tensor, Tensor]:
    """The non-zeros of each row: columns int64 and weights float32, both [n_out, taps], filled up with
    zeros."""
    count = int((matrix != 0).sum(axis=1).max())
    columns = np.sort(np.argsort(matrix == 0, axis=1, kind="stable")[:, :count], axis=1)
    weights = np.take_along_axis(matrix, columns, axis=1)
    return torch.from_numpy(columns), torch.from_numpy(weights).float()


class Batch(NamedTuple):
    """``features`` [K, C] of which the first have ``noise`` [K', C], to be added behind the adaptor;
    ``target`` [K] 0/1."""

    features: Tensor
    noise: Tensor
    target: Tensor

    def to(self, device: str) -> Batch:
        return Batch(*(part.to(device) for part in self))


class Sampler:
    """Batches of ``batch`` positions: as many synthetic as normal and as real defective ones.

    ``normals`` good photos come first in ``reader``'s; ``masks`` [D, 1, H, W] are those of the others, used
    where ``segmented`` [D]. Half of the normal positions are then of defective photos, and their target is
    what the mask says.
    """

    def __init__(
        self, reader: Reader, normals: int, masks: Tensor, segmented: Tensor, noise_std: float,
        batch: int = BATCH,
    ):
        self._reader, self._normals, self._noise_std, self._batch = reader, normals, noise_std, batch
        self._masks = masks.flatten(1)
        self._known = segmented.nonzero()[:, 0]
        rows, places = (self._masks[self._known] > 0).nonzero(as_tuple=True)
        self._defective = torch.stack([self._known[rows], places])  # [2, P]

    def draw(self, generator: torch.Generator, synthetic: bool = True) -> Batch:
        """A batch; without ``synthetic`` anomalies the real ones take their place."""
        kinds = 1 + bool(synthetic) + bool(self._defective.shape[1])
        each = self._batch // kinds
        noisy = each if synthetic else 0
        clean = self._batch - (kinds - 1) * each
        shown = clean // 2 if len(self._known) else 0  # of the normal ones, on defective photos
        photos, places = self._uniform(noisy + clean - shown, self._normals, generator)
        parts = [(photos, places, torch.zeros(len(photos)))]
        parts[0][2][:noisy] = 1
        if shown:
            chosen, places = self._uniform(shown, len(self._known), generator)
            rows = self._known[chosen]
            parts.append((self._normals + rows, places, (self._masks[rows, places] > 0).float()))
        if self._defective.shape[1]:
            count = self._batch - noisy - clean
            pick = torch.randint(self._defective.shape[1], (count,), generator=generator)
            rows, places = self._defective[:, pick]
            parts.append((self._normals + rows, places, torch.ones(count)))
        photos, places, target = (torch.cat(column) for column in zip(*parts))
        features = self._reader.read(photos, places)
        noise = torch.randn(noisy, features.shape[1], generator=generator) * self._noise_std
        return Batch(features, noise, target)

    def _uniform(self, count: int, photos: int, generator: torch.Generator) -> Tuple[Tensor, Tensor]:
        height, width = self._reader.map_hw
        return (
            torch.randint(photos, (count,), generator=generator),
            torch.randint(height * width, (count,), generator=generator),
        )


def seg_logits(model: SuperSimpleNet, batch: Batch, momentum: float) -> Tensor:
    """The segmentation head's logits [K], in training mode; BatchNorm's running statistics follow the
    batch's by ``momentum``."""
    conv, norm, last = model.discriminator.seg_layers
    adapted = batch.features
    if model.shape.adaptor:
        adaptor = model.feature_adaptor.projection
        adapted = F.linear(adapted, adaptor.weight[:, :, 0, 0], adaptor.bias)
    noisy = len(batch.noise)
    adapted = torch.cat([adapted[:noisy] + batch.noise, adapted[noisy:]])
    hidden = F.linear(adapted, conv.weight[:, :, 0, 0], conv.bias)
    hidden = F.batch_norm(
        hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, momentum, norm.eps
    )
    return F.leaky_relu(hidden, LEAKY_SLOPE) @ last.weight[0, :, 0, 0]


def loss(model: SuperSimpleNet, batch: Batch) -> losses.Loss:
    """The map's three terms; the classification's is 0."""
    momentum = model.discriminator.seg_layers[1].momentum
    assert momentum is not None
    logits = seg_logits(model, batch, momentum)
    terms = losses.segmentation(logits, batch.target, torch.ones_like(logits))
    return losses.Loss(*terms, torch.zeros_like(terms[0]))


def settle(model: SuperSimpleNet, batches: Iterable[Batch]) -> None:
    """BatchNorm's statistics of the segmentation head: the plain mean over ``batches``, since the running
    ones have seen weights that are gone."""
    with torch.no_grad():
        for number, batch in enumerate(batches, start=1):
            seg_logits(model, batch, 1 / number)


def classification_loss(
    model: SuperSimpleNet, features: Sequence[Tensor], draws: Draws, mask: Tensor, label: Tensor
) -> Tensor:
    """The classification head's focal loss on whole maps of both copies (section 3.5): raw ``features``
    [B, C_l, h_l, w_l], real defects' ``mask`` [B, 1, H, W] and ``label`` [B]. Nothing else gets a
    gradient."""
    regions = anomalies.noise_regions(draws.perlin_mask, mask, overlap=False)
    noise = draws.dense()
    heads = model.discriminator
    with torch.no_grad():
        adapted, seen = (anomalies.add_noise(x, noise, regions) for x in model.head_inputs(features))
        heads.seg.eval()
        seg = heads.seg(adapted)
        heads.seg.train()
    _, new_label = anomalies.targets(mask, label, regions)
    return losses.focal(heads.classify(seen, seg), new_label).mean()


