"""A folder recognised and listed: which photos to train on and to test on. No torch: the benchmark reads it
too."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ssn_edge.errors import InputError
from ssn_edge.files import PathLike
from ssn_edge.inventory import Reason, row_of, unused_rows
from ssn_edge.verdict import calibrating
from ssn_train.data import folder_layouts, folder_names, label_files, mask_files, published_layouts
from ssn_train.data.folder_layouts import LEFT_OUT
from ssn_train.data.samples import Listing, Sample, Selection, subfolders
from ssn_train.data.splits import STRADDLING, hold_back, keep_apart, split_by_label, split_samples
from ssn_train.data.truth import Mask
from ssn_train.data.truth import mask_files as files_of
from ssn_train.parts import sources

__all__ = ["DataSet", "LAYOUTS", "Sample", "Selection", "hold_back", "open_dataset", "scan", "split_samples"]

PARTLY_SEGMENTED = (published_layouts.ksdd2, published_layouts.sensum)
"""Data sets with lists of which defects keep their masks."""

FOLDS = 3
"""Of both cross-validated data sets."""


@dataclass(frozen=True)
class DataSet:
    """Photos to train on (defective ones among them: supervised) and labelled ones to test on.

    ``used``: other files and as what; ``unused``: files that are not, and why; ``good_masks``: masks of good
    photos, which have to be empty; ``elsewhere``: folders of other categories; ``grouping``: what names the
    parts ("--part", "parts.csv", "split.json", "" for nothing), none of which is trained on and tested;
    ``parts``: photo -> its part, of all that have one, photos that are left out too;
    ``split_here``: the data says nothing of testing, so that what is tested was drawn.
    """

    root: Path
    layout: str
    train: Tuple[Sample, ...]
    test: Tuple[Sample, ...]
    used: Mapping[Path, str] = field(default_factory=dict)
    unused: Mapping[Path, Reason] = field(default_factory=dict)
    good_masks: Mapping[Path, Mask] = field(default_factory=dict)
    elsewhere: Tuple[Path, ...] = ()
    grouping: str = ""
    parts: Mapping[Path, str] = field(default_factory=dict)
    split_here: bool = False

    def describe(self) -> str:
        """In one line: the layout, and how many photos of which kind, and of how many parts."""

        def count(samples: Sequence[Sample]) -> str:
            bad = sum(sample.label for sample in samples)
            good = f"{len(samples) - bad} good"
            without = sum(s.label and s.mask is None for s in samples)
            note = f" ({without} without a mask)" if without else ""
            counts = f"{good} and {bad} defective{note}" if bad else good
            if not self.grouping:
                return counts
            parts = calibrating.count([sample.part for sample in samples])
            return f"{counts} photo{'s' * (len(samples) != 1)} of {parts} part{'s' * (parts != 1)}"

        train, test = count(self.train), count(self.test)
        by = f"; parts by {self.grouping}" if self.grouping else ""
        return f"{self.root} ({self.layout}): {train} to train on, {test} to test on{by}"


@dataclass(frozen=True)
class DataLayout:
    """A recognised folder: its name, its ``categories`` (empty: it is one), its number of folds."""

    root: Path
    name: str
    read: Callable[[Path, Selection], Listing]
    categories: Tuple[str, ...] = ()
    folds: int = 1


def _tiles(root: Path, unsupervised: bool) -> DataLayout:
    return DataLayout(root, "magnetic tiles", published_layouts.tiles, folds=1 if unsupervised else FOLDS)


def _visa(root: Path, unsupervised: bool) -> DataLayout:
    return DataLayout(root, "VisA", published_layouts.visa, tuple(published_layouts.visa_categories(root)))


def _sensum(root: Path, unsupervised: bool) -> DataLayout:
    names = tuple(path.name for path in subfolders(root / "sensum_splits"))
    return DataLayout(root, "SensumSODF", published_layouts.sensum, names, FOLDS)


def _ksdd2(root: Path, unsupervised: bool) -> DataLayout:
    return DataLayout(root, "KolektorSDD2", published_layouts.ksdd2)


def _mvtec(root: Path, unsupervised: bool) -> DataLayout:
    if _trained_on(root):
        return DataLayout(root, "MVTec AD layout", folder_layouts.mvtec)
    names = tuple(path.name for path in subfolders(root) if _trained_on(path))
    return DataLayout(root, "MVTec AD layout", folder_layouts.mvtec, names)


def _photos(root: Path, unsupervised: bool) -> DataLayout:
    return DataLayout(root, "photos", folder_layouts.photos)


def _labelled(root: Path, unsupervised: bool) -> DataLayout:
    return DataLayout(root, "labels", folder_layouts.labelled)


LAYOUTS: Dict[str, Callable[[Path, bool], DataLayout]] = {
    "photos": _photos, "labels": _labelled, "mvtec": _mvtec, "visa": _visa, "ksdd2": _ksdd2,
    "sensum": _sensum, "tiles": _tiles,
}
"""What --layout takes."""


def scan(folder: PathLike, unsupervised: bool = False, layout: Optional[str] = None) -> DataLayout:
    """Recognise the layout of ``folder`` by looking at it, or take it as ``layout``, a name in LAYOUTS.
    InputError for a folder that is not there."""
    root = Path(folder)
    if not root.is_dir():
        found = "a file, no folder" if root.exists() else "no such folder"
        raise InputError(f"{root}: {found}; give a folder of photos")
    if layout is None and (root / "visa_pytorch").is_dir():
        root = root / "visa_pytorch"
    return LAYOUTS[layout or _recognised(root)](root, unsupervised)


def _recognised(root: Path) -> str:
    plain = any(folder_names.meaning(path.name) in ("good", "bad") for path in subfolders(root))
    if not plain and _lists_tiles(root / "split.json"):
        return "tiles"
    if (root / "split_csv" / "1cls.csv").is_file():
        return "visa"
    if (root / "sensum_splits").is_dir():
        return "sensum"
    train = root / "train"
    if train.is_dir() and any(train.glob("*_GT.png")) and not subfolders(train):
        return "ksdd2"
    if _has_a_tools_labels(root):
        return "labels"
    return "mvtec" if _trained_on(root) or any(map(_trained_on, subfolders(root))) else "photos"


def _lists_tiles(path: Path) -> bool:
    """Other data sets have a file of that name too."""
    if not path.is_file():
        return False
    tiles = any(one.name.startswith("MT_") for one in subfolders(path.parent))
    return tiles or b"supervised_folds" in path.read_bytes()


def _trained_on(root: Path) -> bool:
    return any(folder_names.is_part(path.name, folder_names.TRAIN) for path in subfolders(root))


def _has_a_tools_labels(root: Path) -> bool:
    """No folder says good or bad, and label files or masks speak of the photos."""
    folders = folder_layouts.images_by_folder(root)
    if any(folder_names.meaning(part) in ("good", "bad") for way in folders for part in way):
        return False
    masks = [path for way, images in folders.items() for path in images
             if any(map(folder_names.is_mask_folder, way)) or mask_files.without_affix(path.stem)]
    known = set(masks)
    stems = {path.stem.casefold() for images in folders.values() for path in images if path not in known}
    if any(key in stems for mask in masks for key in mask_files.keys(mask)):
        return True
    if any(_has_twins(images) and mask_files.beside(images) for images in folders.values()):
        return True
    found = label_files.find(root)
    return bool(found.shapes or any(reason == label_files.NOT_READ for reason in found.unused.values()))


def _has_twins(images: Sequence[Path]) -> bool:
    """Two files of one name, of which one may be the other's mask."""
    return len({path.stem.casefold() for path in images}) < len(images)


def open_dataset(folder: PathLike, select: Selection = Selection()) -> DataSet:  # noqa: B008 (frozen)
    """List the photos of ``folder``; reads no pixels but of masks that are labels, or that only look so.

    Raises InputError for a missing or empty folder, one without good photos, a category or fold that
    it does not have, a layout that is not as published, and photos whose part is not named where others' is.
    """
    found = scan(folder, select.unsupervised, select.layout)
    root, category = found.root, select.category
    _check_category(found, category)
    if not 0 <= select.fold < found.folds:
        kind = f"{found.folds} folds, 0 to {found.folds - 1}" if found.folds > 1 else "no folds"
        raise InputError(f"--folds {select.fold}: {root} ({found.name}) has {kind}")
    if select.segmented is not None and found.read not in PARTLY_SEGMENTED:
        raise InputError(f"--segmented {select.segmented}: {found.name} has no lists for it; leave it out")
    if category and found.read is folder_layouts.mvtec:
        root = root / category
    listing = found.read(root, select)
    split_here = bool(listing.unsplit)
    parts = sources.find(root, select.part, Path(folder))
    names = _split(listing, parts, root, select.unsupervised)
    if not any(not sample.label for sample in listing.train):
        raise InputError(_no_good_photos(root, found.name, listing, parts.source))
    name = f"{found.name}, {category}" if category else found.name
    if found.folds > 1:
        name = f"{name}, fold {select.fold} of {found.folds}"
    others = [found.root / way / one for one in found.categories for way in ("", "sensum_splits")
              if one != category]
    return DataSet(
        root, name, tuple(listing.train), tuple(listing.test), listing.used, listing.unused,
        listing.good_masks, tuple(others), parts.source, names, split_here,
    )


def _split(
    listing: Listing, parts: sources.Parts, root: Path, unsupervised: bool
) -> Dict[Path, str]:
    """Name the samples' parts, draw what is tested where the layout does not say it, and keep them apart.
    The names, by photo."""
    samples = [*listing.train, *listing.test, *listing.unsplit]
    names = parts.names(root, [sample.path for sample in samples]) if parts.source else {}
    for side in (listing.train, listing.test, listing.unsplit):
        side[:] = [replace(sample, part=names.get(sample.path, "")) for sample in side]
    listing.used.update({path: use for path, use in parts.used.items() if path not in listing.used})
    listing.unused.update(parts.unused)
    listing.unused = {path: why for path, why in listing.unused.items() if path not in parts.used}
    if listing.unsplit:
        listing.train, listing.test = split_by_label(listing.unsplit, unsupervised)
        listing.unsplit = []
    if unsupervised:
        _leave_out_defects(listing)
    keep_apart(listing)
    return names


def _leave_out_defects(listing: Listing) -> None:
    for sample in [sample for sample in listing.train if sample.label]:
        files = [sample.path, *(files_of(sample.mask) if sample.mask is not None else ())]
        listing.unused.update(dict.fromkeys(files, LEFT_OUT))
    listing.train = [sample for sample in listing.train if not sample.label]


def _no_good_photos(root: Path, name: str, listing: Listing, grouping: str) -> str:
    """With what was found instead, so that the remedy is seen."""
    if grouping and any(not sample.label for sample in listing.test) or STRADDLING in listing.unused.values():
        return (
            f"{root}: all good photos are of parts that are tested (parts by {grouping}); their names seem "
            "not to be unique: give --part a REGEX with a / for folders, or a table"
        )
    by_reason: Dict[Reason, List[Path]] = {}
    for path, reason in listing.unused.items():
        by_reason.setdefault(reason, []).append(path)
    there = "; ".join(row_of(root, row).strip() for row in unused_rows(by_reason))
    inner = [path for path in subfolders(root)
             if any(folder_names.meaning(p.name) == "good" for p in subfolders(path)) or _trained_on(path)]
    hint = f"; is {inner[0]} meant?" if inner else ""
    return (
        f"{root}: no good photos found ({name}); expected images in {root} itself, in good/, or in "
        f"train/good/ (MVTec AD){'; found ' if there else ''}{there}{hint}"
    )


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
