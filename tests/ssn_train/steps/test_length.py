"""How long a run is, and when its rates drop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_train.options.settings import Settings
from ssn_train.steps.length import MEASURED, Plan, steps_in


def settings(**changes):
    return Settings("resnet18", **changes)


def test_steps_epochs_and_a_budget():
    assert Plan.of(settings(epochs=10), 7, True) == Plan(70, (56, 63))  # whole epochs: 8 and 9
    assert Plan.of(settings(epochs=10, steps=30), 7, True) == Plan(30, (24, 27))
    assert Plan.of(settings(steps=30), 7, scheduled=False) == Plan(30, ())
    assert Plan.of(settings(epochs=10, budget=60.0), 7, True) is None  # to be measured first
    assert Plan.of(settings(steps=300, budget=60.0), 7, True, 50) == Plan(50, (40, 45))
    assert Plan.of(settings(steps=30), 7, True, 50) == Plan(30, (24, 27))  # planned belongs to a budget


def test_epochs_drop_at_epochs_and_steps_at_steps():
    """0.8 and 0.9 of 3 epochs, rounded: 2 and 3, the end, not 2.4 and 2.7 of them in steps."""
    assert Plan.of(settings(epochs=3), 100, True) == Plan(300, (200, 300))
    assert Plan.of(settings(steps=300), 100, True) == Plan(300, (240, 270))


@pytest.mark.parametrize("budget, per_step, expected", [
    (60, 0.5, 120), (60, 0.7, 85), (60, 59.0, 2 * MEASURED), (0.001, 1.0, 2 * MEASURED),
])
def test_a_budget_in_steps(budget, per_step, expected):
    assert steps_in(budget, per_step) == expected


@given(st.floats(1e-3, 1e6), st.floats(1e-5, 1e3))
def test_a_budget_is_filled_and_not_exceeded(budget, per_step):
    """But for the few steps without which nothing is learnt."""
    steps = steps_in(budget, per_step)
    assert steps >= 2 * MEASURED
    if steps > 2 * MEASURED:
        assert steps * per_step <= budget * (1 + 1e-12) and (steps + 1) * per_step > budget * (1 - 1e-12)
