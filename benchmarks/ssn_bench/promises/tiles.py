"""Magnetic tiles, split anew by tile: what a threshold from some tiles does on others."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from ssn_bench.demo.pipeline import command
from ssn_bench.promises import judged
from ssn_bench.promises.judged import Row
from ssn_edge import Detector, InputError
from ssn_edge.model.bundle import MANIFEST
from ssn_edge.verdict import calibrating

SHARES = (0.49, 0.25, 0.26)
"""Of the sound tiles: trained on, calibrated on, tested."""

LEVELS = (0.05, 0.1)
"""What 30 tiles can promise."""

PART = r"^tile(\d+)_"


def run(data: Path, out: Path, splits: int, more: Sequence[str]) -> List[Row]:
    """A training a split, with ``more`` of ssn-train's options, judged by the runtime; finished splits are
    not made again."""
    sound, bad = _photos(data)
    rows: List[Row] = []
    for number in range(splits):
        folder = out / f"split-{number}"
        _lay_out(folder, data, sound, bad, number)
        model = folder / "model.ssn"
        if not (folder / "run" / "model.safetensors").exists():
            own = ["--out", folder / "run", "--holdout", 0, "--seed", number]
            command("ssn-train", folder / "train", *own, *more)
        if not (model / MANIFEST).exists():
            command("ssn-export", folder / "run", "--out", model, "--plan", "none")
        rows += _rows(model, folder)
    return rows


def _photos(data: Path) -> Tuple[Dict[int, List[str]], List[str]]:
    """Sound photos by tile, and those with a defect."""
    try:
        groups = json.loads((data / "split.json").read_text(encoding="utf-8"))["groups"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{data}: no split.json with groups ({error}); give the magnetic tiles") from None
    sound: Dict[int, List[str]] = {}
    for name, tile in groups.items():
        if name.startswith("MT_Free/"):
            sound.setdefault(tile, []).append(name)
    return sound, [name for name in groups if not name.startswith("MT_Free/")]


def _lay_out(folder: Path, data: Path, sound: Dict[int, List[str]], bad: Sequence[str], seed: int) -> None:
    """Folders of links, named by tile. ``before``: a tenth of the photos to train on, taken out by photo."""
    rng, tiles = random.Random(seed), sorted(sound)
    rng.shuffle(tiles)
    cuts = np.cumsum([round(share * len(tiles)) for share in SHARES[:2]])
    known, calibrated, tested = tiles[: cuts[0]], tiles[cuts[0] : cuts[1]], tiles[cuts[1] :]
    photos = [(tile, name) for tile in known for name in sound[tile]]
    before = set(rng.sample(photos, len(photos) // 10))
    _link(folder / "train" / "good", data, [one for one in photos if one not in before])
    _link(folder / "before", data, sorted(before))
    for place, chosen in (("calibrate", calibrated), ("test", tested)):
        _link(folder / place, data, [(tile, name) for tile in chosen for name in sound[tile]])
    _link(folder / "defects", data, [(0, name) for name in bad])


def _link(folder: Path, data: Path, photos: Sequence[Tuple[int, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for tile, name in photos:
        place = folder / f"tile{tile}_{name.replace('/', '_')}"
        if not os.path.lexists(place):
            place.symlink_to((data / name).resolve())


def _rows(model: Path, folder: Path) -> List[Row]:
    with Detector.open(model) as detector:
        seen: Dict[str, Any] = {
            name: judged.observed(detector, folder / name, PART)
            for name in ("before", "calibrate", "test", "defects")
        }
        known = judged.observed(detector, folder / "train" / "good", PART)
        by_map = detector.info.verdict.source == "map_max"  # there may be no head for a score of its own
    seen["defects"].parts = [""] * len(seen["defects"].parts)
    scales = calibrating.scales_of(*known.arrays())
    kinds = ("map_max",) if by_map else judged.SOURCES
    rows = [
        judged.quantile_row(source, seen["before"], seen["test"], seen["defects"])
        for source in kinds if source != "either"
    ]
    for source in kinds:
        for level in LEVELS:
            rows.append(
                judged.row(source, scales, seen["calibrate"], seen["test"], seen["defects"], level)
            )
    return rows
