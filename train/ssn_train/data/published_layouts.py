"""The folder layouts of published data sets: which file is which. No torch, no pixels (but KSDD2's
masks, which are its labels).

Each function takes the root folder and a :class:`~ssn_train.data.datasets.Selection`, and returns the
samples to train and to test on. Layouts as published:

* MVTec AD (and VisA's ``visa_pytorch``): ``train/good``, ``test/good``, ``test/DEFECT``,
  ``ground_truth/DEFECT/NAME_mask.png``; ours also takes ``train/DEFECT``
* VisA: ``split_csv/1cls.csv`` (object, split, label, image, mask) beside the objects' folders
* KolektorSDD2: ``train/ID.png`` with ``train/ID_GT.png``, and ``test``; ``split_weakly_N.pyb``
* SensumSODF: ``CATEGORY/{positive,negative}/data/ID.png``, ``positive/annotation/ID.png``,
  ``sensum_splits/CATEGORY/FOLD/{train,test}/{neg,pos,pos_PERCENT}.pckl``
* magnetic tiles: ``split.json`` beside ``MT_CLASS/Imgs/NAME.jpg`` with ``NAME.png`` masks
* photos: ``good/`` (or images straight in the folder), optionally ``bad/`` (with or without a
  folder per kind) and ``masks/`` (same names, ``_mask`` allowed)
"""

from __future__ import annotations

import csv
import json
import random
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ssn_edge.errors import InputError
from ssn_edge.frames.image_files import list_images
from ssn_edge.frames.masks import read_mask
from ssn_train.data import split_files

GOOD_NAMES = ("good", "ok", "normal")
BAD_NAMES = ("bad", "defect", "defects", "defective", "ng", "anomaly")
MASK_NAMES = ("masks", "mask", "ground_truth")
TEST_SHARE_GOOD, TEST_SHARE_BAD = 0.2, 0.5
"""Shares of a plain folder's photos that are kept for testing where defects are given. Half of the
defects, each kind apart: there are few, and figures from fewer mean nothing."""

KSDD2_ALL = 246
"""Defective training images of KolektorSDD2, all with masks unless a smaller number is chosen."""


@dataclass(frozen=True)
class Sample:
    """One photo: ``label`` 0 good, 1 defective; ``mask`` a file or None (of a defect: unknown where
    it is); ``defect`` its kind."""

    path: Path
    label: int = 0
    mask: Optional[Path] = None
    defect: str = "good"


@dataclass(frozen=True)
class Selection:
    """What to take of a data set: ``category`` where it has several, ``fold`` (from 0) where it is
    cross-validated, ``unsupervised`` to ignore labelled defects in training, ``segmented`` how many
    defects keep their masks (KSDD2: a number; SensumSODF: per cent; None all)."""

    category: Optional[str] = None
    fold: int = 0
    unsupervised: bool = False
    segmented: Optional[int] = None


Parts = Tuple[List[Sample], List[Sample]]
"""Samples to train on and to test on."""


def mvtec(root: Path, select: Selection) -> Parts:
    good = expect(root / "train" / "good")
    train, test = (_mvtec_part(root, part) for part in ("train", "test"))
    if not any(not s.label for s in train):
        raise InputError(f"{good}: no images in it; expected the good training photos there")
    return train, test


def _mvtec_part(root: Path, part: str) -> List[Sample]:
    samples: List[Sample] = []
    for kind in subfolders(root / part):
        if kind.name == "good":
            samples += [Sample(path) for path in list_images(kind)]
        else:
            masks = _by_stem(root / "ground_truth" / kind.name)
            samples += [Sample(p, 1, masks.get(p.stem), kind.name) for p in list_images(kind)]
    return samples


def visa(root: Path, select: Selection) -> Parts:
    table = root / "split_csv" / "1cls.csv"
    parts: Dict[str, List[Sample]] = {"train": [], "test": []}
    for row in _visa_rows(table):
        if row["object"] != select.category or row["split"] not in parts:
            continue
        bad = row["label"] != "normal"
        mask = inside(root, row["mask"], table) if bad and row["mask"] else None
        sample = Sample(inside(root, row["image"], table), int(bad), mask, "anomaly" if bad else "good")
        parts[row["split"]].append(sample)
    return parts["train"], parts["test"]


def visa_categories(root: Path) -> List[str]:
    path = root / "split_csv" / "1cls.csv"
    names = sorted({row["object"] for row in _visa_rows(path)})
    for name in names:  # they become folder names
        if len(inside(Path(), name, path).parts) != 1:
            raise InputError(f"{path}: object {name!r} is not a plain name; download it again")
    return names


def _visa_rows(path: Path) -> List[Dict[str, str]]:
    columns = ["object", "split", "label", "image", "mask"]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != columns:
                found = ", ".join(reader.fieldnames or ["nothing"])
                raise InputError(f"{path}: expected columns {', '.join(columns)}, found {found}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); download it again") from None
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise InputError(f"{path}: line {number} has not {len(columns)} columns; download it again")
    return rows


def ksdd2(root: Path, select: Selection) -> Parts:
    """Labels come from the masks, as nothing else holds them."""
    number = KSDD2_ALL if select.segmented is None else select.segmented
    path = root / f"split_weakly_{number}.pyb"
    if not path.is_file() and number != KSDD2_ALL:
        found = ", ".join(sorted(p.name for p in root.glob("split_weakly_*.pyb"))) or "none"
        raise InputError(f"{root}: expected {path.name} for --segmented {number}, found {found}")
    if not path.is_file():  # everything is segmented then
        train, test = ([_ksdd2_sample(p, True) for p in _ksdd2_images(root / n)] for n in ("train", "test"))
        return train, test
    content = split_files.load(path)
    if not isinstance(content, (list, tuple)) or len(content) != 2:
        raise InputError(f"{path}: expected the two lists of training and test images")
    train, test = (
        [
            _ksdd2_sample(root / name / f"{number}.png", bool(segmented) or name == "test")
            for number, segmented in pairs(part, path)
        ]
        for name, part in zip(("train", "test"), content)
    )
    return train, test


def _ksdd2_images(folder: Path) -> List[Path]:
    return [path for path in list_images(expect(folder)) if not path.stem.endswith("_GT")]


def _ksdd2_sample(path: Path, segmented: bool) -> Sample:
    mask = path.with_name(f"{path.stem}_GT.png")
    if not mask.is_file():
        raise InputError(f"{path.parent}: expected {mask.name} beside {path.name}, found none")
    if not read_mask(mask).any():
        return Sample(path)
    return Sample(path, 1, mask if segmented else None, "defect")


def sensum(root: Path, select: Selection) -> Parts:
    splits = expect(root / "sensum_splits" / str(select.category) / str(select.fold))
    data = expect(root / str(select.category))
    per_cent = 100 if select.segmented is None else select.segmented
    train = _sensum_part(data, splits / "train", f"pos_{per_cent}.pckl")
    return train, _sensum_part(data, splits / "test", "pos.pckl")


def _sensum_part(data: Path, splits: Path, positives: str) -> List[Sample]:
    good = split_files.load(splits / "neg.pckl")
    bad = split_files.load(splits / positives)
    folder = data / "positive"
    test = positives == "pos.pckl"
    samples = [
        Sample(data / "negative" / "data" / f"{number:>03}.png")
        for number, _ in pairs(good, splits / "neg.pckl")
    ]
    for number, segmented in pairs(bad, splits / positives):
        mask = folder / "annotation" / f"{number:>03}.png"
        known = mask if segmented or test else None
        samples.append(Sample(folder / "data" / f"{number:>03}.png", 1, known, "defect"))
    return samples


def tiles(root: Path, select: Selection) -> Parts:
    """The unsupervised split, or one of the folds to test on and the others to train on."""
    path = root / "split.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if select.unsupervised:
            names = [[str(n) for n in document["unsupervised"][part]] for part in ("train", "test")]
        else:
            folds = [[str(n) for n in fold] for fold in document["supervised_folds"]]
            rest = [name for i, fold in enumerate(folds) if i != select.fold for name in fold]
            names = [rest, folds[select.fold]]
    except (ValueError, KeyError, TypeError, IndexError):
        raise InputError(
            f'{path}: expected {{"unsupervised": {{"train": [...], "test": [...]}}, '
            '"supervised_folds": [[...], [...], [...]]}'
        ) from None
    train, test = ([_tile(root, name, path) for name in part] for part in names)
    return train, test


def _tile(root: Path, name: str, source: Path) -> Sample:
    path = inside(root, name, source)
    kind = Path(name).parts[0]
    if kind == "MT_Free":
        return Sample(path)
    return Sample(path, 1, path.with_suffix(".png"), kind[3:] if kind.startswith("MT_") else kind)


def photos(root: Path, select: Selection) -> Parts:
    folders = {path.name.lower(): path for path in subfolders(root)}
    good_folder = _first(folders, GOOD_NAMES)
    good = [Sample(path) for path in list_images(good_folder or root)]
    bad_folder, mask_folder = _first(folders, BAD_NAMES), _first(folders, MASK_NAMES)
    bad: List[List[Sample]] = []
    if bad_folder is not None:
        for kind in [bad_folder, *subfolders(bad_folder)]:
            masks = _by_stem(mask_folder) if mask_folder else {}
            if mask_folder and kind != bad_folder:
                masks = {**masks, **_by_stem(mask_folder / kind.name)}
            bad.append([Sample(p, 1, masks.get(p.stem), kind.name) for p in list_images(kind)])
    if not any(bad):
        return good, []
    train, test = split_samples(good, TEST_SHARE_GOOD, seed=0)
    for kind_samples in bad:
        share = 1.0 if select.unsupervised else TEST_SHARE_BAD
        learnt, kept = split_samples(kind_samples, share, seed=0)
        train, test = train + learnt, test + kept
    return train, test


def split_samples(samples: Sequence[Sample], share: float, seed: int) -> Parts:
    """(rest, part): ``part`` a seeded random ``share``, at least one of two, order kept; all of them
    for a share of 1."""
    if share == 1:
        return [], list(samples)
    count = min(max(round(share * len(samples)), 1), len(samples) - 1) if share > 0 else 0
    chosen = set(random.Random(seed).sample(range(len(samples)), max(count, 0)))
    rest = [s for i, s in enumerate(samples) if i not in chosen]
    return rest, [s for i, s in enumerate(samples) if i in chosen]


def expect(folder: Path) -> Path:
    """``folder`` if it is one; else InputError with what lies there instead."""
    if folder.is_dir():
        return folder
    there = next(parent for parent in folder.parents if parent.is_dir())
    found = sorted(path.name for path in there.iterdir())
    listed = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    raise InputError(f"{there}: expected {folder}, found {listed or 'nothing'} there")


def inside(root: Path, name: str, source: Path) -> Path:
    """``root / name``, refusing names that lead out of the folder or are none."""
    if Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).parts:
        raise InputError(f"{source}: {name!r} leads out of the folder; give relative paths")
    if "\0" in name:
        raise InputError(f"{source}: {name!r} is no file name; make the list again")
    return root / name


def pairs(content: Any, source: Path) -> List[Tuple[Any, Any]]:
    """The (name, segmented) entries of a split list."""
    entries: Sequence[Any] = content if isinstance(content, (list, tuple)) else [None]
    for entry in entries:
        pair = isinstance(entry, (list, tuple)) and len(entry) == 2
        if not pair or not isinstance(entry[0], (int, str)):
            raise InputError(f"{source}: expected (image, segmented) pairs, found {reprlib.repr(entry)}")
        inside(Path(), str(entry[0]), source)
    return [(name, segmented) for name, segmented in entries]


def subfolders(folder: Path) -> List[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _by_stem(folder: Path) -> Dict[str, Path]:
    """Mask files by their photo's stem: ``NAME_mask.png`` and ``NAME.png`` both belong to NAME."""
    if not folder.is_dir():
        return {}
    return {p.stem[:-5] if p.stem.endswith("_mask") else p.stem: p for p in list_images(folder)}


def _first(folders: Dict[str, Path], names: Sequence[str]) -> Optional[Path]:
    return next((folders[name] for name in names if name in folders), None)
