"""Thresholds from what a model says of sound parts that it has never seen. Pure: arrays in, a verdict out.

One number a part: the maximum over its shots of what the verdict compares; of two sources the larger of both,
each standardised by constants that were fixed before. Its k-th largest over the parts is the limit, once, so
that both thresholds of "either", and the mask that goes with them, hold one rate together
(:mod:`ssn_edge.verdict.promise`).
"""

from __future__ import annotations

import math
from typing import Dict, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.model.schema import Verdict
from ssn_edge.verdict import promise
from ssn_edge.verdict.promise import Promise

Scales = Tuple[float, float, float, float]
"""Middle and spread of the score's logits, then of the map's maximum (``Verdict.scales``)."""


SLACK = 1e-12
"""Of standardised numbers."""


class Calibrated(NamedTuple):
    """``values`` float64 [n], ascending: one number a part; ``most_shots`` that a part had."""

    verdict: Verdict
    promise: Promise
    values: np.ndarray
    most_shots: int

    @property
    def blind(self) -> bool:
        """Whether nothing could be NG: the limit is the largest score there is."""
        return self.verdict.source == "score" and self.verdict.image_threshold > 1


def calibrate(
    scores: np.ndarray, map_max: np.ndarray, parts: Sequence[str], source: str, scales: Optional[Scales],
    level: Optional[float] = None, confidence: Optional[float] = None, unit: str = "parts",
) -> Calibrated:
    """A verdict by ``source`` from sound shots: ``scores`` [N] and ``map_max`` [N] with the part that each is
    of ("": of its own). ``scales`` as of :func:`scales_of`, needed for "either"; ``level`` and ``confidence``
    as of :func:`ssn_edge.verdict.promise.choose`, ``unit`` what a part is called.

    With "score" the mask has a threshold of its own, the k-th largest of the parts' map maxima: a sound part
    has a mask as seldom as it alarms, not both together. InputError where the parts cannot promise ``level``,
    and for numbers that are not finite.
    """
    values = by_part(numbers(source, scales, scores, map_max), parts)
    promised = promise.choose(len(values), level, confidence, unit)
    limit = promise.kth_largest(values, promised.k)
    pixel = None
    if source == "score":
        peaks = by_part(np.asarray(map_max, np.float64), parts)
        pixel = promise.above(promise.kth_largest(peaks, promised.k))
    words = f"{promised.words}; {promise.GUARANTEE}"
    verdict = verdict_above(limit, source, scales, pixel, words, promised.n)
    return Calibrated(verdict, promised, np.sort(values), most_shots(parts))


def verdict_above(
    limit: float, source: str, scales: Optional[Scales], pixel: Optional[float], method: str, n: int
) -> Verdict:
    """The verdict that calls NG what is above ``limit``, a number of :func:`numbers`; the mask's threshold is
    the map's, with "score" ``pixel``."""
    if source != "either":
        own = promise.above(limit)
        return Verdict(source, own, own if pixel is None else pixel, method, n)
    found = needed(scales)
    first, second = _beyond("score", limit, *found[:2]), _beyond("map_max", limit, *found[2:])
    return Verdict(source, first, second, method, n, second, scales)


def numbers(
    source: str, scales: Optional[Scales], scores: np.ndarray, map_max: np.ndarray
) -> np.ndarray:
    """float64 [N]: what a verdict by ``source`` compares, one number a shot."""
    if source != "either":
        return np.asarray({"score": scores, "map_max": map_max}[source], np.float64)
    found = needed(scales)
    both = _standard("score", scores, *found[:2]), _standard("map_max", map_max, *found[2:])
    return np.asarray(np.maximum(*both))


def by_part(values: np.ndarray, parts: Sequence[str]) -> np.ndarray:
    """The largest value of each part, float64 [n]: a part alarms if one of its shots does."""
    groups = indices(parts)
    largest = np.full(count(parts), -np.inf)
    with np.errstate(invalid="ignore"):
        np.maximum.at(largest, groups, values)  # a NaN stays one
    return largest


def indices(parts: Sequence[str]) -> np.ndarray:
    """The number of each shot's part, int [N], counted from 0; one without a name is a part of its own."""
    known: Dict[Union[str, int], int] = {}
    keys = [part or number for number, part in enumerate(parts)]
    return np.array([known.setdefault(key, len(known)) for key in keys], np.int64)


def count(parts: Sequence[str]) -> int:
    """How many parts the shots are of."""
    return int(indices(parts).max(initial=-1)) + 1


def most_shots(parts: Sequence[str]) -> int:
    """Of one part."""
    return int(np.bincount(indices(parts)).max(initial=0))


def scales_of(scores: np.ndarray, map_max: np.ndarray) -> Scales:
    """Median and spread of both sources, of photos that are not calibrated on."""
    return (*_scale("score", scores), *_scale("map_max", map_max))


def rescaled(
    scores: np.ndarray, map_max: np.ndarray, theirs: Scales, ours: Scales
) -> Tuple[np.ndarray, np.ndarray]:
    """What other heads said, float64 [N] each, as if these had said it: by middle and spread of both sources
    under each. Where heads differ by more than that, numbers of theirs calibrate nothing of ours."""
    logit = ours[0] + ours[1] * _standard("score", scores, *theirs[:2])
    peak = ours[2] + ours[3] * _standard("map_max", map_max, *theirs[2:])
    return 1 / (1 + np.exp(-np.clip(logit, -700, 700))), peak


def needed(scales: Optional[Scales]) -> Scales:
    """InputError where there are none: of a model that judges by either source, from before they were kept.
    """
    if scales is None:
        raise InputError(
            "this model judges by either of two sources and does not say how they compare; train and "
            "export it with this version"
        )
    return scales


def _scale(name: str, values: np.ndarray) -> Tuple[float, float]:
    """Median and spread of a source's logits, never 0."""
    logits = _logits(name, values)
    middle = float(np.median(logits))
    spread = 1.4826 * float(np.median(np.abs(logits - middle)))  # of normal numbers: their deviation
    return middle, spread or float(logits.std()) or 1.0


def _standard(name: str, values: np.ndarray, middle: float, spread: float) -> np.ndarray:
    return (_logits(name, values) - middle) / spread


def _logits(name: str, values: np.ndarray) -> np.ndarray:
    """The map's are; a score's, whose sigmoid may have saturated."""
    wide = np.asarray(values, np.float64)
    if name == "map_max":
        return wide
    inside = np.clip(wide, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(inside / (1 - inside)))


def _beyond(name: str, limit: float, middle: float, spread: float) -> float:
    """The smallest float32 whose standardised logit is above ``limit``; of scores at most the next above
    1, and 0 where every score is above it. What differs in the last place alone is not above: numpy's
    logarithm of one value and of many may."""
    limit += SLACK * max(1.0, abs(limit))
    if name == "score" and _standard(name, np.float32(0), middle, spread) > limit:
        return 0.0  # scores near 0 count as one: a search among them would have no end
    logit = middle + spread * limit
    value = np.float32(logit if name == "map_max" else 1 / (1 + math.exp(-max(logit, -700.0))))
    up, top = np.float32(np.inf), np.float32(1) if name == "score" else np.float32(np.inf)
    while _standard(name, value, middle, spread) > limit:
        value = np.nextafter(value, -up)
    while value <= top and _standard(name, value, middle, spread) <= limit:
        value = np.nextafter(value, up)
    return float(value)
