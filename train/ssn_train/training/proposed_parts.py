"""The parts of a run that nothing names: looked for, written down to be corrected, and used if clear."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

from tqdm import tqdm

from ssn_edge.errors import InputError
from ssn_train.data.datasets import DataSet, Selection, open_dataset
from ssn_train.parts import likeness, tables
from ssn_train.parts.likeness import MOST_PHOTOS
from ssn_train.report import plots
from ssn_train.training.photo_loader import PhotoLoader, descriptors

SHEET, UNUSED = "parts.png", "parts-unclear.csv"
GROUPING = "likeness"
"""What names the parts of such a data set (DataSet.grouping)."""

UNCLEAR = (
    "no clear gap between photos of one part and of others: the promise counts photos; give --part if a part "
    "was photographed several times"
)


def find(
    dataset: DataSet, whole: Sequence[Path], loader: PhotoLoader, run: Path, select: Selection
) -> DataSet:
    """``dataset`` split by what look like parts, which ``run``'s parts.csv and parts.png show then; as it was
    where the photos do not say it clearly, with a line that says so, and the nearest grouping there is in
    parts-unclear.csv and parts.png. ``whole``: its photos that can be read; the others are parts of their
    own.
    """
    photos = sorted(whole)
    if len(photos) > MOST_PHOTOS:
        tqdm.write(f"more than {MOST_PHOTOS} photos are not compared: {UNCLEAR.partition(': ')[2]}")
        return dataset
    with tqdm(total=len(photos), desc="comparing photos", unit="img") as bar:
        rows = descriptors(loader, photos, bar.update)
    found = likeness.propose(rows)
    if found.gap == 0:
        tqdm.write(UNCLEAR)
        return dataset
    groups: Dict[str, List[Path]] = defaultdict(list)
    for photo, group in zip(photos, found.groups):
        groups[f"part-{group + 1:04d}"].append(photo)
    names = _names(dataset, groups)
    largest = dict(sorted(groups.items(), key=lambda group: -len(group[1])))
    plots.parts_sheet(run / SHEET, largest, loader.reading)
    most = max(map(len, groups.values()))
    about = f"{len(groups)} parts, {most} photos of one at most"
    if not found.clear:
        write(run / UNUSED, dataset.root, names)
        tqdm.write(UNCLEAR)
        tqdm.write(
            f"the nearest would be {about}, not used: look at {run / SHEET}, and if it is right copy "
            f"{run / UNUSED} to {dataset.root / tables.NAME}"
        )
        return dataset
    write(run / tables.NAME, dataset.root, names)
    tqdm.write(
        f"{len(photos)} photos look like {about} (others are {found.gap:.2f} times as far apart): look at "
        f"{run / SHEET}"
    )
    return _used(dataset, run / tables.NAME, select, names)


def _names(dataset: DataSet, groups: Mapping[str, Sequence[Path]]) -> Dict[Path, str]:
    """Each photo's part; those that could not be read are parts of their own."""
    names = {path: name for name, paths in groups.items() for path in paths}
    broken = sorted({sample.path for sample in (*dataset.train, *dataset.test)} - set(names))
    names.update({path: f"unread-{number + 1:04d}" for number, path in enumerate(broken)})
    return names


def _used(dataset: DataSet, table: Path, select: Selection, names: Mapping[Path, str]) -> DataSet:
    """``dataset`` by the parts just written to ``table``, if a split by them leaves something to train on."""
    try:
        grouped = read(dataset, table, select)
    except InputError as error:  # a proposal stops nothing
        table.unlink()
        tqdm.write(f"they are not used ({error}): the promise counts photos")
        return dataset
    tested = " or tested" if dataset.split_here else ""
    tqdm.write(
        f"none of them is both trained on and held back{tested}; copy {table} to "
        f"{dataset.root / tables.NAME} to keep them, or correct it there"
    )
    both = {sample.part for sample in grouped.train} & {names[sample.path] for sample in grouped.test}
    if both:
        tqdm.write(f"warning: of {len(both)} of them photos are trained on and others tested, as DATA says")
    return grouped


def read(dataset: DataSet, table: Path, select: Selection) -> DataSet:
    """``dataset`` with the parts of ``table``: split anew where what is tested was drawn, else as it is."""
    if dataset.split_here:
        anew = open_dataset(dataset.root, replace(select, part=str(table)))
        return replace(anew, grouping=GROUPING)
    listed = tables.read(table)
    names = {
        sample.path: listed.get(sample.path.relative_to(dataset.root).as_posix(), "")
        for sample in (*dataset.train, *dataset.test)
    }
    train = tuple(replace(sample, part=names[sample.path]) for sample in dataset.train)
    return replace(dataset, train=train, parts=names, grouping=GROUPING)


def write(table: Path, root: Path, parts: Mapping[Path, str]) -> None:
    """``parts`` as a table of files below ``root``; where there are none, no older one is left."""
    if parts:
        tables.write(table, {path.relative_to(root).as_posix(): name for path, name in parts.items()})
    else:
        table.unlink(missing_ok=True)


def again(dataset: DataSet, run: Path, select: Selection) -> DataSet:
    """``dataset`` as the interrupted ``run`` split it: by its parts.csv, where nothing else names parts."""
    table = run / tables.NAME
    return read(dataset, table, select) if not dataset.grouping and table.is_file() else dataset
