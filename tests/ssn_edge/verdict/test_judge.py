"""The one verdict: against exact arithmetic, at ties, and where something is not a number."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge import BackendError, Detector, InputError, Judge, ModelError, Verdict, backends
from ssn_edge.frames.placement import Placement, View
from ssn_edge.model.schema import ModelInfo
from ssn_edge.verdict.judge import not_below

NAN, INF = math.nan, math.inf


def verdict(source, image, map_threshold=None, pixel=0.0):
    return Verdict(source, image, pixel, "chosen for the test", 1, map_threshold)


def near(threshold):
    """float32 values around a threshold: its neighbours, and far ones."""
    value = np.float32(threshold)
    low, high = (np.nextafter(value, np.float32(end)) for end in (-np.inf, np.inf))
    return [low, value, high, np.float32(-100), np.float32(100)]


THRESHOLDS = st.floats(-90, 90)


@given(source=st.sampled_from(["score", "map_max", "either"]), one=THRESHOLDS, two=THRESHOLDS)
def test_every_verdict_is_exact_arithmetics(source, one, two):
    """NG unless below, in rational numbers: no rounding of a threshold to float32 changes a verdict."""
    judge = Judge(verdict(source, one, two if source == "either" else None, pixel=one))
    limits = {"score": [("score", one)], "map_max": [("map_max", one)],
              "either": [("score", one), ("map_max", two)]}[source]
    pairs = list(itertools.product(near(one), near(two if source == "either" else one)))
    truth = []
    for score, peak in pairs:
        values = {"score": Fraction(float(score)), "map_max": Fraction(float(peak))}
        truth.append(any(not values[name] < Fraction(limit) for name, limit in limits))
    assert [judge.is_defect(float(score), float(peak)) for score, peak in pairs] == truth
    scores, peaks = (np.array([pair[i] for pair in pairs]) for i in (0, 1))
    np.testing.assert_array_equal(judge.are_defects(scores, peaks), truth)
    found = judge.mask(np.array([near(one)]))[0]
    assert found.tolist() == [int(not Fraction(float(value)) < Fraction(one)) for value in near(one)]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_limits_are_the_next_float32(threshold):
    limit = np.float32(not_below(threshold))
    assert float(limit) >= threshold
    with np.errstate(over="ignore"):
        assert float(np.nextafter(limit, np.float32(-np.inf))) < threshold


def test_ties_are_ng():
    assert Judge(verdict("score", 0.5)).is_defect(0.5, -9.0)
    assert Judge(verdict("map_max", 3.0)).is_defect(0.0, 3.0)
    assert Judge(verdict("either", 0.5, 3.0)).is_defect(0.0, 3.0)
    judge = Judge(verdict("score", 0.5, pixel=2.0))
    assert judge.mask(np.array([[2.0, 1.9]], np.float32)).tolist() == [[1, 0]]


def test_either_needs_one():
    judge = Judge(verdict("either", 0.5, 3.0))
    assert [judge.is_defect(*pair) for pair in ((0.4, 2.9), (0.6, 2.9), (0.4, 3.1), (0.6, 3.1))] == [
        False, True, True, True,
    ]
    assert verdict("either", 0.5, 3.0).rule == "NG from score >= 0.5 or map_max >= 3"
    assert verdict("map_max", 3.0).rule == "NG from map_max >= 3"


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("source", ["score", "map_max", "either"])
def test_what_is_not_finite_has_no_verdict_and_is_never_ok(source, value):
    judge = Judge(verdict(source, 0.5, 3.0 if source == "either" else None))
    sound, broken = np.zeros((4, 6), np.float32), np.zeros((4, 6), np.float32)
    broken[2, 3] = value
    place = Placement((4, 6), (4, 6))
    for score, anomaly_map in ((value, sound), (0.1, broken), (value, broken)):
        with pytest.raises(BackendError, match="not finite"):
            judge.peak(score, anomaly_map)
        with pytest.raises(BackendError, match="not finite"):
            judge.judge(score, anomaly_map, place)
    with pytest.raises(BackendError, match="1 of 3 images"):
        judge.are_defects(np.array([0.1, value, 0.2]), np.zeros(3))
    if value != -INF:  # and whoever does not ask first gets NG, as the graph says
        assert judge.is_defect(value, value) and judge.mask(broken)[2, 3] == 1
    assert not judge.judge(0.1, sound, place).is_defect


def test_verdicts_that_cannot_be():
    wrong = (("median", 0.5), ("either", 0.5), ("score", 0.5, 3.0), ("score", NAN), ("either", 0.5, INF))
    for arguments in wrong:
        with pytest.raises(ModelError, match="verdict"):
            verdict(*arguments)


def test_either_travels_in_the_file_and_others_are_as_they_were():
    either = tiny.info(verdict=verdict("either", 0.5, 3.0))
    assert ModelInfo.from_json(either.to_json(), "x") == either
    assert "map_threshold" not in tiny.info().to_json()


@pytest.fixture(params=backends.installed())
def backend(request):
    return request.param


SOUND, BLACK = np.full((32, 48, 3), 200, np.uint8), np.zeros((32, 48, 3), np.uint8)


@pytest.mark.parametrize("output", ["score", "anomaly_map"])
@pytest.mark.parametrize("source", ["score", "map_max", "either"])
def test_a_network_that_gives_nan_is_a_broken_frame(tmp_path, backend, output, source):
    """Its frame has no verdict, whichever output it is and whichever counts; the next is judged."""
    about = tiny.info(verdict=verdict(source, 0.5, 100.0 if source == "either" else None))
    path = tiny.write_model(tmp_path / "m.onnx", about.to_json(), breaks=output)
    dark_pixel = SOUND.copy()
    dark_pixel[3, 4] = 0
    broken = [BLACK, dark_pixel] if output == "anomaly_map" else [BLACK]
    map_out, mask_out = np.empty((32, 48), np.float32), np.empty((32, 48), np.uint8)
    with Detector.open(path, backend) as detector:
        for frame in broken:
            with pytest.raises(BackendError, match="not finite"):
                detector.detect(frame)
            with pytest.raises(BackendError, match="not finite"):
                detector.infer_into(frame, map_out, mask_out)
            assert detector.detect(SOUND).is_defect
    with Detector.open(path, backend, view=View(tile=(32, 48))) as detector:
        wide = np.concatenate([BLACK, SOUND], 1)  # the sound tile must not hide the other
        for frame in (wide, wide[:, ::-1]):
            with pytest.raises(BackendError, match="not finite"):
                detector.detect(frame)
        assert detector.detect(np.concatenate([SOUND, SOUND], 1)).is_defect


def test_thresholds_of_either_are_set_one_by_one(tmp_path):
    about = tiny.info(verdict=verdict("either", 0.9, 150.0))
    with Detector.open(tiny.write_model(tmp_path / "m.onnx", about.to_json())) as detector:
        assert detector.detect(SOUND).is_defect  # 200 on the map, 0.78 in score
        detector.set_threshold(201, "map_max")
        assert not detector.detect(SOUND).is_defect
        detector.set_threshold(0.7)
        assert detector.detect(SOUND).is_defect
        assert detector.info.verdict.thresholds == {"score": 0.7, "map_max": 201}
        with pytest.raises(InputError, match="0 to 1"):
            detector.set_threshold(7.0)
    with Detector.open(tiny.write_model(tmp_path / "n.onnx")) as detector:
        with pytest.raises(InputError, match="judges by score"):
            detector.set_threshold(0.5, "map_max")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99))
def test_the_detector_judges_as_the_judge_does(tmp_path_factory, seed):
    path = tiny.write_model(tmp_path_factory.mktemp("m") / "m.onnx")
    frame = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
    with Detector.open(path, "onnxruntime") as detector:
        found = detector.detect(frame)
        again = detector.judge.judge(found.score, found.anomaly_map, found.placement)
    assert (again.is_defect, again.map_max) == (found.is_defect, found.map_max)
    assert (again.regions.highest, again.regions.count) == (found.regions, found.region_count)
    np.testing.assert_array_equal(again.mask, found.mask)
