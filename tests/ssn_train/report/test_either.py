"""Figures of a verdict by either source, from predictions made by hand."""

from pathlib import Path

import numpy as np
import pytest

from ssn_edge import BackendError, Verdict
from ssn_train.data.published_layouts import Sample
from ssn_train.report import results
from ssn_train.report.results import Predictions


def predictions(scores, peaks, labels):
    samples = tuple(Sample(Path(f"{i}.png"), label, None, "good") for i, label in enumerate(labels))
    return Predictions(samples, np.array(scores, np.float32), np.array(peaks, np.float32)[:, None, None])


def test_report_and_margins_count_what_either_finds():
    verdict = Verdict("either", 0.5, 0.0, "chosen", 1, 2.0)
    said = predictions([0.1, 0.5, 0.1, 0.1], [0.0, 0.0, 2.0, 1.9], [0, 0, 1, 1])
    document = results.report(said, np.zeros((4, 1, 1), bool), verdict)
    assert document["at_threshold"] == {"false alarms": 1, "missed defects": 1}  # ties are NG
    assert set(document["best_f1"]) == {"score", "map_max"}
    assert (said.margins(verdict) >= 0).tolist() == [False, True, True, False]


def test_predictions_that_are_not_finite_are_not_judged(tmp_path):
    verdict = Verdict("score", 0.5, 0.0, "chosen", 1)
    said = predictions([0.1, np.nan], [0.0, 0.0], [0, 1])
    for call in (lambda: results.report(said, np.zeros((2, 1, 1), bool), verdict),
                 lambda: results.write_predictions(tmp_path / "p.csv", said, verdict)):
        with pytest.raises(BackendError, match="1 of 2 images"):
            call()
    assert not list(tmp_path.iterdir())
