"""Folders of photos, their labels and masks. No torch: the benchmark reads them too.

Three layouts are found by looking at the folder:

* MVTec AD: ``train/good``, ``test/good``, ``test/DEFECT``, ``ground_truth/DEFECT/NAME_mask.png``
* magnetic tiles: ``split.json`` beside ``MT_CLASS/Imgs/NAME.jpg`` with ``NAME.png`` masks
* photos: ``good/`` (or images straight in the folder), with an optional ``bad/`` (with or without
  a folder per kind of defect) and ``masks/`` (same names, ``_mask`` allowed)
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from ssn_edge.errors import InputError
from ssn_edge.files import PathLike
from ssn_edge.images import list_images, read_image, read_mask

GOOD_NAMES = ("good", "ok", "normal")
BAD_NAMES = ("bad", "defect", "defects", "defective", "ng", "anomaly")
MASK_NAMES = ("masks", "mask", "ground_truth")
TEST_SHARE = 0.2
"""Share of a plain folder's good photos that is kept for testing where defects are given."""


@dataclass(frozen=True)
class Sample:
    """One photo: ``label`` 0 good, 1 defective; ``mask`` a file or None; ``defect`` its kind."""

    path: Path
    label: int = 0
    mask: Optional[Path] = None
    defect: str = "good"


@dataclass(frozen=True)
class DataSet:
    """Normal photos to train on, and labelled ones (maybe none) to test on."""

    root: Path
    layout: str
    train: Tuple[Sample, ...]
    test: Tuple[Sample, ...]

    def describe(self) -> str:
        bad = sum(sample.label for sample in self.test)
        return (
            f"{self.root} ({self.layout}): {len(self.train)} good to train on, "
            f"{len(self.test) - bad} good and {bad} defective to test on"
        )


def open_dataset(folder: PathLike) -> DataSet:
    """Recognise the layout of ``folder`` and list its photos; reads no pixels.

    Raises InputError for a missing or empty folder, or one without good photos.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give a folder of photos")
    if (root / "split.json").is_file():
        dataset = _magnetic_tile(root)
    elif (root / "train").is_dir():
        dataset = _mvtec(root)
    else:
        dataset = _photos(root)
    if not dataset.train:
        raise InputError(
            f"{root}: no good photos found ({dataset.layout}); expected images in {root} itself, "
            "in good/, or in train/good/ (MVTec AD)"
        )
    return dataset


def _mvtec(root: Path) -> DataSet:
    good = root / "train" / "good"
    if not good.is_dir():
        found = sorted(path.name for path in (root / "train").iterdir())[:3]
        raise InputError(f"{root}: expected {good}, found {', '.join(found) or 'nothing'} there")
    test: List[Sample] = []
    folders = sorted(p for p in (root / "test").iterdir()) if (root / "test").is_dir() else []
    for kind in (path for path in folders if path.is_dir()):
        if kind.name == "good":
            test += [Sample(path) for path in list_images(kind)]
        else:
            masks = _by_stem(root / "ground_truth" / kind.name)
            test += [Sample(p, 1, masks.get(p.stem), kind.name) for p in list_images(kind)]
    train = tuple(Sample(path) for path in list_images(good))
    return DataSet(root, "MVTec AD layout", train, tuple(test))


def _magnetic_tile(root: Path) -> DataSet:
    """The unsupervised split of ``split.json``; the class folder's name tells the defect."""
    path = root / "split.json"
    try:
        split = json.loads(path.read_text(encoding="utf-8"))["unsupervised"]
        names = {part: [str(name) for name in split[part]] for part in ("train", "test")}
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f'{path}: expected {{"unsupervised": {{"train": [...], "test": [...]}}}}'
        ) from None

    def sample(name: str) -> Sample:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{path}: {name} leads out of the folder; give relative paths")
        kind = Path(name).parts[0]
        if kind == "MT_Free":
            return Sample(root / name)
        mask = (root / name).with_suffix(".png")
        return Sample(root / name, 1, mask, kind[3:] if kind.startswith("MT_") else kind)

    train, test = (tuple(map(sample, names[part])) for part in ("train", "test"))
    return DataSet(root, "magnetic tiles", train, test)


def _photos(root: Path) -> DataSet:
    folders = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    good_folder = _first(folders, GOOD_NAMES)
    good = [Sample(path) for path in list_images(good_folder or root)]
    bad_folder, mask_folder = _first(folders, BAD_NAMES), _first(folders, MASK_NAMES)
    bad: List[Sample] = []
    if bad_folder is not None:
        kinds = [bad_folder] + sorted(path for path in bad_folder.iterdir() if path.is_dir())
        for kind in kinds:
            masks = _by_stem(mask_folder) if mask_folder else {}
            if mask_folder and kind != bad_folder:
                masks = {**masks, **_by_stem(mask_folder / kind.name)}
            bad += [Sample(p, 1, masks.get(p.stem), kind.name) for p in list_images(kind)]
    if not bad:
        return DataSet(root, "photos", tuple(good), ())
    train, test = split_samples(good, TEST_SHARE, seed=0)
    return DataSet(root, "photos", train, test + tuple(bad))


def split_samples(
    samples: Sequence[Sample], share: float, seed: int
) -> Tuple[Tuple[Sample, ...], Tuple[Sample, ...]]:
    """(rest, part): ``part`` a seeded random ``share``, at least one of two, order kept."""
    count = min(max(round(share * len(samples)), 1), len(samples) - 1) if share > 0 else 0
    chosen = set(random.Random(seed).sample(range(len(samples)), max(count, 0)))
    rest = tuple(s for i, s in enumerate(samples) if i not in chosen)
    return rest, tuple(s for i, s in enumerate(samples) if i in chosen)


def check_samples(
    samples: Sequence[Sample], tick=lambda: None
) -> Tuple[Tuple[Sample, ...], List[str]]:
    """Read every photo and mask once: the usable samples, and a line for each unreadable photo.

    A mask that does not fit its photo raises InputError instead: a wrong truth must not pass.
    """
    usable, problems = [], []
    for sample in samples:
        tick()
        try:
            image = read_image(sample.path)
        except InputError as error:
            problems.append(str(error))
            continue
        if sample.mask is not None:
            read_mask(sample.mask, image.shape[:2])
        usable.append(sample)
    return tuple(usable), problems


def _by_stem(folder: Path) -> Dict[str, Path]:
    """Mask files by their photo's stem: ``NAME_mask.png`` and ``NAME.png`` both belong to NAME."""
    if not folder.is_dir():
        return {}
    return {p.stem[:-5] if p.stem.endswith("_mask") else p.stem: p for p in list_images(folder)}


def _first(folders: Dict[str, Path], names: Sequence[str]) -> Optional[Path]:
    return next((folders[name] for name in names if name in folders), None)
