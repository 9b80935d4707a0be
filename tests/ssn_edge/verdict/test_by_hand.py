"""A threshold set by hand: both sources at one number, what is estimated there, and it as a calibration."""

import dataclasses
import math
import time

import numpy as np
import pytest

from ssn_edge import InputError, View
from ssn_edge.verdict import by_hand, calibrating, calibration
from ssn_edge.verdict.judge import Judge

RNG = np.random.default_rng(5)
N = 240
LOGITS = RNG.normal(-4, 1.5, N)
SCORES = (1 / (1 + np.exp(-LOGITS))).astype(np.float32)
PEAKS = (3 * LOGITS + RNG.normal(20, 4, N)).astype(np.float32)
EPSILON = math.sqrt(math.log(20) / (2 * N))


def made(source, name="line", **fields):
    scales = calibrating.scales_of(SCORES[:50], PEAKS[:50]) if source == "either" else None
    found = calibrating.calibrate(SCORES, PEAKS, [""] * N, source, scales)
    return calibration.made_of(found, name, **fields)


def share_above(one, verdict):
    """Of the sound parts, by the rule that the line judges by."""
    return Judge(verdict).reaches(SCORES, PEAKS).mean()


@pytest.mark.parametrize("source", ["score", "map_max", "either"])
def test_the_estimate_is_the_share_that_is_ng_and_the_band(source):
    one = made(source)
    values = PEAKS if source == "map_max" else SCORES
    for threshold in [*np.quantile(values, (0.02, 0.3, 0.9, 0.99)), float(values.max()), float(values[7])]:
        verdict = by_hand.moved(one, float(threshold))
        limit = by_hand.limit_of_verdict(one, verdict)
        expected = min(1.0, share_above(one, verdict) + EPSILON)
        assert one.estimate(limit) == pytest.approx(expected, abs=1e-12)
        per_cent = float(verdict.method.split("at most ")[1].split(" %")[0])
        assert 100 * expected <= per_cent + 1e-9 and per_cent < 100 * expected + 0.11
        assert threshold <= verdict.image_threshold < threshold + 1e-6 * abs(threshold)


def test_either_moves_both_to_one_number():
    one = made("either")
    first, spread, second, width = one.verdict.scales
    for threshold in (1e-4, 0.02, 0.3, 0.77, 0.999):
        verdict = by_hand.moved(one, threshold)
        number = (math.log(threshold / (1 - threshold)) - first) / spread
        assert verdict.image_threshold == pytest.approx(threshold, rel=1e-6)
        assert verdict.map_threshold == pytest.approx(second + width * number, rel=1e-5)
        assert verdict.pixel_threshold == verdict.map_threshold


@pytest.mark.parametrize("source", ["score", "map_max", "either"])
def test_what_reaches_the_threshold_is_ng(source):
    one = made(source)
    for threshold in (0.0, 1e-12, 1e-7, 0.3, float(np.float32(0.3)), 0.99999994, 1.0):
        verdict = by_hand.moved(one, threshold)
        at = np.array([threshold], np.float32)
        at = np.where(at.astype(float) < threshold, np.nextafter(at, np.float32(np.inf)), at)
        low = np.array([-1e30], np.float32)
        ng = Judge(verdict).reaches(*((at, low) if source != "map_max" else (low, at)))
        assert ng.all(), (threshold, verdict)
        assert 0 <= verdict.image_threshold <= 1 or source == "map_max"


@pytest.mark.parametrize("source", ["score", "either"])
def test_the_ends_are_found_at_once_and_others_are_refused(source):
    one, begun = made(source), time.monotonic()
    assert by_hand.moved(one, 0.0).image_threshold == 0
    assert "at most 100.0 %" in by_hand.moved(one, 0.0).method
    by_hand.moved(one, 1.0)
    assert time.monotonic() - begun < 5
    for wrong in (-0.1, 1.1, math.nan, math.inf):
        with pytest.raises(InputError, match="give 0 to 1"):
            by_hand.moved(one, wrong)
    with pytest.raises(InputError, match="finite"):
        by_hand.moved(made("map_max"), math.nan)


def test_the_words():
    text = by_hand.words(made("score"), float(np.sort(SCORES)[-3]))
    assert text == (
        "at most 8.8 % of sound parts (estimate: 95 % confidence for every position at once, by the "
        "inequality of Dvoretzky, Kiefer and Wolfowitz; 240 parts)"
    )
    several = dataclasses.replace(made("score", kind="estimate"), most_shots=4)
    assert by_hand.words(several, 2.0).endswith(
        "240 parts, of up to 4 photos; of other heads than the shipped ones)"
    )


def test_two_thresholds_apart_count_by_the_lower():
    one = made("either")
    apart = dataclasses.replace(one.verdict, map_threshold=float(np.quantile(PEAKS, 0.4)))
    assert one.estimate(by_hand.limit_of_verdict(one, apart)) >= share_above(one, apart) + EPSILON - 1e-9
    never = dataclasses.replace(one.verdict, image_threshold=1 + 2.0**-23)
    expected = by_hand.limit_of(one, "map_max", one.verdict.map_threshold)
    assert by_hand.limit_of_verdict(one, never) == expected


@pytest.mark.parametrize("source", ["score", "map_max", "either"])
def test_saved_it_is_read_back_as_it_was_set(source):
    one = made(source, defects={"caught": 3})
    verdict = by_hand.moved(one, float(np.quantile(PEAKS if source == "map_max" else SCORES, 0.9)))
    view = View(rotate=90)
    found = by_hand.saved(one, verdict, "live-1", view)
    assert (found.name, found.kind, found.verdict, found.values) == ("live-1", "by hand", verdict, one.values)
    assert (found.view, found.defects, found.precision, found.date != "") == (view, None, "float32", True)
    assert found.verdict.method.startswith("set by hand: at most ")
    assert found.promise.k == np.sum(np.array(one.values) > by_hand.limit_of_verdict(one, verdict)) + 1
    text = calibration.to_text(found)
    assert calibration.from_text(text, "x") == found and "on_average" not in text
    assert by_hand.saved(dataclasses.replace(one, kind="estimate"), verdict, "x", view).kind == "estimate"
    with pytest.raises(InputError, match="letters, digits"):
        by_hand.saved(one, verdict, "a b", view)
