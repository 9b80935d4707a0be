"""What a threshold costs and catches: sound parts against known defects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np

from ssn_edge.verdict.promise import CONFIDENCE, interval


@dataclass(frozen=True)
class Trade:
    """Of ``parts`` defective ones ``caught`` are above the limit; the lowest of them has the number
    ``lowest``, and ``sound_above`` of ``sound`` parts have that or more: what it costs to catch all of them.
    ``highest`` is the highest sound part's."""

    parts: int
    caught: int
    lowest: float
    sound_above: int
    sound: int
    highest: float

    @property
    def caught_interval(self) -> Tuple[float, float]:
        """Of the share that is caught, two-sided, 95 %; the limit was set by other parts."""
        return interval(self.caught, self.parts)

    @property
    def sound_interval(self) -> Tuple[float, float]:
        """Of the share of sound parts that would alarm, if all of these defects are to be caught."""
        return interval(self.sound_above, self.sound)

    def lines(self, unit: str) -> List[str]:
        """In words."""
        gap = self.lowest - self.highest
        apart = (
            f"gap: the lowest defect is {gap:.4g} above the highest sound one"
            if gap > 0 else
            f"overlap: {self.sound_above} of {self.sound} sound {unit} reach the lowest defect"
        )
        return [
            f"{self.caught} of {self.parts} defective {unit} are caught ({_shown(self.caught_interval)})",
            f"to catch all of them, {self.sound_above} of {self.sound} sound {unit} would alarm "
            f"({_shown(self.sound_interval)})",
            apart,
        ]


def _shown(found: Tuple[float, float]) -> str:
    return f"{100 * CONFIDENCE:g} % interval: {100 * found[0]:.1f} to {100 * found[1]:.1f} %"


def trade(limit: float, sound: np.ndarray, defects: np.ndarray) -> Trade:
    """``sound`` [n] and ``defects`` [m] are numbers of parts (:func:`ssn_edge.verdict.calibrating.by_part`);
    NG is above ``limit``."""
    lowest = float(defects.min())
    return Trade(
        len(defects), int((defects > limit).sum()), lowest, int((sound >= lowest).sum()), len(sound),
        float(sound.max()),
    )
