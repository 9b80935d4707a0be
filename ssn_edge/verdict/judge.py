"""The verdict: the one rule that turns a score and a map into OK or NG, a mask and regions.

It fails closed. A value is NG unless it is *below* its threshold, so that one equal to the threshold is NG,
and so is one that is not a number. A frame whose score or map is not finite has no verdict at all: it is a
BackendError. Graphs with thresholds (:mod:`ssn_export.bundles.baking`) and the C library are held against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Optional

import numpy as np

from ssn_edge.errors import BackendError
from ssn_edge.frames.placement import Placement
from ssn_edge.model.schema import Verdict
from ssn_edge.verdict.regions import Regions, find_regions

UNUSED = float(np.finfo(np.float32).max)
"""Limit of a source that does not count: what is not finite reaches it all the same."""


class Limits(NamedTuple):
    """The verdict's thresholds as float32 values: below is OK, for the score, the map's maximum and a
    pixel of the mask."""

    score: float
    map_max: float
    pixel: float


class Judgement(NamedTuple):
    """``map_max``: the map's highest logit; ``mask`` uint8 [H, W] 0/1."""

    is_defect: bool
    map_max: float
    mask: np.ndarray
    regions: Regions


@dataclass(frozen=True)
class Judge:
    """Judges by a verdict; pure, so that threads may share one.

    >>> judge = Judge(Verdict("score", 0.5, 2.0, "an example", 0))
    >>> judge.is_defect(0.5, -3.0), judge.is_defect(0.4999, 99.0)     # at the threshold is NG
    (True, False)
    >>> judge.mask(np.array([[1.5, 2.0]], np.float32)).tolist()
    [[0, 1]]
    """

    verdict: Verdict

    @cached_property
    def limits(self) -> Limits:
        """The thresholds as values that float32 numbers are compared with."""
        thresholds = self.verdict.thresholds
        score, map_max = (
            not_below(thresholds[name]) if name in thresholds else UNUSED for name in ("score", "map_max")
        )
        return Limits(score, map_max, not_below(self.verdict.pixel_threshold))

    def peak(self, score: float, anomaly_map: np.ndarray) -> float:
        """The map's maximum. BackendError unless the score and every pixel are finite."""
        low, high = float(anomaly_map.min()), float(anomaly_map.max())
        if not (math.isfinite(score) and math.isfinite(low) and math.isfinite(high)):
            raise BackendError(
                f"score {score:g}, map from {low:g} to {high:g}: not finite, so there is no verdict; compare "
                "with another --backend, and export the model again"
            )
        return high

    def reaches(self, scores: np.ndarray, map_max: np.ndarray) -> np.ndarray:
        """Which values [N] are NG: bool [N]. What is not a number is; whether all are finite is not asked."""
        ok: np.ndarray = (scores < self.limits.score) & (map_max < self.limits.map_max)
        return ~ok

    def is_defect(self, score: float, map_max: float) -> bool:
        """The verdict on values that :meth:`peak` has let pass."""
        return not (score < self.limits.score and map_max < self.limits.map_max)

    def are_defects(self, scores: np.ndarray, map_max: np.ndarray) -> np.ndarray:
        """The verdicts on many frames: bool [N] of two arrays [N]. BackendError unless all are finite."""
        sound = np.isfinite(scores) & np.isfinite(map_max)
        if not sound.all():
            raise BackendError(
                f"{(~sound).sum()} of {len(sound)} images have a score or map that is not finite: there is "
                "no verdict on them"
            )
        return self.reaches(scores, map_max)

    def mask(self, anomaly_map: np.ndarray, out: Optional[np.ndarray] = None) -> np.ndarray:
        """uint8 of the map's shape, in ``out`` if given: 1 where a pixel is not below its threshold."""
        if out is None:
            out = np.empty(anomaly_map.shape, np.uint8)
        below = out.view(np.bool_)
        np.less(anomaly_map, np.float32(self.limits.pixel), out=below)
        np.logical_not(below, out=below)
        return out

    def judge(
        self, score: float, anomaly_map: np.ndarray, placement: Placement,
        mask_out: Optional[np.ndarray] = None,
    ) -> Judgement:
        """The whole verdict on a frame: ``score`` 0..1, ``anomaly_map`` float32 [H, W] logits at the map's
        size, ``placement`` of the frame that it was made of. BackendError where something is not finite."""
        map_max = self.peak(score, anomaly_map)
        mask = self.mask(anomaly_map, mask_out)
        regions = find_regions(anomaly_map, mask, placement)
        return Judgement(self.is_defect(score, map_max), map_max, mask, regions)


def not_below(threshold: float) -> float:
    """The smallest float32 that is not below the threshold: comparing float32 values with it is comparing
    them with the threshold itself, in every library and on every device."""
    with np.errstate(over="ignore"):
        value = np.float32(threshold)
        return float(value if float(value) >= threshold else np.nextafter(value, np.float32(np.inf)))
