"""Promised against observed: tiles are never on two sides, and the table adds up what was counted."""

import json

import cv2
import numpy as np
import pytest
import tiny

from ssn_bench.promises import judged
from ssn_bench.promises.judged import Row
from ssn_edge import Detector, InputError

tiles = pytest.importorskip("ssn_bench.promises.tiles")


@pytest.fixture
def data(tmp_path):
    """40 tiles of three sound photos each, some with a defect."""
    groups, root = {}, tmp_path / "data"
    for tile in range(40):
        names = [f"MT_Free/Imgs/exp{shot}_num_{tile}.png" for shot in range(3)]
        names += [f"MT_Crack/Imgs/exp1_num_{tile}.png"] if tile % 4 == 0 else []
        for name in names:
            groups[name] = tile
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            level = 200 if "Crack" in name else 20 + tile
            cv2.imwrite(str(root / name), np.full((32, 48), level, np.uint8))
    (root / "split.json").write_text(json.dumps({"groups": groups}))
    return root


def test_a_tile_is_on_one_side(data, tmp_path):
    sound, bad = tiles._photos(data)
    assert len(sound) == 40 and len(bad) == 10
    for seed in range(5):
        folder = tmp_path / str(seed)
        tiles._lay_out(folder, data, sound, bad, seed)
        sides = [
            {photo.name.split("_")[0] for photo in (folder / name).iterdir()}
            for name in ("train/good", "calibrate", "test")
        ]
        assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
        assert sum(map(len, sides)) == 40
        assert len(list((folder / "defects").iterdir())) == 10
    with pytest.raises(InputError, match="no split.json"):
        tiles._photos(tmp_path)


def test_alarms_are_counted_by_part_and_defects_by_photo(data, tmp_path):
    """The tiny model's score is the grey level: the count is known by hand."""
    sound, bad = tiles._photos(data)
    tiles._lay_out(tmp_path / "x", data, sound, bad, 1)
    model = tiny.write_bundle(tmp_path / "m.ssn")
    with Detector.open(model, "onnxruntime") as detector:
        known, tested = (judged.observed(detector, tmp_path / "x" / name, tiles.PART)
                         for name in ("calibrate", "test"))
        defects = judged.observed(detector, tmp_path / "x" / "defects")
    row = judged.row("score", (0, 1, 0, 1), known, tested, defects, 0.1)
    levels = sorted({round(255 * score) for score in known.scores})
    highest = levels[-1]  # of ten parts, 10 % is the highest
    assert row.n == len(levels) == 10 and (row.caught, row.defects) == (10, 10)
    assert row.alarms == sum(level > highest for level in {round(255 * s) for s in tested.scores})
    assert row.sound == 10


def test_rows_are_added_up_with_an_interval():
    rows = [Row("score", "5 % by part", 30, 1 / 31, 0.095, alarms, 40, 9, 10) for alarms in (0, 2)]
    head, line = judged.table(rows)
    assert "2 of 80 = 2.5 % (0.1 to 13.2)" in line and "18 of 20" in line  # 1 of 40: SciPy's binomtest
    assert "3.2 % on average, 9.5 % at most" in line
