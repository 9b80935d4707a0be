"""A line's figures against brute force, a bootstrap drawn part by part, scipy, and simulated test sets."""

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ssn_edge import Verdict
from ssn_edge.verdict import calibrating
from ssn_edge.verdict.judge import Judge
from ssn_train.data.samples import Sample
from ssn_train.report import line_figures, results
from ssn_train.report.line_figures import FPR, NAMES, RECALL, RECALLS
from ssn_train.report.results import Predictions

PHOTOS = st.lists(  # (label, part, number): few numbers and parts, so that all ties happen
    st.tuples(st.integers(0, 1), st.sampled_from(["", "a", "b", "c", "d"]), st.integers(0, 6)),
    min_size=1, max_size=25,
)


def figures(photos, threshold=3):
    labels, names, numbers = (list(column) for column in zip(*photos))
    numbers = np.array(numbers, float)
    parts = line_figures.grouped(np.array(labels), names, numbers, numbers >= threshold)
    return line_figures.document(parts, "score")


def by_hand(photos):
    """[numbers of its counted photos] of sound and of defective parts."""
    parts = {}
    for place, (label, name, number) in enumerate(photos):
        parts.setdefault(name or place, []).append((label, number))
    sound = [[n for _, n in found] for found in parts.values() if not any(label for label, _ in found)]
    bad = [[n for label, n in found if label] for found in parts.values() if any(label for label, _ in found)]
    return sound, bad


def alarming(parts, threshold):
    return sum(any(number >= threshold for number in numbers) for numbers in parts)


@settings(max_examples=200, deadline=None)
@given(PHOTOS)
def test_counts_are_those_of_every_threshold_tried(photos):
    sound, bad = by_hand(photos)
    document = figures(photos)
    assert (document["parts"]["sound"], document["parts"]["defective"]) == (len(sound), len(bad))
    found = document["figures"]
    for name, parts in ((FPR, sound), (RECALL, bad)):
        expected = (alarming(parts, 3), len(parts)) if parts else None
        assert (found[name] and (found[name]["count"], found[name]["of"])) == expected
    for name, recall in RECALLS.items():
        if not sound or not bad:
            assert found[name] is None
            continue
        enough = [t for t in range(8) if alarming(bad, t) >= recall * len(bad)]
        assert found[name]["threshold"] == max(enough)
        assert (found[name]["count"], found[name]["of"]) == (alarming(sound, max(enough)), len(sound))
        assert found[name]["caught"] == alarming(bad, max(enough))


def test_one_defective_part_of_a_hundred_may_be_missed_at_99():
    sound, bad = np.arange(100.0), np.arange(100.0) + 50
    for recall, count, least in ((1.0, 50, 50), (0.99, 49, 51), (0.985, 49, 51), (0.98, 48, 52)):
        found = line_figures.at_recall(sound, bad, recall)
        assert (found["count"], found["threshold"], found["open"]) == (count, least, recall == 1)
    assert line_figures.at_recall(sound, bad[:99], 0.99)["caught"] == 99  # of 99 none may


def test_what_ties_with_the_threshold_alarms():
    found = figures([(0, "", 2), (0, "", 3), (0, "", 3), (1, "", 3), (1, "", 5)])["figures"]
    assert all(found[name]["count"] == 2 for name in RECALLS)
    assert found[FPR]["count"] == 2 and found[RECALL]["count"] == 2


def test_several_photos_are_one_part():
    photos = [(0, "a", 0), (0, "a", 4), (0, "b", 0), (0, "", 1),
              (1, "c", 0), (1, "c", 5), (0, "c", 6), (1, "d", 2), (0, "d", 6)]
    document = figures(photos)
    assert document["parts"] == {
        "sound": 3, "defective": 2, "with_several_photos": 3, "good_photos_of_defective": 2,
    }
    found = document["figures"]
    assert found[FPR]["count"] == 1 and found[RECALL]["count"] == 1  # d's alarm is on its good photo alone
    assert found["FPR at 100 % recall"]["threshold"] == 2


def test_a_missing_class_is_null_and_the_document_json():
    for label, there in ((0, FPR), (1, RECALL)):
        document = figures([(label, "", 1), (label, "", 4)])
        assert [name for name in NAMES if document["figures"][name]] == [there]
        json.dumps(document, allow_nan=False)
        text = line_figures.lines(document)
        assert len(text) == 5 and sum("interval" in line for line in text) == 1
        assert line_figures.shares(document) == {there: 0.5}
    assert line_figures.shares(None) == {}


def test_where_all_resamples_agree_the_interval_is_exact():
    found = figures([(0, "", 0)] * 40 + [(1, "", 6)] * 60)["figures"]
    for name, of, count in ((FPR, 40, 0), (RECALL, 60, 60), ("FPR at 100 % recall", 40, 0)):
        ends = stats.binomtest(count, of).proportion_ci(0.95, "exact")
        assert found[name]["interval"] == "Clopper-Pearson"
        assert (found[name]["low"], found[name]["high"]) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_an_interval_of_none_is_never_shorter_than_the_resamples():
    """No sound part alarms at 99 %, but where the next defective part is the threshold half of them do."""
    sound, bad = np.repeat([0.0, 2.0], 50), np.concatenate([[1.0], np.full(149, 3.0)])
    found = line_figures.at_recall(sound, bad, 0.99)
    assert found["count"] == 0 and found["interval"] == "bootstrap" and found["high"] > 0.4


def drawn(sound, bad, recall, repeats, rng):
    """Shares of sound parts that alarm, each resample drawn part by part and its threshold sought in it."""
    shares = []
    for _ in range(repeats):
        ours, theirs = rng.choice(sound, len(sound)), rng.choice(bad, len(bad))
        kept = [t for t in theirs if (theirs >= t).sum() >= recall * len(bad) - 1e-9]
        shares.append((ours >= max(kept)).mean())
    return np.array(shares)


@pytest.mark.parametrize("recall, defective", [(1.0, 60), (0.99, 220), (0.9, 60)])
def test_bootstrap_is_the_one_drawn_part_by_part(recall, defective):
    rng = np.random.default_rng(defective)
    sound, bad = rng.normal(size=50), rng.normal(size=defective) + 2
    found = line_figures.at_recall(sound, bad, recall)
    shares = drawn(sound, bad, recall, 600, rng)
    for end, tail in (("low", 0.025), ("high", 0.975)):  # the end lies where that share of resamples does
        below, reached = (shares < found[end] - 0.021).mean(), (shares <= found[end] + 0.021).mean()
        assert below - 0.02 <= tail <= reached + 0.02, end


@pytest.mark.parametrize("count, recall, misses", [(60, 1.0, 0), (200, 0.99, 2), (10, 0.7, 3)])
def test_resampled_threshold_is_the_order_statistic(count, recall, misses):
    """So many sound parts that only the threshold varies: where it lies in resamples is binomial."""
    bad = np.arange(count) + 0.5
    found = line_figures.at_recall(np.linspace(0, count, 200_000), bad, recall)
    places = np.arange(count)
    up_to = stats.binom.sf(misses, count, (places + 1) / count)  # of resamples: place at most this
    for end, tail in (("high", 0.025), ("low", 0.975)):
        place = count * (1 - found[end]) - 0.5
        first, last = (int(places[up_to >= tail + slack][0]) for slack in (-0.012, 0.012))
        assert first - 0.5 < place < last + 0.5, end


def test_intervals_hold_the_truth_as_often_as_they_say():
    """300 simulated test sets of normal numbers, where the truth is known. The interval at 100 % recall is
    open: the truth is rarely below it, and often above."""
    rng = np.random.default_rng(5)
    truth = stats.norm.sf(1.0)
    at_99 = stats.norm.sf(stats.norm.ppf(0.01) + 3)
    at_100 = stats.norm.sf(rng.normal(size=(4000, 300)).min(axis=1) + 3).mean()
    fixed, quantile, below, above = [], [], [], []
    for _ in range(300):
        sound, bad = rng.normal(size=150), rng.normal(size=300) + 3
        found = line_figures.rate(int((sound >= 1.0).sum()), len(sound))
        fixed.append(found["low"] <= truth <= found["high"])
        found = line_figures.at_recall(sound, bad, 0.99)
        quantile.append(found["low"] <= at_99 <= found["high"])
        found = line_figures.at_recall(sound, bad, 1.0)
        below.append(at_100 < found["low"])
        above.append(at_100 > found["high"])
    assert 0.91 <= np.mean(fixed) <= 0.985
    assert 0.84 <= np.mean(quantile) <= 0.97
    assert np.mean(below) <= 0.03 and 0.2 <= np.mean(above) <= 0.55


def test_two_thousand_parts_take_less_than_a_second():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 4000)
    names = [f"{label}-{number // 2}" for number, label in enumerate(labels)]
    numbers = rng.normal(size=4000)
    start = time.perf_counter()
    document = line_figures.document(line_figures.grouped(labels, names, numbers, numbers > 1), "score")
    assert time.perf_counter() - start < 1 and document["parts"]["sound"] > 1000
    assert document == line_figures.document(
        line_figures.grouped(labels, names, numbers, numbers > 1), "score"
    )  # the seed is fixed


VERDICTS = {
    "score": Verdict("score", 0.5, 0.0, "chosen", 1), "map_max": Verdict("map_max", 0.1, 0.0, "chosen", 1),
    "margin": Verdict("either", 0.5, 0.0, "chosen", 1, 0.1),  # of a model without scales
    "number": calibrating.verdict_above(0.7, "either", (-1.0, 1.4, 0.2, 2.0), None, "chosen", 1),
}
OWN = {"score": 0.5, "map_max": 0.1, "margin": 0.0, "number": np.nextafter(0.7, 1)}


@pytest.mark.parametrize("ranking", VERDICTS)
def test_ranking_and_verdict_agree_at_the_models_threshold(ranking):
    """Values at the thresholds and next to them on both sides; 0.1 is no float32."""
    rng = np.random.default_rng(3)
    verdict = VERDICTS[ranking]
    scores, peaks = (
        rng.choice(np.array([np.nextafter(at, low), at, np.nextafter(at, high), low, low, high]), 300)
        for at, low, high in (
            (np.float32(verdict.thresholds.get("score", 0.5)), np.float32(0.1), np.float32(0.9)),
            (np.float32(verdict.thresholds.get("map_max", 0.1)), np.float32(-2), np.float32(3)),
        )
    )
    samples = tuple(Sample(Path(f"{i}.png"), int(i % 3 == 0), part=f"{i % 3}-{i // 6}") for i in range(300))
    said = Predictions(samples, scores, peaks[:, None, None])
    name, numbers = said.ranking(verdict)
    assert name == ranking
    called = Judge(verdict).are_defects(scores, peaks)
    assert ((numbers >= OWN[ranking]) == called).all() and 30 < called.sum() < 270
    by_number = line_figures.grouped(said.labels, [s.part for s in samples], numbers, numbers >= OWN[ranking])
    found = results.report(said, np.zeros((300, 1, 1), bool), verdict)["line"]
    assert found["figures"][FPR] == line_figures.document(by_number, name)["figures"][FPR]
    assert found["figures"][RECALL] == line_figures.document(by_number, name)["figures"][RECALL]
    assert 0 < found["figures"][FPR]["count"] < found["figures"][FPR]["of"]


def test_parts_are_in_the_table_of_predictions(tmp_path):
    samples = (Sample(Path("1.png"), 0, part="tray 7"), Sample(Path("2.png"), 1))
    said = Predictions(samples, np.array([0.1, 0.9], np.float32), np.zeros((2, 1, 1), np.float32))
    results.write_predictions(tmp_path / "p.csv", said, VERDICTS["score"])
    assert (tmp_path / "p.csv").read_text().splitlines() == [
        "file,label,defect,score,map_max,is_defect,part",
        "1.png,0,good,0.1,0,0,tray 7", "2.png,1,good,0.9,0,1,",
    ]


def test_printed_lines_are_aligned_and_say_what_is_open():
    photos = [(0, "", i % 5) for i in range(40)] + [(1, "", 4 + i % 3) for i in range(60)]
    text = line_figures.lines(figures(photos, threshold=5))
    assert text[0] == "40 sound and 60 defective parts, a photo each"
    assert len({line.index("95 % interval") for line in text[1:]}) == 1
    assert text[1].startswith("FPR at 100 % recall       20.0 %   8 of 40 sound parts alarm")
    assert text[1].endswith(" % or more") and text[3].endswith("0.0 to 8.8 % (Clopper-Pearson)")
    assert "40 of 60 defective parts caught" in text[4] and not text[4].endswith("more")
    assert math.isclose(figures(photos, threshold=5)["figures"][RECALL]["share"], 2 / 3)
