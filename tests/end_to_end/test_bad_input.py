"""Wrong input to training, export and benchmark: one line, exit code 2, nothing half-written."""

import json

import cv2
import numpy as np
import onnx
import pytest
import torch
from commands import OPTIONS, call
from safetensors.torch import load_file, save_file

from ssn_bench.cli import main as bench_main
from ssn_edge.errors import ModelError
from ssn_edge.model.schema import Verdict
from ssn_export.cli import main as export_main
from ssn_export.gates import parity
from ssn_export.graph import export_run, graph_builder
from ssn_train.cli import main as train_main
from ssn_train.network import backbones


def fails(command, *arguments):
    code, output = call(command, *arguments)
    assert code == 2, output
    (line,) = [line for line in output.splitlines() if line.lower().startswith("error")]
    return line


def photo(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    cv2.imwrite(str(path), rng.integers(0, 256, (70, 90, 3), np.uint8))


@pytest.fixture
def photos(tmp_path):
    """A plain folder: four good photos, one defective with a mask."""
    root = tmp_path / "photos"
    for i in range(4):
        photo(root / "good" / f"{i}.png", i)
    photo(root / "bad" / "x.png", 9)
    mask = np.zeros((70, 90), np.uint8)
    mask[20:30, 20:30] = 255
    (root / "masks").mkdir()
    cv2.imwrite(str(root / "masks" / "x.png"), mask)
    return root


def test_data_folders(tmp_path):
    out = tmp_path / "run"
    assert "no such folder" in fails(train_main, tmp_path / "none", "--out", out)
    (tmp_path / "empty").mkdir()
    assert "no good photos" in fails(train_main, tmp_path / "empty", "--out", out)
    (tmp_path / "mvtec" / "train" / "fine").mkdir(parents=True)
    assert "expected" in fails(train_main, tmp_path / "mvtec", "--out", out)
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "split.json").write_text('{"supervised_folds": 3}')
    assert "split.json: expected" in fails(train_main, tmp_path / "tiles", "--out", out)
    (tmp_path / "tiles" / "split.json").write_text(
        json.dumps({"unsupervised": {"train": ["../secret.jpg"], "test": []}})
    )
    (tmp_path / "tiles" / "MT_Free").mkdir()
    found = fails(train_main, tmp_path / "tiles", "--out", out, "--unsupervised")
    assert "leads out of the folder" in found
    assert not out.exists()


def test_mask_of_another_size(photos, tmp_path):
    cv2.imwrite(str(photos / "masks" / "x.png"), np.zeros((71, 90), np.uint8))
    line = fails(train_main, photos, "--out", tmp_path / "run", *OPTIONS)
    assert "x.png: mask of 71x90 for an image of 70x90" in line


def test_unreadable_photos_are_skipped_and_counted(photos, tmp_path, capfd):
    (photos / "good" / "torn.png").write_bytes((photos / "good" / "0.png").read_bytes()[:400])
    code, output = call(train_main, photos, "--out", tmp_path / "run", *OPTIONS, "--steps", 1)
    assert code == 0, output
    text = output + capfd.readouterr().err
    assert "torn.png" in text and "1 of 6 photos skipped" in text


def test_all_photos_unreadable(tmp_path):
    for i in range(3):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{i}.jpg").write_bytes(b"\xff\xd8 no")
    line = fails(train_main, tmp_path / "photos", "--out", tmp_path / "run")
    assert "0 readable good photos" in line


def test_training_options(photos, tmp_path):
    def refused(*arguments):
        return fails(train_main, photos, "--out", tmp_path / "run", *arguments)

    assert "--size 12x12: at least" in refused("--size", "12x12")
    assert "--size abc: give HEIGHTxWIDTH" in refused("--size", "abc")
    assert "--backbone resnet_of_dreams: unknown" in refused("--backbone", "resnet_of_dreams")
    vit = refused("--backbone", "vit_tiny_patch16_224")
    assert "--levels 8,16: --backbone vit_tiny_patch16_224 has features at 16, blocks.0, blocks.1, " in vit
    assert "give two or three" in refused("--levels", "8")
    assert "give two or three" in refused("--levels", "8,16,32,4")
    assert "give different ones, the finest first" in refused("--levels", "16,8")
    assert "has features at 2, 4, 8, 16, 32, block1, " in refused("--levels", "block9,block10")
    assert "has features at 2, 4, 8, 16, 32, block1, " in refused("--levels", "layer2,16")
    assert "--grid 2x2: at least 4x4" in refused("--grid", "2x2")
    assert "--grid 0x5: give HEIGHTxWIDTH" in refused("--grid", "0x5")
    assert "--grid 3x: give HEIGHTxWIDTH" in refused("--grid", "3x")
    assert "--budget abc: give a time such as 60s, 10m or 2h" in refused("--budget", "abc")
    for time in ("-5s", "0", "1e99h"):
        assert f"--budget {time}: give a time" in refused("--budget", time)
    assert "--budget and --steps: both are the length" in refused("--budget", "9s", "--steps", "9")
    assert "--cls-kernel 4: give an odd number" in refused("--cls-kernel", "4")
    none = refused("--cls-width", "0", "--verdict-source", "score")
    assert "--cls-width 0 leaves no classification head" in none
    for option in ("--plain", "--bfloat16"):
        assert f"{option}: of steps on whole photos" in refused("--trainer", "positions", option)
    assert "--weights none.pth: no such file" in refused("--weights", "none.pth")
    assert "nothing to resume" in refused("--resume")
    assert "--device cuda:99" in refused("--device", "cuda:99")
    assert "not in the range" in refused("--batch", "1")
    assert not (tmp_path / "run").exists()


def test_unwritable_output(photos, tmp_path):
    (tmp_path / "file").write_text("")
    line = fails(train_main, photos, "--out", tmp_path / "file" / "run", *OPTIONS)
    assert "cannot be made" in line


def test_weights_files(photos, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    def refused(path):
        return fails(train_main, photos, "--out", tmp_path / "run", "--weights", path)

    torch.save(Evil(), tmp_path / "evil.pth")
    assert "cannot be read" in refused(tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    assert "does not fit tf_efficientnet_lite0" in refused(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "not a dictionary of tensors" in refused(tmp_path / "list.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    assert "cannot be read" in refused(tmp_path / "cut.safetensors")


def test_weights_that_cannot_be_downloaded_name_both_ways_out(monkeypatch):
    def offline(name, pretrained=False, **kwargs):
        raise OSError("no network")

    backbone = backbones.create("resnet18")
    monkeypatch.setattr(backbones.timm, "create_model", offline)
    with pytest.raises(backbones.InputError, match="--weights FILE.*efficientnet_lite0"):
        backbones.load_weights(backbone, None)


def test_checkpoints_of_another_kind(trained, tmp_path):
    assert "no such checkpoint" in fails(export_main, tmp_path / "none")
    for name, damage in {
        "cut": lambda data, path: path.write_bytes(data[: len(data) // 2]),
        "foreign": lambda data, path: save_file({"a": torch.zeros(1)}, path),
        "newer": lambda data, path: save_file(
            {"a": torch.zeros(1)}, path, {"ssn_edge": json.dumps({"schema": 7})}
        ),
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        damage((trained.run / "model.safetensors").read_bytes(), folder / "model.safetensors")
        line = fails(export_main, folder, "--out", tmp_path / "m.onnx")
        expected = {"cut": "damaged", "foreign": "no ssn-edge header", "newer": "schema version 7"}
        assert expected[name] in line
    assert not (tmp_path / "m.onnx").exists()


def test_export_options(trained, tmp_path):
    line = fails(export_main, trained.run, "--out", tmp_path / "m.engine")
    assert "give NAME.ssn, a bundle, or NAME.onnx, plain files" in line
    line = fails(export_main, trained.run, "--data", tmp_path, "--out", tmp_path / "m.onnx")
    assert "no images to compare on" in line
    for frame in ("1080", "axb", "0x10"):
        arguments = (trained.run, "--out", tmp_path / "m.onnx", "--frame", frame)
        if frame != "1080":
            assert f"--frame {frame}" in fails(export_main, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_wrong_fold_is_not_written(trained, tmp_path, monkeypatch):
    """The float64 gate: an algebra that is a thousandth off never reaches the exporter."""
    exact = graph_builder.Deployed
    monkeypatch.setattr(
        graph_builder, "Deployed",
        lambda model, backbone, plan, mean, options: _scaled(exact(model, backbone, plan, mean, options)),
    )
    line = fails(export_main, trained.run, "--out", tmp_path / "m.onnx", "--plan", "full")
    assert "float64 fusion refused" in line and not list(tmp_path.iterdir())


def _scaled(module):
    module.heads.seg_constant *= 1.001
    return module


def test_a_wrong_graph_is_not_written(trained, tmp_path, monkeypatch):
    """The gate itself: a graph with one weight off is refused and leaves nothing behind."""
    trace = graph_builder.tracing.trace

    def wrong(*arguments):
        model = trace(*arguments)
        weight = next(w for w in model.graph.initializer if w.name == "heads.seg")
        values = onnx.numpy_helper.to_array(weight).copy()
        values[:8] *= 1.01
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        return model

    monkeypatch.setattr(graph_builder.tracing, "trace", wrong)
    line = fails(export_main, trained.run, "--out", tmp_path / "m.onnx", "--plan", "none")
    assert "export refused: map_rms" in line
    assert not list(tmp_path.iterdir())


def test_gate_counts_verdicts():
    truth = parity.Reference(np.zeros((2, 1, 1, 3), np.uint8), np.array([[[0.0]], [[2.0]]]),
                             np.array([0.2, 0.8]))
    verdict = Verdict("score", 0.5, 0.0, "chosen", 0)
    flipped = parity.compare(truth, truth.maps, np.array([0.2, 0.4]), verdict, "float32")
    assert (flipped.verdicts_changed, flipped.changed_outside_margin) == (1, 1)
    with pytest.raises(ModelError, match="1 verdicts changed"):
        parity.gate(flipped, "float32")
    same = parity.compare(truth, truth.maps, truth.scores, verdict, "float32")
    parity.gate(same, "float32")


@pytest.mark.parametrize("source", ["score", "map_max", "either"])
def test_gate_refuses_what_is_not_finite(source):
    """Also a score that is NaN beside a sound map, and where NaN's verdict happens to be the right one."""
    truth = parity.Reference(np.zeros((1, 1, 1, 3), np.uint8), np.array([[[0.0, 2.0]]]), np.array([0.8]))
    verdict = Verdict(source, 0.5, 0.0, "chosen", 0, 0.5 if source == "either" else None)
    for maps, scores in ((truth.maps, np.array([np.nan])), (truth.maps * np.nan, truth.scores)):
        for judged in ("export", "engine"):
            with pytest.raises(ModelError, match=f"float32 {judged} refused: an answer is not finite"):
                parity.gate(parity.compare(truth, maps, scores, verdict, "float32"), "float32", judged=judged)


@pytest.mark.parametrize("source, score, peak, outside", [
    ("either", 0.2, 0.4, 0), ("either", 0.9, 0.4, 1), ("either", 0.2, 0.9, 1), ("map_max", 0.9, 0.4, 0),
])
def test_gate_counts_verdicts_by_the_source_that_changed_them(source, score, peak, outside):
    truth = parity.Reference(np.zeros((1, 1, 1, 3), np.uint8), np.array([[[0.0, 0.4]]]), np.array([0.2]))
    verdict = Verdict(source, 0.5, 0.0, "chosen", 0, 0.5 if source == "either" else None)
    maps = np.array([[[0.0, peak]]])
    found = parity.compare(truth, maps, np.array([score]), verdict, "float32")
    assert (found.verdicts_changed, found.changed_outside_margin) == (outside, outside)


def test_bench_input(trained, tmp_path):
    assert "no such model" in fails(bench_main, tmp_path / "none.onnx")
    line = fails(
        bench_main, trained.model, tmp_path, "--budget", "1", "--out", tmp_path / "b.json",
    )
    assert "no such checkpoint" in line and not (tmp_path / "b.json").exists()


def test_full_disk(trained, tmp_path, monkeypatch):
    """A disk that fills while the model is written leaves neither model nor scraps."""
    def full(model, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(export_run.onnx, "save", full)
    line = fails(export_main, trained.run, "--out", tmp_path / "m.onnx", "--plan", "full")
    assert "No space left" in line and not list(tmp_path.iterdir())


def test_state_dictionary_of_the_published_code_loads(published):
    """Names are the published ones, so weights can be exchanged."""
    names = set(load_file(published / "model.safetensors"))
    assert {"discriminator.fc_score.weight", "feature_adaptor.projection.bias",
            "discriminator.dec_head.1.running_var"} <= names
