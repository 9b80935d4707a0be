"""The study on made-up photos, with few and short candidates: what is trained on what, what is taken up."""

import dataclasses
import json
import re

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="candidates are trained with torch")

from ssn_bench import cli  # noqa: E402
from ssn_bench.pareto import candidates, cells, speed, study  # noqa: E402
from ssn_edge.errors import InputError  # noqa: E402
from ssn_train.data.samples import Selection  # noqa: E402
from ssn_train.options import known  # noqa: E402

SMALL = {"size": (64, 64), "steps": 4}
KEPT = ("1024 wide at 2x, 1000 steps", candidates.TODAY, candidates.WITH_SCORE, "512 wide", candidates.PADIM,
        candidates.GAUSSIAN, candidates.NEIGHBOURS)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for folder, count in (("good", 18), ("bad", 9)):
        (root / folder).mkdir()
        for number in range(count):
            image = rng.integers(90, 140, (64, 64, 3), dtype=np.uint8)
            if folder == "bad":
                image[20:36, 20:36] = 250
            cv2.imwrite(str(root / folder / f"{folder}{number // 2:02d}_{number % 2}.png"), image)
    return root


@pytest.fixture
def small(monkeypatch):
    few = [
        dataclasses.replace(candidates.named(name), changes={**candidates.named(name).changes, **SMALL})
        for name in KEPT
    ]
    for module in (candidates, study):
        monkeypatch.setattr(module, "CANDIDATES", tuple(few))
        monkeypatch.setattr(module, "default", lambda: few[0])
    monkeypatch.setattr(study, "PHOTOS", (4,))
    return few


def without_times(document):
    """A cell that was made anew took another time."""
    return json.loads(re.sub(r'"seconds": {[^}]*}', '"seconds": {}', json.dumps(document)))


SELECTION = Selection(part=r"^(\w+)_")


def test_study_and_what_it_takes_up(photos, small, tmp_path, monkeypatch):
    document = study.run(photos, SELECTION, tmp_path, study.Options(seeds=2), lambda text: None)
    assert [row["name"] for row in document["candidates"]] == list(KEPT)
    finalists = {row["name"]: row["runs"] for row in document["finalists"]}
    assert finalists[KEPT[0]] == 4  # two seeds, both ways
    confirmed = {row["name"]: row["runs"] for row in document["confirmed"]}
    assert confirmed["1024 wide at 2x, 12 steps"] == 2 and confirmed[candidates.PADIM] == 1
    assert f"{KEPT[0]} - as before" in document["differences"]["confirmed"]
    assert {row["photos"] for row in document["curve"]} == {4}
    made = sorted((tmp_path / "cells").iterdir())
    assert {path.suffix for path in made} == {".json"}  # nothing unfinished stays

    (tmp_path / "cells" / made[0].name).unlink()
    trained = []
    monkeypatch.setattr(cells, "_maps", lambda cell, shop, original=cells._maps: (
        trained.append(cell.file), original(cell, shop))[1])
    again = study.run(photos, SELECTION, tmp_path, study.Options(seeds=2), lambda text: None)
    assert trained == [made[0].name]
    assert without_times(again) == without_times(document)

    other = json.loads(made[1].read_text())
    other["settings"]["seg_width"] = 7
    made[1].write_text(json.dumps(other))
    with pytest.raises(InputError, match="seg_width is .*, the run was started with 7"):
        study.run(photos, SELECTION, tmp_path, study.Options(seeds=2), lambda text: None)


def test_no_part_is_trained_on_and_tested(photos, small, tmp_path):
    shop = cells.Workshop(study.folds_of(photos, SELECTION), tmp_path, None, "cpu", 1)
    for split, (known_folds, tested) in cells.SPLITS.items():
        rows = shop.training_rows(cells.Cell(small[0], split, 0))
        parts = {shop.samples[row].part for row in rows}
        assert parts and not parts & {shop.samples[row].part for row in shop.rows[tested]}
        assert not shop.labels[rows].any()  # sound photos alone
        assert set(rows) <= {row for fold in known_folds for row in shop.rows[fold]}
    few = shop.training_rows(cells.Cell(small[0], "third", 1, photos=4))
    assert len(few) == 4 and set(few) <= set(shop.training_rows(cells.Cell(small[0], "third", 1)))


def test_from_the_command_line_to_the_target(photos, small, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "CPU_PLANS", ("none", "full"))  # tracing all four takes most of the time
    runner, out = CliRunner(), tmp_path / "pareto"
    found = runner.invoke(cli.main, [
        "--pareto", str(photos), "--part", SELECTION.part, "--seeds", "2", "--out", str(out), "--budget", "1",
    ], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    assert (out / "pareto.png").stat().st_size > 10_000 and "paired by parts" in found.output
    assert len((out / "pareto.csv").read_text().splitlines()) > len(KEPT)
    document = json.loads((out / "pareto.json").read_text())
    times = {n: min(t[n]["median_ms"] for t in document["latency"].values()) for n in KEPT[:4]}

    choice = known.best(out / "pareto.json", 1e6, "efficientnet_lite0")
    rows = [*document["candidates"], *document["finalists"]]
    figures = {row["name"]: row["I-AUROC"]["value"] for row in rows}
    best = max(times, key=lambda name: figures[name])
    assert f": {best}, " in choice.words and choice.settings["size"] == (64, 64)
    fastest = min(times, key=times.get)
    assert f": {fastest}, " in known.best(out / "pareto.json", times[fastest], "efficientnet_lite0").words
    with pytest.raises(InputError, match=f"the fastest known is {fastest}"):
        known.best(out / "pareto.json", times[fastest] / 2, "efficientnet_lite0")
    with pytest.raises(InputError, match="knows nothing of --backbone resnet18"):
        known.best(out / "pareto.json", 1e6, "resnet18")


@pytest.mark.parametrize("text", ["", "fast", "10 min", "-1 ms", "0", "nan", "1e99 s"])
def test_targets_that_are_no_time(text):
    with pytest.raises(InputError, match="--target"):
        known.milliseconds(text)


@pytest.mark.parametrize(("text", "ms"), [("10 ms", 10), ("10", 10), ("0.5 s", 500), ("7.5ms", 7.5)])
def test_targets(text, ms):
    assert known.milliseconds(text) == ms


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"candidates": [{"name": "x"}], "finalists": []}'])
def test_a_file_that_is_no_study(tmp_path, content):
    path = tmp_path / "pareto.json"
    with pytest.raises(InputError, match="not there; measure first"):
        known.best(path, 1.0, "efficientnet_lite0")
    path.write_text(content)
    with pytest.raises(InputError, match="not a study"):
        known.best(path, 1.0, "efficientnet_lite0")


def test_photos_without_defects_cannot_be_compared_by(photos, tmp_path):
    (tmp_path / "good").mkdir()
    for path in (photos / "good").iterdir():
        (tmp_path / "good" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="no defective photo"):
        study.folds_of(tmp_path, SELECTION)
