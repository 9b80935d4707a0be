"""Calibrations in a bundle: added, used, gone back from, kept; what a device opens with."""

import dataclasses
import json

import bundles
import numpy as np
import pytest
import tiny

from ssn_edge import Detector, InputError, ModelError, View
from ssn_edge.model import bundle, bundle_writer
from ssn_edge.verdict import calibrating, calibration, in_bundle


def made(name, seed=0, n=240, **fields):
    values = np.random.default_rng(seed).random(n).astype(np.float32)
    found = calibrating.calibrate(values, 255 * values, [""] * n, "score", None)
    return calibration.made_of(found, name, **fields)


@pytest.fixture
def path(tmp_path):
    return tiny.write_bundle(tmp_path / "m.ssn")


def opened(path, **how):
    with Detector.open(path, "onnxruntime", **how) as detector:
        return detector


def add(path, one):
    in_bundle.add(path, one, lambda line: None)
    return one


def test_a_calibration_is_what_the_detector_judges_by(path):
    one = add(path, made("line-3"))
    detector = opened(path)
    assert detector.info.verdict == one.verdict and detector.info.calibration == "line-3"
    assert detector.calibration == (one, "")
    assert bundle.read(path).model.verdict == one.verdict  # for who reads the manifest alone
    frame = np.full((32, 48, 3), 200, np.uint8)
    with Detector.open(path, "onnxruntime") as now:
        assert now.detect(frame).is_defect == (200 / 255 >= one.verdict.image_threshold)
    assert in_bundle.read_all(bundle.read(path), "line-3") == [one]


def test_all_stay_and_one_can_go_back(path):
    first, second = add(path, made("first")), add(path, made("second", 1))
    assert opened(path).info.verdict == second.verdict
    assert in_bundle.undo(path).name == "first" and opened(path).info.verdict == first.verdict
    assert in_bundle.undo(path).name == "training"
    assert opened(path).info.verdict == tiny.info().verdict  # what the export said
    with pytest.raises(InputError, match="nothing before it"):
        in_bundle.undo(path)
    assert in_bundle.use(path, "second") == second and opened(path).info.verdict == second.verdict
    assert [one.name for one in in_bundle.read_all(bundle.read(path))] == ["training", "first", "second"]
    assert opened(path, calibration="first").info.verdict == first.verdict
    for call in (lambda: in_bundle.use(path, "third"), lambda: opened(path, calibration="third")):
        with pytest.raises(InputError, match="third.*training, first, second"):
            call()


def test_a_name_is_taken_once_for_a_file(path):
    add(path, made("line"))
    with pytest.raises(InputError, match="--name line: .* has one of that name"):
        add(path, made("line", 1))
    half = bundle.read(path).graphs()["float16"]
    other = add(path, made("line", 2, precision="float16", library="onnxruntime", sha256=half.sha256))
    assert opened(path, precision="float16").info.verdict == other.verdict
    assert opened(path).info.verdict == made("line").verdict
    assert bundle.read(path).history == ("training", "line")


def test_the_promise_is_not_carried_to_another_file(path):
    add(path, made("line"))
    found = opened(path, precision="float16")
    assert found.calibration.misfit == "calibrated on float32, this is float16"
    assert found.info.verdict.method.startswith("no promise: calibrated on float32, this is float16")
    assert found.info.verdict.image_threshold == made("line").verdict.image_threshold
    assert "--roi 0,0,9,9" in opened(path, view=View((0, 0, 9, 9))).calibration.misfit


def test_set_by_hand_no_promise_holds(path):
    add(path, made("line"))
    with Detector.open(path, "onnxruntime", threshold=0.5) as detector:
        assert detector.info.verdict.method == "set by the caller: no promise holds"


@pytest.mark.parametrize("damage", ["file", "manifest", "name", "gone"])
def test_damage_is_refused(path, damage):
    add(path, made("line"))
    document = json.loads((path / bundle.MANIFEST).read_text())
    entry = next(one for one in document["files"] if one.get("label") == "line")
    if damage == "file":
        text = (path / entry["name"]).read_text()
        (path / entry["name"]).write_text(text.replace("parts", "pairs"))
    elif damage == "manifest":
        document["model"]["verdict"]["image_threshold"] = 0.1
    elif damage == "name":
        entry["label"] = document["history"][-1] = "other"
    else:
        document["files"].remove(entry)
    (path / bundle.MANIFEST).write_text(json.dumps(document))
    with pytest.raises(ModelError, match={
        "file": "its sha256 is", "manifest": "its verdict is not that of its calibration line",
        "name": "is line, the manifest says other", "gone": "history: a calibration",
    }[damage]):
        opened(path)


def test_graphs_with_thresholds_inside_cannot_be_calibrated(tmp_path):
    path = tiny.write_bundle(tmp_path / "m.ssn", verdict_inside=True)
    before = (path / bundle.MANIFEST).read_bytes()
    for call in (lambda: add(path, made("line")), lambda: in_bundle.undo(path)):
        with pytest.raises(InputError, match="export it again without --verdict"):
            call()
    assert (path / bundle.MANIFEST).read_bytes() == before


def replaced(path, checkpoint, log):
    contents = tiny.contents(checkpoint_sha256=checkpoint)
    with bundle_writer.writing(path, log) as writer:
        return writer.replace(tiny.info(checkpoint_sha256=checkpoint), contents)


def test_an_export_of_the_same_training_keeps_them_one_of_another_does_not(tmp_path):
    path, said = bundles.old(tmp_path), []
    one = add(path, made("line"))
    replaced(path, bundles.OLD, said.append)
    assert opened(path).info.verdict == one.verdict
    assert not any("calibration" in line for line in said)
    found = replaced(path, bundles.NEW, said.append)
    assert "without the calibration line, of another model; run ssn-calibrate" in said
    assert not found.history and opened(path).info.verdict == tiny.info().verdict


def test_a_name_is_a_plain_word():
    for name in ("", "a b", "../x", "x" * 65, "-x"):
        with pytest.raises(InputError, match="letters, digits"):
            dataclasses.replace(made("line"), name=name)
