"""What became of every file of a data set, as a tree before anything runs."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from ssn_edge import inventory
from ssn_edge.inventory import Reason, Row, is_image
from ssn_train.data.datasets import DataSet
from ssn_train.data.folder_names import is_mask_folder
from ssn_train.data.mask_files import NO_PHOTO, RIVALS, SEVERAL, without_affix
from ssn_train.data.samples import Sample
from ssn_train.data.truth import mask_files

MOST_FOLDERS = 40
"""Lines of a tree; more are counted."""

NOT_NAMED = Reason("images that the layout does not name", alarming=True)
MASK_ROWS = {"masks", NO_PHOTO.text, SEVERAL.text, RIVALS.text}
"""Where there are any, photos that have none are worth naming."""

ELSEWHERE = Reason("files of other categories")


def rows_of(dataset: DataSet) -> List[Row]:
    """Every file below the data set's root, once."""
    uses: Dict[Path, str] = {}
    for samples, purpose in ((dataset.train, "to train on"), (dataset.test, "to test on")):
        for sample in samples:
            uses[sample.path] = f"{_kind(sample)} {purpose}"
    for sample in (*dataset.train, *dataset.test):
        if sample.mask is not None:
            uses.update((path, dataset.used.get(path, "masks")) for path in mask_files(sample.mask))
    for mask in dataset.good_masks.values():
        uses.update(dict.fromkeys(mask_files(mask), "masks of good photos"))
    uses.update(dataset.used)

    def reason(path: Path) -> Reason:
        if path in dataset.unused:
            return dataset.unused[path]
        if any(folder in path.parents for folder in dataset.elsewhere):
            return ELSEWHERE
        if not is_image(path):
            return inventory.unknown(path)
        ways = path.relative_to(dataset.root).parts[:-1]
        masked = any(map(is_mask_folder, ways)) or without_affix(path.stem) is not None
        return NO_PHOTO if masked else NOT_NAMED

    return inventory.account(dataset.root, uses, reason)


def _kind(sample: Sample) -> str:
    if not sample.label:
        return "good"
    return "defective" if sample.defect == "defect" else f"defective ({sample.defect})"


def _number(text: str, count: int) -> str:
    return re.sub("^(mask|label|list)s", r"\1", text) if count == 1 else text


def tree(dataset: DataSet, rows: Sequence[Row]) -> List[str]:
    """The layout as it was recognised, a line a folder, and what is not used."""
    counts: Dict[Tuple[str, ...], Counter] = {}
    for row in rows:
        for path in row.files if row.used else ():
            parts = path.relative_to(dataset.root).parts[:-1]
            for depth in range(len(parts) + 1):
                counts.setdefault(parts[:depth], Counter())
            counts[parts][row.text] += 1
    lines = [dataset.describe()]
    folders = [way for way in sorted(counts) if way or counts[way]]
    names = {way: "  " * len(way) + (f"{way[-1]}/" if way else "./") for way in folders}
    width = max((len(name) for name in names.values()), default=0)
    for way in folders[:MOST_FOLDERS]:
        held = ", ".join(f"{count} {_number(text, count)}" for text, count in counts[way].items())
        lines.append(f"  {names[way]:{width}s}  {held}".rstrip())
    if len(folders) > MOST_FOLDERS:
        lines.append(f"  and {len(folders) - MOST_FOLDERS} folders more")
    bare = [s.path for s in (*dataset.train, *dataset.test) if s.label and s.mask is None]
    if bare and any(row.text in MASK_ROWS or row.text.startswith("labels (") for row in rows):
        row = Row("defective photos without a mask", tuple(bare), True)
        lines.append(inventory.row_of(dataset.root, row))
    return lines + inventory.table(dataset.root, [row for row in rows if not row.used])
