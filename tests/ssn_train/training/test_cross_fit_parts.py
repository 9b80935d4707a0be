"""What other heads learn says nothing of the parts that they judge."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch")

from ssn_edge.errors import InputError  # noqa: E402
from ssn_train.data.datasets import Sample  # noqa: E402
from ssn_train.options.settings import Settings  # noqa: E402
from ssn_train.training import thresholds  # noqa: E402

GOOD = [Sample(Path(f"{part}{shot}.png"), part=part) for part in "abcdefghij" for shot in range(3)]


def bad(*parts):
    return [Sample(Path(f"bad{number}.png"), 1, None, "x", part) for number, part in enumerate(parts)]


def test_defects_of_left_out_parts_are_not_learnt():
    samples = bad("a", "k", "", "b")
    assert [s.part for s in thresholds.without_parts(samples, GOOD[:3])] == ["k", "", "b"]
    assert thresholds.without_parts([], GOOD) == []


def test_no_defect_left_is_said_before_training():
    settings = Settings("resnet18", cross_fit=3)
    thresholds.check(settings, GOOD, [], bad("a", "k"))
    with pytest.raises(InputError, match="--cross-fit: all defects to train on are of parts left out"):
        thresholds.check(settings, GOOD, [], bad("a", "a"))
