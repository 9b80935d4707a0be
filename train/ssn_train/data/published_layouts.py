"""The folder layouts of published data sets: which file is which. No torch, no pixels (but KSDD2's
masks, which are its labels).

Each function takes the root folder and a :class:`~ssn_train.data.samples.Selection`, and returns the
:class:`~ssn_train.data.samples.Listing`. Layouts as published (MVTec AD and those of folder names:
:mod:`.folder_layouts`):

* VisA: ``split_csv/1cls.csv`` (object, split, label, image, mask) beside the objects' folders
* KolektorSDD2: ``train/ID.png`` with ``train/ID_GT.png``, and ``test``; ``split_weakly_N.pyb``
* SensumSODF: ``CATEGORY/{positive,negative}/data/ID.png``, ``positive/annotation/ID.png``,
  ``sensum_splits/CATEGORY/FOLD/{train,test}/{neg,pos,pos_PERCENT}.pckl``
* magnetic tiles: ``split.json`` beside ``MT_CLASS/Imgs/NAME.jpg`` with ``NAME.png`` masks
"""

from __future__ import annotations

import csv
import json
import reprlib
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from ssn_edge.errors import InputError
from ssn_edge.frames.image_files import list_images
from ssn_edge.frames.masks import read_mask
from ssn_edge.inventory import Reason
from ssn_train.data import split_files
from ssn_train.data.samples import Listing, Sample, Selection, expect, inside

KSDD2_ALL = 246
"""Defective training images of KolektorSDD2, all with masks unless a smaller number is chosen."""


def visa(root: Path, select: Selection) -> Listing:
    table = root / "split_csv" / "1cls.csv"
    parts: Dict[str, List[Sample]] = {"train": [], "test": []}
    for row in _visa_rows(table):
        if row["object"] != select.category or row["split"] not in parts:
            continue
        bad = row["label"] != "normal"
        mask = inside(root, row["mask"], table) if bad and row["mask"] else None
        sample = Sample(inside(root, row["image"], table), int(bad), mask, "anomaly" if bad else "good")
        parts[row["split"]].append(sample)
    return Listing(parts["train"], parts["test"], {table: "lists"})


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


def ksdd2(root: Path, select: Selection) -> Listing:
    """Labels come from the masks, as nothing else holds them."""
    number = KSDD2_ALL if select.segmented is None else select.segmented
    path = root / f"split_weakly_{number}.pyb"
    if not path.is_file() and number != KSDD2_ALL:
        found = ", ".join(sorted(p.name for p in root.glob("split_weakly_*.pyb"))) or "none"
        raise InputError(f"{root}: expected {path.name} for --segmented {number}, found {found}")
    if not path.is_file():  # everything is segmented then
        train, test = ([_ksdd2_sample(p, True) for p in _ksdd2_images(root / n)] for n in ("train", "test"))
        return _ksdd2_parts(train, test, root)
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
    parts = _ksdd2_parts(train, test, root)
    parts.used[path] = "lists"
    return parts


def _ksdd2_parts(train: List[Sample], test: List[Sample], root: Path) -> Listing:
    """The masks are the labels of good photos too, so they are used."""
    found = Listing(train, test)
    others = (path for path in root.glob("split_weakly_*.pyb"))
    found.unused.update(dict.fromkeys(others, Reason("lists for other numbers of masks")))
    for sample in [*train, *test]:
        mask = sample.path.with_name(f"{sample.path.stem}_GT.png")
        found.used[mask] = "masks, from which the labels are"
    return found


def _ksdd2_images(folder: Path) -> List[Path]:
    return [path for path in list_images(expect(folder)) if not path.stem.endswith("_GT")]


def _ksdd2_sample(path: Path, segmented: bool) -> Sample:
    mask = path.with_name(f"{path.stem}_GT.png")
    if not mask.is_file():
        raise InputError(f"{path.parent}: expected {mask.name} beside {path.name}, found none")
    if not read_mask(mask).any():
        return Sample(path)
    return Sample(path, 1, mask if segmented else None, "defect")


def sensum(root: Path, select: Selection) -> Listing:
    splits = expect(root / "sensum_splits" / str(select.category) / str(select.fold))
    data = expect(root / str(select.category))
    per_cent = 100 if select.segmented is None else select.segmented
    lists = [splits / "train" / f"pos_{per_cent}.pckl", splits / "test" / "pos.pckl"]
    lists += [path.with_name("neg.pckl") for path in lists]
    return Listing(
        _sensum_part(data, splits / "train", lists[0].name), _sensum_part(data, splits / "test", "pos.pckl"),
        dict.fromkeys(lists, "lists"),
    )


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


def tiles(root: Path, select: Selection) -> Listing:
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
    masks = {s.path: s.path.with_suffix(".png") for s in [*train, *test] if not s.label}
    return Listing(train, test, {path: "lists"}, good_masks={p: m for p, m in masks.items() if m.is_file()})


def _tile(root: Path, name: str, source: Path) -> Sample:
    path = inside(root, name, source)
    kind = Path(name).parts[0]
    if kind == "MT_Free":
        return Sample(path)
    return Sample(path, 1, path.with_suffix(".png"), kind[3:] if kind.startswith("MT_") else kind)


def pairs(content: Any, source: Path) -> List[Tuple[Any, Any]]:
    """The (name, segmented) entries of a split list."""
    entries: Sequence[Any] = content if isinstance(content, (list, tuple)) else [None]
    for entry in entries:
        pair = isinstance(entry, (list, tuple)) and len(entry) == 2
        if not pair or not isinstance(entry[0], (int, str)):
            raise InputError(f"{source}: expected (image, segmented) pairs, found {reprlib.repr(entry)}")
        inside(Path(), str(entry[0]), source)
    return [(name, segmented) for name, segmented in entries]
