"""Calibrations by simulation: each is made, written into a bundle's file, read again, and judged by the judge
on scores and maps of a population whose rate of false alarms is counted, not assumed."""

import dataclasses
import json
import math

import numpy as np
import pytest

from ssn_edge import InputError, Judge, ModelError
from ssn_edge.frames.placement import View
from ssn_edge.model.schema import Verdict
from ssn_edge.verdict import calibrating, calibration, promise

REPETITIONS = 2000
POPULATION = 10_000
"""Parts: they are the distribution, so that a threshold's rate is known to the part."""


def population(rng, shots, decimals):
    """Scores [P, shots] and maps [P, shots, 2, 2] of sound parts, whose shots resemble each other."""
    logits = rng.normal(size=(POPULATION, 1)) + 0.5 * rng.normal(size=(POPULATION, shots))
    scores = 1 / (1 + np.exp(-logits))
    maps = rng.gumbel(size=(POPULATION, 1, 1, 1)) + rng.normal(size=(POPULATION, shots, 2, 2))
    if decimals is not None:
        scores, maps = np.round(scores, decimals), np.round(maps, 1)
    return scores.astype(np.float32), maps.astype(np.float32)


def written(one, path):
    """Through the file, as a device gets it."""
    path.write_text(calibration.to_text(one), encoding="utf-8")
    return calibration.from_text(path.read_text(encoding="utf-8"), str(path))


def rate(verdict, scores, peaks):
    """Share of parts of which a shot is NG."""
    called = Judge(verdict).are_defects(scores.ravel(), peaks.ravel())
    return called.reshape(scores.shape).any(1).mean()


@pytest.mark.parametrize("n, shots, decimals, source", [
    (12, 1, None, "score"), (12, 6, 2, "either"), (60, 6, None, "either"), (60, 1, 1, "score"),
    (240, 1, None, "either"), (240, 6, None, "score"), (240, 6, 2, "map_max"), (60, 6, 2, "either"),
])
def test_what_is_stated_is_observed(tmp_path, n, shots, decimals, source):
    rng = np.random.default_rng([n, shots, decimals or 0, len(source)])
    scores, maps = population(rng, shots, decimals)
    peaks = maps.max((2, 3))
    scales = calibrating.scales_of(scores[:64, 0], peaks[:64, 0])
    right, wrong = [], []
    for number in range(REPETITIONS):
        chosen = rng.integers(0, POPULATION, n)
        parts = [str(part) for part in range(n) for _ in range(shots)]
        found = calibrating.calibrate(
            scores[chosen].ravel(), maps[chosen].max((2, 3)).ravel(), parts, source, scales
        )
        one = written(calibration.made_of(found, f"n-{number}"), tmp_path / "calibration.json")
        assert one.promise.n == n and one.most_shots == shots and len(one.values) == n
        right.append(rate(one.verdict, scores, peaks))
        limit = one.values[n - one.promise.k - 1]  # deliberately one too far
        wrong.append(rate(one.at(limit, "wrong"), scores, peaks))
    error = 3 * math.sqrt(0.05 * 0.95 / REPETITIONS)
    spread = np.std(right) / math.sqrt(REPETITIONS)
    assert np.mean(right) <= one.promise.on_average + 3 * spread
    assert (np.array(right) > one.promise.at_most).mean() <= 0.05 + error
    if decimals is None:  # with ties less is promised than is kept, by as much as there are
        assert np.mean(right) >= one.promise.on_average - 3 * spread - 1 / POPULATION
        assert (np.array(right) > one.promise.at_most).mean() >= 0.05 - error
        assert (np.array(wrong) > one.promise.at_most).mean() > 0.05 + error


@pytest.mark.parametrize("source", ["score", "map_max", "either"])
def test_the_parts_that_alarm_are_those_above_the_order_statistic(source):
    """Against a count by hand; and the mask shows nothing where the map may not alarm."""
    rng = np.random.default_rng(1)
    scores, maps = population(rng, 3, None)
    scores, maps = scores[:240], maps[:240]
    parts = [f"tile-{part}" for part in range(240) for _ in range(3)]
    scales = calibrating.scales_of(scores[:, 0], maps.max((2, 3))[:, 0])
    found = calibrating.calibrate(scores.ravel(), maps.max((2, 3)).ravel(), parts, source, scales, 0.05)
    judge = Judge(found.verdict)
    called = judge.are_defects(scores.ravel(), maps.max((2, 3)).ravel()).reshape(240, 3).any(1)
    assert found.promise.k == 12 and called.sum() == 11
    masked = judge.mask(maps.reshape(-1, 2, 2)).reshape(240, -1).any(1)
    assert masked.sum() <= 11
    if source != "score":
        assert not (masked & ~called).any()


def test_saturated_scores_tie_and_do_not_alarm():
    """Two sound parts of three at exactly 1: none of them may alarm, since all or none would."""
    scores = np.array([1, 1, 0.3], np.float32)
    found = calibrating.calibrate(scores, scores, ["", "", ""], "score", None)
    assert found.verdict.image_threshold > 1
    assert not Judge(found.verdict).are_defects(scores, scores).any()


def test_a_part_without_a_name_is_its_own():
    assert calibrating.indices(["a", "", "a", "", "b"]).tolist() == [0, 1, 0, 2, 3]
    assert calibrating.by_part(np.array([1.0, 2, 3, 4, 5]), ["a", "", "a", "", "b"]).tolist() == [3, 2, 4, 5]
    assert calibrating.most_shots(["a", "", "a"]) == 2


def test_numbers_that_are_not_finite_calibrate_nothing():
    for scores in ([0.1, np.nan], [0.1, np.inf]):
        with pytest.raises(InputError, match="not finite"):
            calibrating.calibrate(np.array(scores), np.zeros(2), ["a", "a"], "score", None)


def test_either_needs_its_scales():
    with pytest.raises(InputError, match="does not say how they compare"):
        calibrating.calibrate(np.ones(3), np.ones(3), [""] * 3, "either", None)


def test_what_is_written_is_read_back_and_damage_is_named():
    values = np.random.default_rng(0).random(300).astype(np.float32)
    found = calibrating.calibrate(values, values, [""] * 300, "either", (0.0, 1.0, 0.5, 0.25), 0.01, 0.95)
    one = calibration.made_of(
        found, "line-3", source="camera 0", view=View((1, 2, 64, 64), 90, "horizontal", (32, 32), 8),
        precision="float16", library="TensorRT", sha256="f" * 64, defects={"parts": 3},
    )
    text = calibration.to_text(one)
    assert calibration.from_text(text, "x") == one
    document = json.loads(text)
    assert document["at_most"] == pytest.approx(0.00994, abs=1e-5) and document["k"] == 1
    for change in ({"values": [1.0]}, {"k": 0}, {"n": 3}, {"name": "../x"}, {"kind": "sure"},
                   {"values": document["values"][::-1]}, {"confidence": 2}, {"verdict": {}}):
        with pytest.raises(ModelError, match="x: does not follow the schema of calibrations"):
            calibration.from_text(json.dumps({**document, **change}), "x")


def test_when_a_promise_does_not_hold_for_what_runs():
    one = calibration.Calibration(
        "line-3", Verdict("score", 0.5, 1.0, "m", 1), promise.Promise(1, 1), (0.5,), library="ONNX Runtime"
    )
    whole, part = View(), View((0, 0, 9, 9))
    assert one.misfit("float32", "OpenVINO", "b", whole) == ""  # float32 agrees within its gate
    assert one.misfit("float16", "ONNX Runtime", "a", whole) == "calibrated on float32, this is float16"
    assert one.misfit("float32", "x", "a", part) == "calibrated with whole frames, this is --roi 0,0,9,9"
    half = dataclasses.replace(one, precision="float16", sha256="a")
    assert half.misfit("float16", "ONNX Runtime", "a", whole) == ""
    assert half.misfit("float16", "ONNX Runtime", "b", whole) == "calibrated on another float16 file"
    assert half.misfit("float16", "TensorRT", "a", whole).endswith("this is TensorRT")
    training = dataclasses.replace(one, name="training")
    assert training.misfit("float32", "x", "a", View(tile=(9, 9))) != ""  # more chances to alarm


def test_the_estimate_holds_for_every_limit_at_once():
    """Of 2,000 calibrations, the worst limit of each: the band is exceeded in at most 5 %."""
    rng, n, exceeded = np.random.default_rng(5), 120, 0
    for _ in range(2000):
        values = np.sort(rng.random(n))
        worst = max(1 - value - np.mean(values > value) for value in [0.0, *values])  # true - counted
        exceeded += worst > promise.estimate_at(values, 2.0)
        assert promise.estimate_at(values, values[-3]) == pytest.approx(
            2 / n + math.sqrt(math.log(20) / (2 * n)))
    assert 0.02 < exceeded / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
