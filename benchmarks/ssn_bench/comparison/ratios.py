"""Who is faster, and by how much: ratios within rounds with bootstrap intervals, and a ranking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """How many times as long one takes as another, with its interval at :data:`LEVEL`."""

    value: float
    low: float
    high: float

    @property
    def distinguishable(self) -> bool:
        return not self.low <= 1 <= self.high


def paired(numerator: np.ndarray, denominator: np.ndarray, seed: int = 0) -> Ratio:
    """Median over rounds of one's time over the other's; [rounds] milliseconds each.

    Within a round the machine's mood is the same for both, so slow drifts cancel. What is left of
    them makes neighbouring rounds alike, so the bootstrap draws blocks of rounds (circular block
    bootstrap, Politis and Romano 1992; length the cube root of their number).
    """
    logs = np.log(numerator) - np.log(denominator)
    return _ratio(float(np.median(logs)), _resampled(logs, np.random.default_rng(seed)))


def unpaired(*parts: np.ndarray, seed: int = 0) -> Ratio:
    """``a / b`` of two runs' medians, or ``(a / b) / (c / d)`` of four, each bootstrapped apart."""
    rng = np.random.default_rng(seed)
    signs = (1, -1, -1, 1)
    logs = [np.log(part) for part in parts]
    value = sum(sign * float(np.median(part)) for sign, part in zip(signs, logs))
    resampled = [sign * _resampled(part, rng) for sign, part in zip(signs, logs)]
    return _ratio(value, np.sum(resampled, axis=0))


def _resampled(logs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Medians [RESAMPLES] of block-bootstrapped copies."""
    count = len(logs)
    length = max(1, round(count ** (1 / 3)))
    starts = rng.integers(0, count, (RESAMPLES, -(-count // length), 1))
    index = ((starts + np.arange(length)) % count).reshape(RESAMPLES, -1)[:, :count]
    return np.median(logs[index], axis=1)


def _ratio(value: float, resampled: np.ndarray) -> Ratio:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail))
    return Ratio(*(float(np.exp(v)) for v in (value, low, high)))


def rank(samples: Mapping[str, np.ndarray]) -> List[Dict[str, Any]]:
    """Fastest first: each one's ratio to the fastest, and the faster ones it cannot be told from."""
    order = sorted(samples, key=lambda name: float(np.median(samples[name])))
    rows = []
    for place, name in enumerate(order):
        to_fastest = paired(samples[name], samples[order[0]])
        alike = [
            other for other in order[:place]
            if not paired(samples[name], samples[other]).distinguishable
        ]
        rows.append({
            "name": name,
            "ratio": to_fastest.value,
            "interval": [to_fastest.low, to_fastest.high],
            "indistinguishable_from": alike,
        })
    return rows


def pairs(samples: Mapping[str, np.ndarray]) -> Dict[str, Dict[str, Tuple[float, float, float]]]:
    """Every ratio with its interval: ``[a][b]`` is a's time over b's."""
    table: Dict[str, Dict[str, Tuple[float, float, float]]] = {}
    for a in samples:
        for b in samples:
            if a != b:
                ratio = paired(samples[a], samples[b])
                table.setdefault(a, {})[b] = (ratio.value, ratio.low, ratio.high)
    return table
