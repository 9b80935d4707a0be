"""What a threshold promises, against another library's distributions; test_calibrating.py simulates it."""

import numpy as np
import pytest

from ssn_edge import InputError
from ssn_edge.verdict import promise


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
        "on average at most 0.83 of 100 sound parts; with 95 % confidence at most 2.0 %; 240 parts"
    )


def test_the_words_of_other_counts_and_what_more_would_take():
    assert promise.choose(99, 0.01).words.startswith("on average at most 1 of 100 sound parts; with 95 % ")
    assert promise.choose(12, unit="photos").words == (
        "on average at most 7.7 of 100 sound photos; with 95 % confidence at most 22.1 %; 12 photos"
    )
    assert promise.choose(99, unit="frames").words.endswith(
        "99 frames, of which neighbours are not independent, so that the confidence is less than stated")
    assert promise.choose(12).more() == "5 % on average takes 19, 1 % on average takes 99"
    assert promise.choose(99).more() == "" and promise.choose(60).more() == "1 % on average takes 99"
    assert promise.choose(240).more(0.95) == "1 % with 95 % confidence takes 299"


@pytest.mark.parametrize("confidence", [None, 0.95])
def test_auto_is_one_per_cent_or_the_least_there_is(confidence):
    enough = promise.parts_for(0.01, confidence)
    for n in (1, 12, 40, 98, 99, 298, 299, 1000):
        found = promise.choose(n, None, confidence)
        if n < enough:
            assert found.k == 1
        else:
            held = found.on_average if confidence is None else found.at_most
            more = (found.k + 1) / (n + 1) if confidence is None else promise.upper_bound(found.k + 1, n)
            assert held <= 0.01 < more
