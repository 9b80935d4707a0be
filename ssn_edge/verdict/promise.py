"""What a threshold promises: split-conformal bounds on the share of sound parts that it calls NG.

Take the numbers (one a part, the higher the worse) of n sound parts that the model has never seen, and call
NG what is *above* the k-th largest. A sound part to come, exchangeable with them, is above it with
probability k / (n + 1) on average over calibrations; over them that probability is distributed as Beta(k, n +
1 - k) at most (exactly where no numbers tie; ties only lower it). Vovk, Gammerman and Shafer, "Algorithmic
Learning in a Random World", 2005; Lei et al., JASA 113 (2018), section 2; the bound is Clopper and Pearson's,
1934.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from ssn_edge.errors import InputError

CONFIDENCE = 0.95

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""The first is what "auto" promises where the parts allow it; the others are steps on the way."""

GUARANTEE = (
    "holds for sound parts like those it was calibrated on; not for another lamp, lens, lot or camera"
)


NOTES = {
    "photos": "",
    "frames": ", of which neighbours are not independent, so that the confidence is less than stated",
}
"""What is added to a promise that does not count parts."""


@dataclass(frozen=True)
class Promise:
    """The ``k``-th largest of ``n`` sound parts (or photos, ``unit``) is the threshold: NG is above it.

    >>> promise = Promise(n=240, k=2)
    >>> promise.words
    'on average at most 0.83 of 100 sound parts; with 95 % confidence at most 2.0 %; 240 parts'
    """

    n: int
    k: int
    confidence: float = CONFIDENCE
    unit: str = "parts"

    def __post_init__(self) -> None:
        whole = type(self.n) is type(self.k) is int and isinstance(self.unit, str)
        if not whole or not 1 <= self.k <= self.n or not 0.5 <= self.confidence < 1:
            raise InputError(f"the {self.k}-th largest of {self.n}, confidence {self.confidence}: none")

    @property
    def on_average(self) -> float:
        """Expected share of sound parts that alarm."""
        return self.k / (self.n + 1)

    @property
    def at_most(self) -> float:
        """The share that is not exceeded with ``confidence``."""
        return upper_bound(self.k, self.n, self.confidence)

    @property
    def words(self) -> str:
        """Exactly what is promised."""
        certain, average = sure(self.confidence), rounded_up(self.on_average)
        return (
            f"on average at most {float(average):g} of 100 sound {self.unit}; with {certain} confidence at "
            f"most {per_cent(self.at_most)}; {self.n} {self.unit}{NOTES.get(self.unit, '')}"
        )

    def more(self, confidence: Optional[float] = None) -> str:
        """What the next of LEVELS and the lowest take, on average or with ``confidence``; "" where nothing is
        left to be wished for."""
        held = self.on_average if confidence is None else upper_bound(self.k, self.n, confidence)
        wanted = [one for one in LEVELS if one < held - 1e-12]
        if not wanted:
            return ""
        chosen = sorted({min(wanted), max(wanted)}, reverse=True)
        how = "on average" if confidence is None else f"with {sure(confidence)} confidence"
        return ", ".join(f"{100 * one:g} % {how} takes {parts_for(one, confidence)}" for one in chosen)


def sure(confidence: float) -> str:
    """In per cent, never rounded to all.

    >>> sure(0.95), sure(0.9999999)
    ('95 %', '99.99999 %')
    """
    return f"{100 * confidence:.12g} %"


def per_cent(share: float) -> str:
    """One decimal, below 1 % two digits, rounded up: a promise must not be rounded to less.

    >>> per_cent(2 / 241), per_cent(0.0196), per_cent(0.2209), per_cent(0.009999)
    ('0.83 %', '2.0 %', '22.1 %', '1.0 %')
    """
    return f"{rounded_up(share)} %"


def rounded_up(share: float) -> str:
    """:func:`per_cent` without its sign."""
    value = math.ceil(1e6 * share - 1e-6) / 1e4
    for digits in (1, 2, 3, 4):
        rounded = math.ceil(value * 10**digits - 1e-6) / 10**digits
        if rounded >= 10 ** (1 - digits):
            break
    return f"{rounded:.{digits}f}"


def choose(n: int, level: Optional[float] = None, confidence: Optional[float] = None,
           unit: str = "parts") -> Promise:
    """The largest k that ``n`` allow at ``level``: on average, or with ``confidence`` where given. Level
    None: 1 % where they allow it, else the least that they can promise, by the largest number.

    InputError where they cannot promise ``level``, with how many could.
    """
    if n < 1:
        raise InputError(f"no sound {unit} to calibrate on")
    k = largest_k(n, LEVELS[0] if level is None else level, confidence)
    if k:
        return Promise(n, k, confidence or CONFIDENCE, unit)
    least = Promise(n, 1, confidence or CONFIDENCE, unit)
    if level is None:
        return least
    raise InputError(
        f"{100 * level:g} % false alarms: {n} sound {unit} cannot promise that ({least.words}); it needs "
        f"{parts_for(level, confidence)}"
    )


def largest_k(n: int, level: float, confidence: Optional[float] = None) -> int:
    """0 where not even the largest number of ``n`` parts promises ``level``."""
    if confidence is None:
        return min(n, math.floor(level * (n + 1) + 1e-9))
    low, high = 0, n + 1  # the bound grows with k: low holds, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if upper_bound(middle, n, confidence) <= level else (low, middle)
    return low


def parts_for(level: float, confidence: Optional[float] = None) -> int:
    """The fewest sound parts that can promise ``level``."""
    if not 0 < level < 1:
        raise InputError(f"{100 * level:g} % false alarms: give more than 0 and less than 100 %")
    if confidence is not None:  # their largest number's bound is 1 - (1 - confidence) ** (1 / n)
        return math.ceil(math.log(1 - confidence) / math.log1p(-level) - 1e-9)
    return math.ceil(1 / level - 1 - 1e-9)


def upper_bound(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The ``confidence`` quantile of Beta(k, n + 1 - k): where a binomial of n has k or more with it."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_least(k, n, middle) < confidence else (low, middle)
    return high


def interval(count: int, n: int, confidence: float = CONFIDENCE) -> Tuple[float, float]:
    """Clopper and Pearson's two-sided interval of a share that was seen ``count`` times in ``n``.

    >>> [round(end, 4) for end in interval(0, 53)]
    [0.0, 0.0672]
    """
    tail = (1 - confidence) / 2
    low = upper_bound(count, n, tail) if count else 0.0
    return low, upper_bound(count + 1, n, 1 - tail) if count < n else 1.0


def at_least(k: int, n: int, share: float) -> float:
    """The probability that a binomial of ``n`` at ``share`` is ``k`` or more."""
    if share <= 0 or share >= 1:
        return float(k <= 0 or share >= 1)
    counts = range(k) if 2 * k <= n else range(k, n + 1)
    logs = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        + i * math.log(share) + (n - i) * math.log1p(-share)
        for i in counts
    ]
    total = math.fsum(math.exp(value) for value in logs)
    return min(1.0, max(0.0, 1 - total if 2 * k <= n else total))


def estimate_at(values: np.ndarray, limit: float, confidence: float = CONFIDENCE) -> float:
    """What share of sound parts is above ``limit``, at most, with ``confidence`` for every limit at once: so
    that it holds for one that was chosen after looking at the numbers, as an order statistic fixed before
    does not. The one-sided inequality of Dvoretzky, Kiefer and Wolfowitz with Massart's constant (1990): the
    share of ``values`` above, and sqrt(log(1 / (1 - confidence)) / 2n).

    >>> round(estimate_at(np.arange(240.0), 237.5), 4)
    0.0873
    """
    above_it = float(np.mean(np.asarray(values) > limit))
    return min(1.0, above_it + math.sqrt(math.log(1 / (1 - confidence)) / (2 * len(values))))


def kth_largest(values: np.ndarray, k: int) -> float:
    """The order statistic. InputError for values that are not finite."""
    if not np.isfinite(values).all():
        raise InputError("numbers that are not finite calibrate nothing; train again")
    return float(np.sort(values)[len(values) - k])


def above(value: float) -> float:
    """The smallest float32 above ``value``: what reaches it is NG, so a tie with the order statistic is OK
    (sigmoids saturate, half precision and INT8 quantise)."""
    nearest = np.float32(value)
    return float(nearest if float(nearest) > value else np.nextafter(nearest, np.float32(np.inf)))
