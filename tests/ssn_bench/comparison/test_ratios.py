"""Intervals against simulations with a known truth, ranking against its definition."""

import numpy as np
import pytest

from ssn_bench.comparison import ratios
from ssn_bench.report import compare
from ssn_edge.errors import InputError


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


def document(ms, machine=1.0, device="a CPU", name="m"):
    rng = np.random.default_rng(3)
    wall = (ms * rng.lognormal(0, 0.03, 60)).tolist()
    env = {"versions": {"numpy": "1"}, "processors": 2, "affinity": [0, 1], "threads": {}, "governor": None}
    return {
        "schema": 2, "kind": "timing", "environment": env, "shortened": False,
        "protocol": {"name": "efficientad"}, "contenders": [{"device": device}],
        "samples": {"latency": {"wall": {name: wall}, "machine": [machine] * 20}},
    }


@pytest.mark.parametrize(("ms", "machine", "verdict"), [
    (10, 1.0, "same"), (14, 1.0, "slower"), (7, 1.0, "faster"),
    (14, 1.4, "same"),  # the whole machine was slower
    (10.2, 1.0, "same"),
])
def test_compare(ms, machine, verdict):
    rows = compare.compare(document(10), document(ms, machine))
    assert [row["verdict"] for row in rows] == [verdict]


def test_compare_refuses():
    with pytest.raises(InputError, match="not comparable"):
        compare.compare(document(1), document(1, device="another"))
    with pytest.raises(InputError, match="no contender in common"):
        compare.compare(document(1), document(1, name="n"))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 1}', "null"])
def test_compare_reads_timing_runs_alone(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError, match="x.json"):
        compare.load(path)
