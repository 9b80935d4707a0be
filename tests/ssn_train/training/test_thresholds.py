"""Thresholds of a run: which parts are left out of which training, and where cross-fitting's estimate breaks.
"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge import InputError, Judge
from ssn_edge.verdict import calibrating
from ssn_train.data.datasets import Sample
from ssn_train.options.settings import Settings
from ssn_train.training import thresholds

FOLDS, PARTS, REPETITIONS = 3, 60, 2000


def samples(count, parts=None):
    return [Sample(Path(f"{i}.png"), part=parts[i] if parts else "") for i in range(count)]


@given(st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=1, max_size=60), st.integers(2, 6),
       st.integers(0, 9))
def test_folds_are_whole_parts_and_each_photo_is_in_one(parts, folds, seed):
    found = thresholds.folds_of(samples(len(parts), parts), folds, seed)
    assert sorted(i for fold in found for i in fold) == list(range(len(parts)))
    for name in set(parts) - {""}:
        assert sum(any(parts[i] == name for i in fold) for fold in found) == 1


def test_when_thresholds_are_estimated():
    def of(good, held, **how):
        return thresholds.trainings(Settings("resnet18", **how), samples(good), samples(held))

    assert of(90, 9, cross_fit=None) == 0  # 10 % can be promised
    assert of(60, 6, cross_fit=None) == thresholds.FOLDS
    assert of(12, 2, cross_fit=None) == 0  # nothing to gain
    assert of(60, 6) == 0 and of(60, 6, cross_fit=5) == 5
    assert of(60, 6, cross_fit=None, false_alarms=0.01) == 0  # refused, not estimated unasked
    with pytest.raises(InputError, match="needs 99; keep more back .--holdout., or estimate it"):
        thresholds.check(Settings("resnet18", cross_fit=None, false_alarms=0.01), samples(60), samples(6))
    with pytest.raises(InputError, match="--cross-fit 5: 8 good photos are too few"):
        thresholds.check(Settings("resnet18", cross_fit=5), samples(8), samples(1))


def exceeded(spread_known, spread_unseen):
    """How often the shipped heads' rate of false alarms is above the bound, if each training has factors of
    its own, up to these, on what it says of photos that it has seen and that it has not."""
    rng, above = np.random.default_rng(0), 0
    population = rng.normal(size=(20_000, 2))

    def head(logits, factor):
        return 1 / (1 + np.exp(-factor * logits[:, 0])), factor * (4 + logits[:, 1])

    for _ in range(REPETITIONS):
        known, unseen = (np.exp(rng.uniform(-np.log(s), np.log(s), FOLDS + 1)) for s in
                         (spread_known, spread_unseen))
        seen, parts = rng.normal(size=(64, 2)), rng.normal(size=(PARTS, 2))
        ours = calibrating.scales_of(*head(seen, known[-1]))
        numbers = np.empty((2, PARTS))
        for fold in range(FOLDS):
            theirs = calibrating.scales_of(*head(seen, known[fold]))
            said = head(parts[fold::FOLDS], known[fold] * unseen[fold])
            numbers[:, fold::FOLDS] = calibrating.rescaled(*said, theirs, ours)
        found = calibrating.calibrate(*numbers, [""] * PARTS, "map_max", ours)
        said = head(population, known[-1] * unseen[-1])
        rate = Judge(found.verdict).are_defects(*(np.float32(values) for values in said)).mean()
        above += rate > found.promise.at_most
    return above / REPETITIONS


def test_a_change_of_scale_is_taken_out_and_one_of_unseen_photos_alone_breaks_the_estimate():
    error = 3 * np.sqrt(0.05 * 0.95 / REPETITIONS)
    assert exceeded(1.0, 1.0) <= 0.05 + error
    assert exceeded(1.3, 1.0) <= 0.05 + error
    broken = exceeded(1.0, 1.3)
    assert broken > 0.1  # docs/calibration.md has the figure
    assert broken > exceeded(1.0, 1.1) > 0.05 + error
