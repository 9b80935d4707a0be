"""The export's options on a trained run: the plan's choice, verdicts and camera frames inside."""

import csv
import json
import shutil

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from commands import call

from ssn_edge import Detector, backends
from ssn_edge.errors import InputError
from ssn_edge.files import sha256
from ssn_edge.frames.image_files import list_images, read_image
from ssn_edge.model import bundle
from ssn_edge.model.schema import METADATA_KEY, ModelInfo
from ssn_export.cli import main as export_main
from ssn_export.gates import lint, parity
from ssn_export.graph import float64_reference, half_precision
from ssn_export.graph.deployed import CPU_PLANS

FRAME = (90, 150)


def info(path):
    metadata = {p.key: p.value for p in onnx.load(path).metadata_props}
    return ModelInfo.from_json(metadata[METADATA_KEY], str(path))


def test_a_bundle_is_what_is_written_unless_told_otherwise(trained, tmp_path):
    """In the run folder; plain files are one or two, as given."""
    run = shutil.copytree(trained.run, tmp_path / "run")
    code, output = call(export_main, run, "--plan", "none")
    assert code == 0 and f"Next: ssn-run {run / 'model.ssn'} SOURCE" in output, output
    found = bundle.read(run / "model.ssn")
    assert [one.role for one in found.entries] == ["float32", "reference", "calibration"]
    assert found.model.checkpoint_sha256 == sha256(run / "model.safetensors")
    code, output = call(export_main, run, "--plan", "none", "--out", tmp_path / "plain" / "m.onnx")
    assert code == 0 and [one.name for one in (tmp_path / "plain").iterdir()] == ["m.onnx"], output
    refused = ((["--engine"], "--engine: adds to a bundle"), (["--engine-out", "x"], "exported already"))
    for arguments, said in refused:
        code, output = call(export_main, run, "--out", tmp_path / "x.onnx", *arguments)
        assert code == 2 and output.count("\n") == 1 and said in output


def test_letterboxed_training_is_judged_letterboxed(published, tmp_path):
    """Photos of 128x128 on an input of 64x96: the file judges them as the trained model did."""
    run, path = published, tmp_path / "m.onnx"
    code, output = call(export_main, run, "--out", path, "--plan", "full")
    assert code == 0, output
    assert info(path).geometry == "letterbox"
    with Detector.open(path, "onnxruntime") as detector, open(run / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
        for row in rows:
            detection = detector.detect(read_image(row["file"]))
            assert detection.score == pytest.approx(float(row["score"]), abs=1e-4)
    assert len(rows) > 5
    code, output = call(export_main, run, "--out", tmp_path / "f.onnx", "--frame", "90x150")
    assert code == 2 and "--frame" in output and "letterbox" in output


@pytest.fixture(scope="module")
def full_option(trained, tmp_path_factory):
    """Plan auto, verdict and camera frame in one file."""
    path = tmp_path_factory.mktemp("export") / "m.onnx"
    arguments = ("--out", path, "--verdict", "--frame", f"{FRAME[0]}x{FRAME[1]}", "--fp16")
    code, output = call(export_main, trained.run, *arguments)
    assert code == 0, output
    assert "<- taken" in output and "all in half" in output or "plan none" in output
    assert "float32: calibration training: NG from " in output
    assert "(no promise: calibrated on float32, this is float16; run ssn-calibrate" in output
    return path


def test_metadata_tells_plan_and_timings(full_option, trained):
    about = info(full_option)
    table = about.plan_table
    assert set(table["candidates"]) == set(CPU_PLANS) and about.plan == table["fastest"]
    medians = {name: row["median_ms"] for name, row in table["candidates"].items()}
    assert about.plan == min(medians, key=medians.get)
    assert set(table["frame"]["candidates"]) == {"gather", "matrices"}
    assert (about.frame, about.input_hw, about.size_hw) == (FRAME, FRAME, (64, 96))
    assert about.verdict_inside and about.calibration == "training"
    assert about.parity["resize_max_levels"] <= 1
    assert 0 < about.parity["resize_map_rms"] < 0.5
    assert info(trained.model).plan == "full" and not info(trained.model).plan_table
    json.dumps(table)


def test_comparisons_stay_in_float32_for_a_builder_that_chooses(full_option):
    """TensorRT 8 goes by the names in the float32 file."""
    half = info(full_option.with_suffix(".fp16.onnx"))
    for path, about in ((full_option, info(full_option)), (full_option.with_suffix(".fp16.onnx"), half)):
        compared = [node.name for node in onnx.load(path).graph.node if node.op_type == "Less"]
        assert compared and all(name.startswith("verdict/") for name in compared)
        assert about.float32_nodes is None or set(compared) <= set(about.float32_nodes)
        assert lint.problems(onnx.load(path)) == []


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_bundles_graph_with_thresholds_is_the_run_folders(trained, tmp_path, precision):
    """The training's calibration, put in behind the bundle's graph: the detector's verdicts on it, and the
    gates of the export."""
    out = tmp_path / "m.onnx"
    code, output = call(
        export_main, trained.bundle, "--out", out, "--verdict", "--precision", precision
    )
    assert code == 0 and f"{precision}: calibration training: " in output, output
    about = info(out)
    assert about.verdict_inside and about.calibration == "training" and about.precision == precision
    graph, truth = onnx.load(out), parity.read_reference(trained.reference)
    assert lint.problems(graph) == []
    runnable = half_precision.emulated(graph) if precision == "float16" else graph
    answers = float64_reference.run_onnx(runnable, truth.images)
    parity.gate(parity.compare(truth, *answers, about.verdict, precision), precision)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    with Detector.open(trained.bundle, "onnxruntime", precision=precision) as detector:
        assert detector.info.verdict == about.verdict
        for image in truth.images:
            mask, is_defect = session.run(["mask", "is_defect"], {"image": image[None]})
            detection = detector.detect(image)
            np.testing.assert_array_equal(mask[0], detection.mask)
            assert bool(is_defect[0]) == detection.is_defect


def test_a_bundle_holds_no_thresholds(trained, tmp_path):
    for arguments in (("--out", tmp_path / "m.ssn"), ()):
        code, output = call(export_main, trained.run, *arguments, "--verdict")
        assert code == 2 and output.count("\n") == 1 and "--out NAME.onnx --verdict" in output
    assert not list(tmp_path.iterdir()) and not (trained.run / "model.ssn").exists()


def frames(trained):
    return [cv2.resize(read_image(p), FRAME[::-1]) for p in list_images(trained.run / "reference")]


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_verdict_inside_is_the_runtimes(full_option, trained, kind):
    path = full_option if kind == "float32" else full_option.with_suffix(".fp16.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [(o.name, o.type) for o in session.get_outputs()] == [
        ("anomaly_map", "tensor(float)"), ("score", "tensor(float)"),
        ("mask", "tensor(uint8)"), ("is_defect", "tensor(uint8)"),
    ]
    with Detector.open(path, "onnxruntime") as detector:
        seen = set()
        for frame in frames(trained):
            anomaly_map, score, mask, is_defect = session.run(None, {"image": frame[None]})
            detection = detector.detect(frame)
            np.testing.assert_array_equal(mask[0], detection.mask)
            assert bool(is_defect[0]) == detection.is_defect
            assert score[0] == detection.score and anomaly_map.shape == (1, 64, 96)
            seen.add(bool(is_defect[0]))
        assert seen == {True, False}


@pytest.mark.parametrize("backend", backends.installed())
def test_frame_inside_is_the_runtimes_resize(full_option, trained, backend):
    """The same camera frame, resized by the graph and by the runtime: pixels within a grey level,
    so nearly the same map (how near depends on how smooth the model is)."""
    with Detector.open(full_option, backend) as raw, Detector.open(trained.model, backend) as small:
        for frame in frames(trained)[:4]:
            ours, theirs = raw.detect(frame), small.detect(frame)
            assert np.corrcoef(ours.anomaly_map.ravel(), theirs.anomaly_map.ravel())[0, 1] > 0.97
            assert ours.score == pytest.approx(theirs.score, abs=5e-2)
            assert ours.mask.shape == theirs.mask.shape
        with pytest.raises(InputError, match="--frame 64x96"):
            raw.detect(np.zeros((64, 96, 3), np.uint8))
