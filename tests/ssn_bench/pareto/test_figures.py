"""Weighted figures against scikit-learn on photos that are really repeated, and intervals."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ssn_bench.pareto import figures

RNG = np.random.default_rng(3)


def document(values, labels, parts, split="first", **more):
    return {
        "map_max": list(values), "score": list(values), "labels": list(labels), "parts": list(parts),
        "split": split, "verdict_source": "map_max", "AUPRO": 0.5, "seconds": 1.0, "device": "cpu", **more,
    }


def some(count=60, shift=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3 == 0
    values = np.round(rng.normal(size=count) + shift * labels, 1)  # rounded: ties
    return document(values.tolist(), labels.astype(int).tolist(), [f"tile{i // 4}" for i in range(count)])


def test_weights_are_repetitions():
    tested = figures.Tested(some())
    weights = RNG.integers(0, 4, (5, 60))
    expected = [
        roc_auc_score(np.repeat(tested.labels, w), np.repeat(tested.values, w)) for w in weights
    ]
    np.testing.assert_allclose(tested.aurocs(weights), expected, atol=1e-12)


def test_parts_are_drawn_whole_and_alike_for_all_candidates():
    one, other = figures.Tested(some(seed=1)), figures.Tested(some(seed=2))
    weights = figures.drawn(one, 50)
    np.testing.assert_array_equal(weights, figures.drawn(other, 50))
    assert (weights[0] == 1).all() and (weights.sum(axis=1) == 60).all()  # 15 parts of four
    for part in range(15):
        photos = weights[:, one.parts == part]
        assert (photos == photos[:, :1]).all()


@pytest.mark.parametrize(
    ("rate", "share"),
    [
        (0.0, 1 / 4),  # above all ten sound parts: 10.5 alone
        (0.1, 2 / 4),  # one may alarm, and 10 is it: above 9
        (0.25, 3 / 4),  # two of ten: above 8; what equals a sound part that may not alarm is OK
    ],
)
def test_caught_where_so_many_sound_parts_alarm(rate, share):
    sound = np.repeat(np.arange(1.0, 11), 2)  # ten parts of two photos, the second the better one
    sound[1::2] -= 0.5
    values = [*sound, 10.5, 9.2, 8.3, 8.0]
    parts = [*(f"s{i // 2}" for i in range(20)), "d0", "d1", "d2", "d2"]
    tested = figures.Tested(document(values, [0] * 20 + [1] * 4, parts))
    assert tested.caught(np.ones((1, 24)), rate)[0] == pytest.approx(share)


def test_a_good_photo_of_a_defective_part_is_no_false_alarm():
    tested = figures.Tested(document([1.0, 9.0, 5.0], [0, 0, 1], ["a", "b", "b"]))
    assert tested.caught(np.ones((1, 3)), 0.0)[0] == 1.0


def test_differences_are_paired():
    same = figures.difference([some()], [some()])
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0}
    better = figures.difference([some(shift=3.0)], [some(shift=0.0)])
    assert 0 < better["low"] < better["value"] < better["high"]


def test_the_interval_covers_the_truth_as_often_as_it_says(monkeypatch):
    """Unit normals, the defective ones shifted by 1: I-AUROC is Phi(1 / sqrt 2) = 0.760."""
    monkeypatch.setattr(figures, "RESAMPLES", 200)
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 60)
        values = rng.normal(size=120) + labels
        found = figures.interval(figures.resampled([document(values, labels, range(120))]))
        covered += found["low"] <= 0.7602 <= found["high"]
    assert 180 <= covered  # 190 expected; percentile intervals of 60 and 60 are a little short


def test_a_summary_says_how_many_runs_and_on_what():
    found = figures.summary([some(seed=1), {**some(seed=2), "seconds": 3.0, "device": "cuda"}])
    assert found["runs"] == 2 and found["seconds"] == {"cpu": 1.0, "cuda": 3.0}
    values = [roc_auc_score(d["labels"], d["map_max"]) for d in (some(seed=1), some(seed=2))]
    assert found["I-AUROC"]["value"] == pytest.approx(np.mean(values))
    assert found["deviation"] == pytest.approx(np.std(values, ddof=1))
