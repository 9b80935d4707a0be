"""Photos that look like shots of one part: a proposal, where nothing else names the parts.

All photos are compared with all others. Groups are proposed only where photos of one group are clearly nearer
to each other than to any other photo; docs/training.md has the rule, and what it found where the truth is
known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

MOST_PHOTOS = 5000
"""Beyond that nothing is compared: the distances of all pairs would take more than 200 MB."""

GAP = 1.25
"""The first merge that is not done is farther than the last that is by so much."""

LARGEST, SEEN_AGAIN = 1 / 5, 1 / 2
"""Of the photos: no group holds more, and at least so many are in a group of two or more. A few twins among
single photos do not show that parts were photographed several times."""

SAME = 0.01
"""Distances below are the same file twice, as far as float32 can tell."""


@dataclass(frozen=True)
class Proposal:
    """``groups`` [N] int: each photo's, numbered from 0 in the order of their first photos; ``gap`` (the
    first merge left out over the last one done), ``farthest`` the distance in a group and ``nearest``
    between two."""

    groups: Tuple[int, ...]
    gap: float
    farthest: float
    nearest: float

    @property
    def clear(self) -> bool:
        """Whether groups and others are so far apart that the groups may be used."""
        return self.gap >= GAP and self.nearest > self.farthest


def unit_rows(cells: np.ndarray) -> np.ndarray:
    """float32 [N, C * K] of unit length of features [N, C, K] in K places: standardised by channel, less the
    mean photo. Photos that have nothing in common are about sqrt(2) apart."""
    mean, deviation = cells.mean((0, 2), keepdims=True), cells.std((0, 2), keepdims=True)
    found = ((cells - mean) / np.maximum(deviation, 1e-6)).reshape(len(cells), -1)
    found -= found.mean(0)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)


def propose(rows: np.ndarray) -> Proposal:
    """Groups of ``rows`` [N, D] of unit length, N at most MOST_PHOTOS: average linkage, cut where the next
    merge is farthest in proportion, among the cuts that LARGEST and SEEN_AGAIN admit. Every photo alone, with
    a gap of 0, where none is."""
    count = len(rows)
    alone = Proposal(tuple(range(count)), 0.0, 0.0, 0.0)
    if count < 3:
        return alone
    products = squareform(rows @ rows.T, checks=False).astype(np.float64)  # of each pair once
    distances = np.sqrt(np.maximum(2 - 2 * products, 0))
    merges = hierarchy.linkage(distances, "average")
    heights = np.maximum(merges[:, 2], SAME)
    gaps = heights[1:] / heights[:-1]
    largest = np.maximum.accumulate(merges[:-1, 3])
    seen_again = (merges[:-1, :2] < count).sum(1).cumsum()
    gaps[(largest > LARGEST * count) | (seen_again < SEEN_AGAIN * count)] = 0
    cut = int(gaps.argmax())
    if gaps[cut] == 0:
        return alone
    labels = hierarchy.fcluster(merges, merges[cut : cut + 2, 2].mean(), "distance")
    same = squareform(labels[:, None] == labels, checks=False)
    first = {label: number for number, label in enumerate(dict.fromkeys(labels.tolist()))}
    groups = tuple(first[label] for label in labels.tolist())
    return Proposal(groups, float(gaps[cut]), float(distances[same].max()), float(distances[~same].min()))
