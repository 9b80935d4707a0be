"""Many runs and their table through the command line."""

import csv
import json
import shutil

import pytest
from commands import OPTIONS, call

from ssn_train.cli import main as train_main
from ssn_train.options.settings import Settings
from ssn_train.training import many_runs

SHORT = [*OPTIONS[:2], "--steps", "2", "--batch", "4", "--workers", "2"]


@pytest.fixture(scope="module")
def photos(data, tmp_path_factory):
    """A plain folder with labelled defects, half of them without a mask: supervised, mixed."""
    root = tmp_path_factory.mktemp("photos")
    shutil.copytree(data / "train" / "good", root / "good")
    for kind in sorted((data / "test").iterdir()):
        if kind.name != "good":
            shutil.copytree(kind, root / "bad" / kind.name)
    for kind in ("crack", "pit"):
        shutil.copytree(data / "ground_truth" / kind, root / "masks" / kind)
    return root


@pytest.fixture(scope="module")
def study(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    arguments = (photos, "--out", out, "--seeds", "2", "--ablation", "ours,no_cls,sn", *SHORT)
    code, output = call(train_main, *arguments)
    assert code == 0, output
    return out, arguments, output


def test_a_table_may_show_the_lines_figures(study, tmp_path):
    """By name, as a preset's metrics."""
    out, _, _ = study
    cells = [many_runs.Cell("ours", None, None, seed) for seed in (42, 43)]
    for cell in cells:
        (tmp_path / cell.folder).mkdir(parents=True)
        shutil.copy(out / cell.folder / "metrics.json", tmp_path / cell.folder)
    preset = {"metrics": ["I-AUROC", "FPR at 100 % recall", "recall at the threshold"]}
    task = many_runs.Task("photos", Settings("resnet18"), cells, preset, {}, [])
    many_runs.write_tables(task, tmp_path)
    counts = [metrics(out / cell.folder)["line"]["figures"]["FPR at 100 % recall"] for cell in cells]
    mean = sum(100 * found["count"] / found["of"] for found in counts) / 2
    with open(tmp_path / "table.csv", newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(preset["metrics"])
    assert float(rows["FPR at 100 % recall"]["mean"]) == pytest.approx(mean, abs=1e-3)


def metrics(run):
    return json.loads((run / "metrics.json").read_text())


def test_table_holds_the_runs_figures(study):
    out, _, output = study
    runs = {
        name: [metrics(out / name / f"seed-{seed}")["metrics"] for seed in (42, 43)]
        for name in ("ours", "no_cls", "sn")
    }
    table = (out / "table.md").read_text()
    assert table in output
    for name, found in runs.items():
        key = "I-AUROC" if name == "ours" else "I-AUROC (map maximum)"
        mean = sum(100 * m[key] for m in found) / 2
        assert f"| {name} | {mean:.1f} ± " in table
    assert "supervised; final step; mean and standard deviation over 2 seeds (42, 43)" in table
    changes = (out / "changes.md").read_text()
    assert "| no_cls |" in changes and "-3.1" in changes  # Table 5: 95.5 for 98.6
    assert {p.name for p in out.iterdir()} == {
        "ours", "no_cls", "sn", "table.md", "table.csv", "table.png",
        "changes.md", "changes.csv", "changes.png",
    }


def test_supervision_comes_from_the_data(study, photos, tmp_path):
    out, _, output = study
    assert "training: mixed supervision: 4 defects, 2 without a mask" in output
    assert metrics(out / "ours" / "seed-42")["run"]["supervised"]
    code, output = call(train_main, photos, "--out", tmp_path / "run", "--unsupervised", *SHORT)
    assert code == 0 and "training: unsupervised" in output
    document = metrics(tmp_path / "run")
    assert not document["run"]["supervised"] and document["images"]["defective"] == 8


def test_same_command_goes_on(study):
    out, arguments, _ = study
    before = (out / "ours" / "seed-42" / "model.safetensors").stat().st_mtime_ns
    table = (out / "table.csv").read_text()
    shutil.rmtree(out / "sn" / "seed-43")
    code, output = call(train_main, *arguments)
    assert code == 0 and "[6/6] sn, seed-43" in output and "[1/6]" not in output
    assert (out / "ours" / "seed-42" / "model.safetensors").stat().st_mtime_ns == before
    assert (out / "table.csv").read_text() == table
    code, output = call(train_main, *arguments[:-1], "1")  # other --workers: nothing to do again
    assert code == 0 and "/6]" not in output
    code, output = call(train_main, *arguments, "--noise", "0.2")
    assert code == 2 and "finished already, but noise_std is 0.2" in output


def test_other_files_are_noticed(study, photos, tmp_path):
    out, arguments, _ = study
    changed = tmp_path / "photos"
    shutil.copytree(photos, changed)
    next((changed / "good").iterdir()).unlink()
    code, output = call(train_main, changed, *arguments[1:])
    assert code == 2 and "finished already with other files" in output


def test_all_ablations_of_unlabelled_data_leave_out_what_needs_labels(data):
    from ssn_train.data import datasets
    from ssn_train.options.settings import Settings
    from ssn_train.training import many_runs

    layout = datasets.scan(data)
    cells = many_runs.cells(layout, None, "0", "all", [1])
    task = many_runs.Task("x", Settings("resnet18"), cells, {}, {}, [])
    possible = many_runs.check(task, datasets.open_dataset(data), all_ablations=True)
    kept = [cell.ablation for cell in possible.cells]
    assert len(cells) == 10 and len(kept) == 8 and not {"no_anom", "overlap"} & set(kept)


def test_map_judges_where_there_is_no_head(study):
    out, _, _ = study
    assert metrics(out / "sn" / "seed-42")["verdict"]["source"] == "map_max"
    assert metrics(out / "ours" / "seed-42")["verdict"]["source"] == "score"


def test_ablated_runs_are_not_exported(study, tmp_path):
    from ssn_export.cli import main as export_main

    out, _, _ = study
    code, output = call(export_main, out / "sn" / "seed-42", "--out", tmp_path / "m.onnx")
    assert code == 2 and "trained with --ablation sn" in output and not list(tmp_path.iterdir())


def test_a_presets_settings_on_other_data_make_no_table_of_the_paper(photos, tmp_path):
    arguments = ("--preset", "ksdd2", "--backbone", "efficientnet_lite0", "--seeds", "1")
    code, output = call(train_main, photos, "--out", tmp_path / "out", *arguments, *SHORT)
    assert code == 0, output
    assert "# photos with the settings of ksdd2" in output and "paper" not in output.split("# photos")[1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--categories", "cup"], "--categories cup: not there; choose from nothing to choose from"),
        (["--categories", "all"], "--categories all: not there; choose from nothing"),
        (["--noise", "nan"], "noise_std is nan; give a finite number"),
        (["--perlin-threshold", "nan"], "perlin_threshold is nan"),
        (["--size", "²"], "give HEIGHTxWIDTH in pixels"),
        (["--folds", "2"], "--folds 2: .* has none"),
        (["--ablation", "half"], "--ablation half: not there; choose from ours, no_upscale"),
        (["--segmented", "3"], "--segmented 3: photos has no lists for it"),
        (["--seeds", "2", "--resume"], "--resume: not needed with several runs"),
        (["--preset", "mvtec2"], "is not one of"),
        (["--ablation", "no_anom", "--unsupervised"], "no_anom: trains on real defects alone"),
    ],
)
def test_wrong_choices(photos, tmp_path, arguments, message):
    import re

    code, output = call(train_main, photos, "--out", tmp_path / "out", *SHORT, *arguments)
    assert code == 2 and re.search(message, output), output
    assert not list(tmp_path.rglob("*.safetensors"))


def test_preset_sets_defaults_and_hand_wins(data, tmp_path):
    code, output = call(
        train_main, data, "--preset", "mvtec", "--out", tmp_path / "out", "--backbone", "efficientnet_lite0",
        "--seeds", "1", *SHORT,
    )
    assert code == 0, output
    assert "| granular | " in (tmp_path / "out" / "table.md").read_text()  # not the paper's average
    settings = metrics(tmp_path / "out" / "seed-42")["run"]["settings"]
    assert settings["perlin_threshold"] == 0.2 and settings["holdout"] == 0.0
    assert (settings["batch"], settings["epochs"], settings["size"]) == (4, 300, [64, 96])
    for changed in ("--steps 2", "--backbone efficientnet_lite0", "--size 64x96", "--batch 4"):
        assert changed in output.split("not the preset's protocol: ")[1]
