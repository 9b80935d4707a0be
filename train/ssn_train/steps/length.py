"""How long a run is: in steps, in epochs, or in seconds that a measured step fills."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Tuple

from ssn_train.options.settings import Settings
from ssn_train.steps.training_step import milestones

MEASURED = 9
"""Steps that tell how long one takes; the first does not count, it fills caches."""


@dataclass(frozen=True)
class Plan:
    """A run's length in steps and when the learning rates drop."""

    steps: int
    milestones: Tuple[int, ...]

    @classmethod
    def of(
        cls, settings: Settings, per_epoch: int, scheduled: bool, planned: Optional[int] = None
    ) -> Optional[Plan]:
        """None where a budget is to be measured first; ``planned`` steps if it was."""
        if settings.budget is not None and planned is None:
            return None
        steps = settings.steps if settings.budget is None else planned
        if steps is not None:
            drops = milestones(steps)
        else:
            drops = [epoch * per_epoch for epoch in milestones(settings.epochs)]
            steps = settings.epochs * per_epoch
        return cls(steps, tuple(drops) if scheduled else ())


def steps_in(budget: float, per_step: float) -> int:
    """Steps that fill ``budget`` seconds, those that were measured included."""
    return max(2 * MEASURED, math.floor(budget / per_step))
