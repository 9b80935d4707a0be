"""Folders of photos, their labels and masks. No torch: the benchmark reads them too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

from ssn_edge.errors import InputError
from ssn_edge.files import PathLike
from ssn_edge.frames.image_files import read_image
from ssn_edge.frames.masks import read_mask
from ssn_train.data import published_layouts
from ssn_train.data.published_layouts import Parts, Sample, Selection, split_samples

__all__ = ["DataSet", "Sample", "Selection", "check_samples", "open_dataset", "scan", "split_samples"]

PARTLY_SEGMENTED = (published_layouts.ksdd2, published_layouts.sensum)
"""Data sets with lists of which defects keep their masks."""

FOLDS = 3
"""Of both cross-validated data sets."""


@dataclass(frozen=True)
class DataSet:
    """Photos to train on (defective ones among them: supervised) and labelled ones to test on."""

    root: Path
    layout: str
    train: Tuple[Sample, ...]
    test: Tuple[Sample, ...]

    def describe(self) -> str:
        def count(samples: Sequence[Sample]) -> str:
            bad = sum(sample.label for sample in samples)
            good = f"{len(samples) - bad} good"
            without = sum(s.label and s.mask is None for s in samples)
            note = f" ({without} without a mask)" if without else ""
            return f"{good} and {bad} defective{note}" if bad else good

        train, test = count(self.train), count(self.test)
        return f"{self.root} ({self.layout}): {train} to train on, {test} to test on"


@dataclass(frozen=True)
class DataLayout:
    """A recognised folder: its name, its ``categories`` (empty: it is one), its number of folds."""

    root: Path
    name: str
    read: Callable[[Path, Selection], Parts]
    categories: Tuple[str, ...] = ()
    folds: int = 1


def scan(folder: PathLike, unsupervised: bool = False) -> DataLayout:
    """Recognise the layout of ``folder`` by looking at it. Raises InputError where there is none."""
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give a folder of photos")
    if (root / "split.json").is_file():
        return DataLayout(root, "magnetic tiles", published_layouts.tiles, folds=1 if unsupervised else FOLDS)
    if (root / "split_csv" / "1cls.csv").is_file():
        categories = tuple(published_layouts.visa_categories(root))
        return DataLayout(root, "VisA", published_layouts.visa, categories)
    if (root / "visa_pytorch").is_dir():
        root = root / "visa_pytorch"
    if (root / "sensum_splits").is_dir():
        names = tuple(path.name for path in published_layouts.subfolders(root / "sensum_splits"))
        return DataLayout(root, "SensumSODF", published_layouts.sensum, names, FOLDS)
    if (root / "train").is_dir():
        if any((root / "train").glob("*_GT.png")):
            return DataLayout(root, "KolektorSDD2", published_layouts.ksdd2)
        return DataLayout(root, "MVTec AD layout", published_layouts.mvtec)
    names = tuple(p.name for p in published_layouts.subfolders(root) if (p / "train").is_dir())
    if names:
        return DataLayout(root, "MVTec AD layout", published_layouts.mvtec, names)
    return DataLayout(root, "photos", published_layouts.photos)


def open_dataset(folder: PathLike, select: Selection = Selection()) -> DataSet:  # noqa: B008 (frozen)
    """List the photos of ``folder``; reads no pixels but the masks that are KSDD2's labels.

    Raises InputError for a missing or empty folder, one without good photos, a category or fold that
    it does not have, and a layout that is not as published.
    """
    layout = scan(folder, select.unsupervised)
    root, category = layout.root, select.category
    _check_category(layout, category)
    if not 0 <= select.fold < layout.folds:
        kind = f"{layout.folds} folds, 0 to {layout.folds - 1}" if layout.folds > 1 else "no folds"
        raise InputError(f"--folds {select.fold}: {root} ({layout.name}) has {kind}")
    if select.segmented is not None and layout.read not in PARTLY_SEGMENTED:
        raise InputError(f"--segmented {select.segmented}: {layout.name} has no lists for it; leave it out")
    if category and layout.read is published_layouts.mvtec:
        root = root / category
    train, test = layout.read(root, select)
    if select.unsupervised:
        train = [sample for sample in train if not sample.label]
    if not any(not sample.label for sample in train):
        raise InputError(
            f"{root}: no good photos found ({layout.name}); expected images in {root} itself, "
            "in good/, or in train/good/ (MVTec AD)"
        )
    name = f"{layout.name}, {category}" if category else layout.name
    if layout.folds > 1:
        name = f"{name}, fold {select.fold} of {layout.folds}"
    return DataSet(root, name, tuple(train), tuple(test))


def _check_category(layout: DataLayout, category: Optional[str]) -> None:
    known = ", ".join(layout.categories)
    if layout.categories and category is None:
        raise InputError(
            f"{layout.root} ({layout.name}): several categories; choose one with --categories NAME "
            f"({known}), or all"
        )
    if category is not None and category not in layout.categories:
        raise InputError(
            f"--categories {category}: {layout.root} ({layout.name}) has {known or 'no categories'}"
        )


def check_samples(
    samples: Sequence[Sample], on_progress=lambda: None
) -> Tuple[Tuple[Sample, ...], List[str]]:
    """Read every photo and mask once: the usable samples, and a line for each unreadable photo.

    A mask that does not fit its photo raises InputError instead: a wrong truth must not pass.
    """
    usable, problems = [], []
    for sample in samples:
        on_progress()
        try:
            image = read_image(sample.path)
        except InputError as error:
            problems.append(str(error))
            continue
        if sample.mask is not None:
            read_mask(sample.mask, image.shape[:2])
        usable.append(sample)
    return tuple(usable), problems
