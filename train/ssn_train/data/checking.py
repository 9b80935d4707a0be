"""Every photo and mask read once before hours of training: what is broken, doubtful or cannot be meant."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import cv2
import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames import jpeg, orientation
from ssn_edge.frames.decoding import Picture, Reading
from ssn_edge.frames.image_files import read_picture
from ssn_edge.frames.pixels import check_frame, used_bits
from ssn_edge.inventory import Reason, Row, row_of, unused_rows
from ssn_train.data.datasets import DataSet
from ssn_train.data.folder_layouts import MARKED_GOOD
from ssn_train.data.samples import Sample
from ssn_train.data.truth import Mask, name_of, orientation_of, read_truth

BITS = (8, 10, 12, 14, 16)
"""Of a camera's grey values; 16-bit files may use the lower ones alone."""

ONE_GREY = 1.5
"""Of 256: photos whose grey values deviate less from their mean, colour by colour, may show nothing."""

BLANK = 0.5
"""Below this they do: a smooth surface's noise alone is more."""

FULL, MOST = 0.95, 0.5
"""Of a photo's pixels: masks of more are likelier inverted, or of the part; of most, where the rim is all
in."""

MOST_LINES = 5
"""Of problems in words."""

UNREADABLE = Reason("photos that cannot be read", alarming=True)
EMPTY_MASK = Reason("defective photos whose mask is empty: used as defects without a mask", alarming=True)
FULL_MASK = Reason("masks that cover the whole photo; are they inverted?", alarming=True)
SEVERAL = Reason("files of several pictures, of which the first is used", alarming=True)
DOUBTFUL = Reason("photos that end in zeros or have a hole; are they whole?", alarming=True)
CONSTANT = Reason("photos of a single grey value; was the lens covered?", alarming=True)
UNTOLD = Reason('JPEGs that may be cut inside: to be sure, pip install "ssn-edge[strict-decode]"')
FOUR_COLOURS = Reason("JPEGs of colours that the strict decoder does not take: may be cut inside")


@dataclass
class Findings:
    """What reading found: ``problems`` in words for photos that are left out; files by ``remarks``; ``bits``
    that 16-bit photos use (0: there are none); ``read``: how many were."""

    train: Tuple[Sample, ...] = ()
    test: Tuple[Sample, ...] = ()
    problems: List[str] = field(default_factory=list)
    remarks: Dict[Reason, List[Path]] = field(default_factory=lambda: defaultdict(list))
    bits: int = 0
    read: int = 0
    blank: Set[Path] = field(default_factory=set)

    def lines(self, root: Path) -> List[str]:
        """For a terminal: what is left out or doubtful, in words and in numbers."""
        found = [f"skipped: {problem}" for problem in self.problems[:MOST_LINES]]
        if len(self.problems) > MOST_LINES:
            found.append(f"skipped: {len(self.problems) - MOST_LINES} more")
        if self.problems:
            found.append(f"{len(self.problems)} of {self.read} photos skipped")
        if self.rows():
            found += ["found while reading:", *(row_of(root, row) for row in self.rows())]
        if self.bits:
            found.append(f"16-bit photos use {self.bits} bits: kept in the model (--bits)")
        return found

    def rows(self) -> List[Row]:
        """For :func:`ssn_edge.inventory.table`."""
        return unused_rows(self.remarks)


def check(dataset: DataSet, bits: Optional[int] = None, on_progress: Callable[[], object] = int) -> Findings:
    """Read all photos and masks of ``dataset``.

    Unreadable photos are left out and named, good photos on which a mask marks something too; an empty mask
    counts as none. ``bits`` given: InputError for a photo that needs more. InputError also for a mask that
    does not fit its photo, in size or orientation, since a wrong truth must not pass, and where all good
    photos are of a single grey value.
    """
    found = Findings()
    found.train = check_samples(dataset.train, dataset.good_masks, found, on_progress)
    found.test = check_samples(dataset.test, dataset.good_masks, found, on_progress)
    found.bits = next((one for one in BITS if one >= found.bits), 16) if found.bits else 0
    if bits is not None and found.bits > bits:
        raise InputError(
            f"--bits {bits}: {dataset.root} has photos with {found.bits} bits; give that, or auto"
        )
    good = [sample.path for sample in found.train if not sample.label]
    if good and found.blank.issuperset(good):
        raise InputError(
            f"{dataset.root}: all {len(good)} good photos are alike, of a single grey value each "
            f"({good[0].name}, ...); was the lens covered, or the exposure 0? Take them again"
        )
    return found


def check_samples(
    samples: Sequence[Sample], good_masks: Mapping[Path, Mask], found: Findings,
    on_progress: Callable[[], object] = int,
) -> Tuple[Sample, ...]:
    """The usable ones of ``samples``, as they are to be used; the others go to ``found``."""
    usable = []
    for sample in samples:
        on_progress()
        found.read += 1
        checked = _check(sample, good_masks.get(sample.path), found)
        usable += [checked] if checked is not None else []
    return tuple(usable)


def _check(sample: Sample, good_mask: Optional[Mask], found: Findings) -> Optional[Sample]:
    reading = Reading()
    try:
        picture = read_picture(sample.path, reading)
        check_frame(picture.stored, str(sample.path))
    except InputError as error:
        found.problems.append(str(error))
        found.remarks[UNREADABLE].append(sample.path)
        return None
    _remark(sample.path, picture, found)
    if good_mask is not None and _truth(sample.path, good_mask, picture, reading).any():
        found.problems.append(f"{sample.path}: called good, but {name_of(good_mask)} marks a defect on it")
        found.remarks[MARKED_GOOD].append(sample.path)
        return None
    if sample.mask is None:
        return sample
    truth = _truth(sample.path, sample.mask, picture, reading)
    share = truth.mean()
    rim = truth[[0, -1]].all() and truth[:, [0, -1]].all()
    if share > FULL or share > MOST and rim:
        found.remarks[FULL_MASK].append(sample.path)
    if share == 0:
        found.remarks[EMPTY_MASK].append(sample.path)
        return replace(sample, mask=None)
    return sample


def _remark(path: Path, picture: Picture, found: Findings) -> None:
    stored = picture.stored
    if stored.dtype == np.uint16:
        found.bits = max(found.bits, used_bits(stored), 8)
    levels = 1 << max(8, used_bits(stored)) if stored.dtype == np.uint16 else 256
    deviation = cv2.meanStdDev(stored)[1].max() * 256 / levels
    if deviation < ONE_GREY:
        found.remarks[CONSTANT].append(path)
    if deviation < BLANK:
        found.blank.add(path)
    if picture.several:
        found.remarks[SEVERAL].append(path)
    if picture.doubt:
        found.remarks[DOUBTFUL].append(path)
    if picture.kind == "JPEG" and not picture.told:
        found.remarks[UNTOLD if jpeg.simplejpeg is None else FOUR_COLOURS].append(path)


def _truth(photo: Path, mask: Mask, picture: Picture, reading: Reading) -> np.ndarray:
    """The mask, which must have been drawn on the photo as it is seen here."""
    height, width = picture.stored.shape[:2]
    tag = orientation_of(mask)
    try:
        truth = read_truth(mask, (height, width), reading)
    except InputError as error:
        if tag == picture.tag:
            raise
        raise InputError(f"{error}; {_turns(picture.tag, tag)}") from None
    pair = {picture.tag, tag}
    unsure = height == width or pair <= {1, 2, 3, 4} or pair <= {5, 6, 7, 8}
    if tag != picture.tag and unsure:
        raise InputError(
            f"{name_of(mask)}: mask of {photo}: {_turns(picture.tag, tag)}; which way it was drawn cannot be "
            "told: write both without a tag"
        )
    return truth


def _turns(photo: int, mask: int) -> str:
    return f"the photo is {orientation.describe(photo)}, its mask {orientation.describe(mask)}"
