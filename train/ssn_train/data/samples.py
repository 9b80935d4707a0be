"""What a layout makes of a folder: samples to train on and to test on, and what became of the other files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional

from ssn_edge.errors import InputError
from ssn_edge.inventory import Reason
from ssn_train.data.truth import Mask


@dataclass(frozen=True)
class Sample:
    """One photo: ``label`` 0 good, 1 defective; ``mask`` where the defect is (None: unknown); ``defect`` its
    kind; ``part`` the name of what it shows, which other photos may show too ("": nothing else is known of
    it)."""

    path: Path
    label: int = 0
    mask: Optional[Mask] = None
    defect: str = "good"
    part: str = ""


@dataclass(frozen=True)
class Selection:
    """What to take of a data set: ``category`` where it has several, ``fold`` (from 0) where it is
    cross-validated, ``unsupervised`` to ignore labelled defects in training, ``segmented`` how many
    defects keep their masks (KSDD2: a number; SensumSODF: per cent; None all), ``layout`` a name in
    ``datasets.LAYOUTS`` (None: recognised), ``part`` what names the parts, as --part takes it: a regular
    expression, or a table's path that ends in .csv (None: the folder's own parts.csv or split.json)."""

    category: Optional[str] = None
    fold: int = 0
    unsupervised: bool = False
    segmented: Optional[int] = None
    layout: Optional[str] = None
    part: Optional[str] = None


@dataclass
class Listing:
    """Samples to train on and to test on, or ``unsplit`` ones; files that are ``used`` otherwise, as what;
    ``unused`` ones, why; ``good_masks``: what masks of good photos (photo -> mask) have to show: nothing."""

    train: List[Sample] = field(default_factory=list)
    test: List[Sample] = field(default_factory=list)
    used: Dict[Path, str] = field(default_factory=dict)
    unused: Dict[Path, Reason] = field(default_factory=dict)
    good_masks: Dict[Path, Mask] = field(default_factory=dict)
    unsplit: List[Sample] = field(default_factory=list)


def subfolders(folder: Path) -> List[Path]:
    """Folders directly inside ``folder`` that are not hidden, sorted."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


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
