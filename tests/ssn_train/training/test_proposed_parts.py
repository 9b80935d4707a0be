"""Parts that nothing names: found where shots of a part are alike, refused where all photos are."""

import contextlib
import csv
import json
import shutil
import threading

import cv2
import numpy as np
import pytest
from commands import call

pytest.importorskip("torch", reason="training needs torch")

from ssn_bench.demo import surfaces  # noqa: E402
from ssn_edge.frames.image_files import write_image  # noqa: E402
from ssn_train.cli import main  # noqa: E402
from ssn_train.data.datasets import Selection, open_dataset  # noqa: E402
from ssn_train.data.splits import hold_back  # noqa: E402
from ssn_train.network import backbones  # noqa: E402
from ssn_train.parts import likeness, tables  # noqa: E402
from ssn_train.training import fit  # noqa: E402
from ssn_train.training.photo_loader import PhotoLoader, descriptors  # noqa: E402

OPTIONS = ("--size", "32x32", "--steps", "2", "--batch", "4", "--workers", "2")
PARTS, SHOTS = 10, 3


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    """Granular plates, each photographed several times in a fixture: moved by a pixel, a lamp that flickers.
    Three of them are called bad by one shot. The names say nothing, and one file is broken."""
    folder = tmp_path_factory.mktemp("shots") / "photos"
    side = surfaces.FIELD + 2 * surfaces.MARGIN
    order = np.random.default_rng(1).permutation(PARTS * SHOTS)
    truth = {}
    for part in range(PARTS):
        rng = np.random.default_rng(part)
        surface = surfaces.granular(rng, side, side)
        for shot in range(SHOTS):
            y, x = surfaces.MARGIN + rng.integers(-1, 2, 2)
            image = surface[y : y + surfaces.FIELD, x : x + surfaces.FIELD] * rng.uniform(0.97, 1.03)
            image += rng.normal(0, 0.01, image.shape)
            name = f"{'bad' if part < 3 and shot == 0 else 'good'}/{order[part * SHOTS + shot]:03d}.png"
            small = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)
            write_image(folder / name, np.round(255 * np.clip(small, 0, 1)).astype(np.uint8))
            truth[name] = part
    (folder / "good" / "broken.png").write_bytes((folder / name).read_bytes()[:-40])
    return folder, truth


def table_of(run):
    with open(run / "parts.csv", newline="", encoding="utf-8") as file:
        return {row["file"]: row["part"] for row in csv.DictReader(file)}


def photos_tested(run):
    with open(run / "predictions.csv", newline="", encoding="utf-8") as file:
        return ["/".join(row["file"].split("/")[-2:]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def found(shots, tmp_path_factory):
    run = tmp_path_factory.mktemp("found") / "run"
    code, output = call(main, shots[0], "--out", run, *OPTIONS)
    assert code == 0, output
    return run, output


def test_parts_that_are_clear_are_used_and_shown(shots, found):
    truth, (run, output) = shots[1], found
    table = table_of(run)
    assert table.pop("good/broken.png") == "unread-0001"
    assert set(table) == set(truth) and len(set(table.values())) == PARTS
    assert len({(table[name], truth[name]) for name in truth}) == PARTS  # the same groups by other names
    sheet = cv2.imread(str(run / "parts.png"))
    assert sheet.shape[0] > 10 * 128 and sheet.std() > 10
    assert f"{PARTS * SHOTS} photos look like {PARTS} parts, {SHOTS} photos of one at most" in output
    test_parts = {truth[name] for name in photos_tested(run)}
    trained = [name for name in truth if truth[name] not in test_parts]
    assert set(photos_tested(run)) == {name for name in truth if truth[name] in test_parts} and trained
    assert json.loads((run / "metrics.json").read_text())["run"]["parts"] == "likeness"


def test_the_table_is_the_folders_own(shots, found, tmp_path):
    """Copied there it gives the same split, which ssn-bench --run takes too."""
    folder, (run, _) = shots[0], found
    copy = shutil.copytree(folder, tmp_path / "photos")
    shutil.copy(run / "parts.csv", copy / "parts.csv")
    dataset = open_dataset(copy)
    assert dataset.grouping == "parts.csv"
    by_option = open_dataset(folder, Selection(part=str(run / "parts.csv")))
    for one in (dataset, by_option):
        names = {"/".join(sample.path.parts[-2:]) for sample in one.test} - {"good/broken.png"}
        assert names == set(photos_tested(run))
    rest, held = hold_back(dataset.train, 0.1, 42)
    assert held and not {s.part for s in held} & {s.part for s in rest}


def test_a_resumed_run_reads_its_table(shots, tmp_path, monkeypatch):
    @contextlib.contextmanager
    def stopped_at_once(*_):
        stop = threading.Event()
        stop.set()
        yield stop

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(fit, "stop_on_signals", stopped_at_once)
        code, output = call(main, shots[0], "--out", run, *OPTIONS)
    assert code == 130, output
    before = table_of(run)

    def never(*_):
        raise AssertionError("looked for again")

    monkeypatch.setattr(likeness, "propose", never)
    code, output = call(main, shots[0], "--out", run, *OPTIONS, "--resume")
    assert code == 0, output
    assert table_of(run) == before
    parts = {before[name] for name in photos_tested(run)}
    assert {name for name, part in before.items() if part in parts} == set(photos_tested(run))


def test_parts_that_were_given_are_kept_with_the_run(shots, tmp_path):
    """So that ssn-bench --run tests what training tested."""
    run = tmp_path / "run"
    code, output = call(main, shots[0], "--out", run, *OPTIONS, "--part", r"(.)\.png")
    assert code == 0, output
    assert all(name[-5] == part for name, part in table_of(run).items()) and not (run / "parts.png").exists()
    assert "parts by --part" in output and "comparing photos" not in output


@pytest.fixture(scope="module")
def loader():
    backbone = backbones.create(backbones.DEFAULT)
    backbones.load_weights(backbone, None)
    backbone.module.eval()
    return PhotoLoader(backbone, (64, 64))


@pytest.mark.parametrize("texture", surfaces.TEXTURES)
def test_surfaces_that_all_look_alike_show_no_gap(loader, tmp_path, texture):
    surfaces.write_dataset(tmp_path / texture, texture, 0, 128, n_train=40, n_test_good=0, n_per_defect=0)
    photos = sorted((tmp_path / texture).rglob("*.png"))
    assert len(photos) == 40
    found = likeness.propose(descriptors(loader, photos))
    assert not found.clear and found.gap < 1.1


def test_a_run_says_that_there_is_no_gap(tmp_path):
    surfaces.write_dataset(tmp_path / "fabric", "fabric", 0, 64, n_train=40, n_test_good=2, n_per_defect=1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "parts.csv").write_text("file,part\n")  # of a run that was given up
    code, output = call(main, tmp_path / "fabric", "--out", tmp_path / "run", *OPTIONS)
    assert code == 0, output
    assert "no clear gap between photos of one part and of others: the promise counts photos" in output
    assert not (tmp_path / "run" / "parts.csv").exists()
    assert "not used: look at" in output  # the nearest there is, to be looked at
    assert (tmp_path / "run" / "parts.png").stat().st_size > 10_000
    listed = tables.read(tmp_path / "run" / "parts-unclear.csv")
    assert len(listed) == 46 and "train/good/000.png" in listed
