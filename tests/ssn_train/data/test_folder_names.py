"""What folder names mean: English and German words of factories, and what must not be read as good."""

import pytest

from ssn_train.data import folder_names

GOOD = """good, OK, ok_photos, Normal, normal-2024, good_parts, no_defect, defect-free, NoDefect,
non_defective, without defects, IO, pass, golden, train good"""
BAD = """bad, NG, abnormal, anomalous, nok, not_good, NotOk, faulty, Reject, rejects, defective, not ok, nio,
no_good, Ausschuss, failed, bad_2024, structural_anomalies, NG parts"""
OPEN = ["good_crack", "good vs bad", "crack", "2024", "old", "ok_with_scratch", "good or not"]
MASKS = """mask, masks, ground_truth, groundtruth, GT, labels, crack_masks, Annotations, SegmentationClass,
ground truth, bad_labels"""


@pytest.mark.parametrize("names, meaning", [(GOOD, "good"), (BAD, "bad"), (MASKS, "masks")])
def test_meanings(names, meaning):
    listed = names.replace("\n", " ").split(", ")
    assert {name: folder_names.meaning(name) for name in listed} == dict.fromkeys(listed, meaning)


@pytest.mark.parametrize("name", OPEN)
def test_names_that_say_neither_are_never_good(name):
    assert folder_names.meaning(name) != "good"


def test_labels_are_also_things():
    assert folder_names.meaning("label_damage") == folder_names.meaning("mislabel") == ""
    assert folder_names.names_a_kind("label_damage")


def test_what_names_a_kind_of_defect():
    kinds = ["crack", "scratch_deep", "Kratzer", "type-a", "label_damage"]
    assert all(map(folder_names.names_a_kind, kinds))
    others = ["2024", "old", "backup_2", "unlabelled", "test", "good_crack", "images", "results"]
    assert not any(map(folder_names.names_a_kind, others))


def test_parts():
    assert folder_names.is_test("test_public") and folder_names.is_test("Test")
    assert not folder_names.is_test("test_private") and not folder_names.is_test("latest")
    assert folder_names.is_part("training_set", folder_names.TRAIN)
    assert not folder_names.is_part("train_defects", folder_names.TRAIN)


@pytest.mark.parametrize("way, kind", [
    (("bad",), "bad"), (("bad", "2024", "crack"), "crack"), (("crack",), "crack"), (("NG", "2024-03"), "NG"),
    (("logical_anomalies",), "logical_anomalies"), (("bad", "hole", "side"), "hole"),
])
def test_kind(way, kind):
    assert folder_names.kind_of(way) == kind
