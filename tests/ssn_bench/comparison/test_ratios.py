"""Intervals against simulations with a known truth, ranking against its definition."""

import numpy as np
import pytest

from ssn_bench.comparison import ratios


def drifting(rng, count):
    """A machine's mood: slow phases, shared by whoever runs in the same round."""
    return np.exp(0.3 * np.sin(np.arange(count) / 15 + rng.uniform(0, 6)))


def test_intervals_cover_the_truth():
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        mood = drifting(rng, 150)
        a, b = (ms * mood * rng.lognormal(0, 0.1, 150) for ms in (21.0, 20.0))
        found = ratios.paired(a, b)
        hits += found.low <= 1.05 <= found.high
    assert hits >= 88  # of 100, 95 expected


def test_pairing_beats_the_drift():
    rng = np.random.default_rng(1)
    mood = drifting(rng, 200)
    a, b = 21.0 * mood * rng.lognormal(0, 0.01, 200), 20.0 * mood * rng.lognormal(0, 0.01, 200)
    assert ratios.paired(a, b).distinguishable
    assert not ratios.unpaired(a, b).distinguishable


def test_ranking_says_indistinguishable():
    rng = np.random.default_rng(4)
    samples = {name: ms * rng.lognormal(0, 0.05, 100) for name, ms in (("c", 30), ("a", 10), ("b", 10))}
    rows = {row["name"]: row for row in ratios.rank(samples)}
    assert [row["name"] for row in ratios.rank(samples)][2] == "c"
    assert rows["c"]["indistinguishable_from"] == []
    assert rows["c"]["ratio"] == pytest.approx(3, rel=0.05)
    second = ratios.rank(samples)[1]
    assert len(second["indistinguishable_from"]) == 1
    table = ratios.pairs(samples)
    assert table["c"]["a"][0] == pytest.approx(1 / table["a"]["c"][0])
