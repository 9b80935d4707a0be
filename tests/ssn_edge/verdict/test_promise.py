"""What a threshold promises, against another library's distributions and by simulation through the judge."""

import math

import numpy as np
import pytest

from ssn_edge import InputError
from ssn_edge.model.schema import Verdict
from ssn_edge.verdict import promise
from ssn_edge.verdict.judge import Judge


@pytest.mark.parametrize("n, level, k, average, bound", [
    (240, 0.01, 2, 0.0083, 0.0196), (12, None, 1, 0.077, 0.221), (99, 0.01, 1, 0.010, 0.0298),
    (60, None, 1, 1 / 61, 0.0487),
])
def test_published_examples(n, level, k, average, bound):
    found = promise.choose(n, level)
    assert found.k == k
    assert found.on_average == pytest.approx(average, abs=5e-4)
    assert found.at_most == pytest.approx(bound, abs=1e-3)


def test_how_many_parts_a_promise_takes():
    assert promise.parts_for(0.01) == 99 and promise.parts_for(0.01, 0.95) == 299
    assert promise.choose(299, 0.01, 0.95).k == 1
    with pytest.raises(InputError, match="1 % false alarms: 298 sound parts cannot .* needs 299"):
        promise.choose(298, 0.01, 0.95)
    with pytest.raises(InputError, match="12 sound photos cannot promise that .* it needs 99"):
        promise.choose(12, 0.01, unit="photos")


def test_the_bound_is_the_betas_quantile():
    beta = pytest.importorskip("scipy.stats").beta
    for n in (1, 2, 12, 60, 240, 3000):
        for k in {1, 2, n // 3, n - 1, n} - {0}:
            if k <= n:
                assert promise.upper_bound(k, n) == pytest.approx(beta.ppf(0.95, k, n + 1 - k), abs=1e-9)


def test_words_are_never_rounded_to_less():
    for share in np.random.default_rng(0).uniform(1e-4, 1, 2000):
        assert float(promise.per_cent(share).split()[0]) >= 100 * share * (1 - 1e-9)
    assert promise.choose(240, 0.01).words == (
        "on average at most 0.83 % of sound parts; with 95 % confidence at most 2.0 %; 240 parts"
    )


@pytest.mark.parametrize("n", [12, 60, 240])
@pytest.mark.parametrize("decimals", [None, 1], ids=["continuous", "ties"])
def test_observed_rates_keep_the_promise(n, decimals):
    """2,000 calibrations, judged by the judge. The numbers are uniform, so that a threshold's true rate is
    known; a k that is one too large breaks the bound."""
    rng, found, repetitions = np.random.default_rng(n), promise.choose(n), 2000
    rates = {found.k: [], found.k + 1: []}
    for _ in range(repetitions):
        values = rng.random(n).astype(np.float32)
        if decimals is not None:
            values = np.round(values, decimals)
        for k in rates:
            threshold = promise.above(promise.kth_largest(values, k))
            judge = Judge(Verdict("score", threshold, 0.0, found.words, n))
            assert judge.are_defects(values, np.zeros(n, np.float32)).sum() <= k - 1
            if decimals is None:
                rates[k].append(1 - threshold)
            else:  # 0.1 apart, halves at both ends
                steps = np.arange(11) / 10
                weights = np.r_[0.05, np.full(9, 0.1), 0.05]
                rates[k].append(weights[steps >= threshold].sum())
    error = 3 * math.sqrt(0.05 * 0.95 / repetitions)
    right, wrong = np.array(rates[found.k]), np.array(rates[found.k + 1])
    assert right.mean() <= found.on_average * 1.1
    assert (right > found.at_most).mean() <= 0.05 + error
    if decimals is None:
        assert (wrong > found.at_most).mean() > 0.05 + error
