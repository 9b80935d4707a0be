"""What says which photo shows which part: ``--part``, ``parts.csv``, or the groups of ``split.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Mapping, Optional, Sequence

from ssn_edge import part_names
from ssn_edge.errors import InputError
from ssn_edge.inventory import Reason
from ssn_train.parts import tables

OPTION, TABLE, LISTS = "--part", tables.NAME, "split.json"
MOST_BYTES = 16 << 20

OVERRULED = Reason(f"{TABLE}, in whose place {OPTION} counts")


@dataclass(frozen=True)
class Parts:
    """``source``: what names the parts ("": nothing does); ``used`` and ``unused``: its files below the data
    folder."""

    source: str = ""
    name_of: Callable[[str], str] = lambda file: ""
    remedy: str = ""
    used: Mapping[Path, str] = field(default_factory=dict)
    unused: Mapping[Path, Reason] = field(default_factory=dict)

    def names(self, root: Path, photos: Sequence[Path]) -> Dict[Path, str]:
        """Photo -> its part, "" where nothing is known of any. InputError where some have one and others do
        not: a photo whose part is unknown could lie on both sides."""
        found = {path: self.name_of(path.relative_to(root).as_posix()) for path in photos}
        without = [path for path, name in found.items() if not name]
        if self.source and without:
            more = f" (the first of {len(without)} such photos)" if len(without) > 1 else ""
            first = without[0].relative_to(root).as_posix()
            raise InputError(f"{self.source}: no part for {first}{more}; {self.remedy}")
        return found


def find(root: Path, chosen: Optional[str], given: Path) -> Parts:
    """What names the parts of the photos below ``root``: ``chosen`` as --part gives it, else its parts.csv,
    else its split.json with ``groups``. ``given``: the folder that the user named, ``root`` or above it.

    InputError for what cannot be read or is no table, list or expression, and for a table of files that are
    not there.
    """
    table, lists = root / TABLE, root / LISTS
    if chosen is not None:
        unused = {table: OVERRULED} if table.is_file() else {}
        if not chosen.lower().endswith(".csv"):
            return Parts(OPTION, _by_expression(chosen), "change REGEX so that it fits all", unused=unused)
        path = _below(root, Path(chosen))
        unused.pop(path, None)
        return _by_table(path, root, OPTION, unused)
    if table.is_file():
        return _by_table(table, root, TABLE, {})
    if root != given and (given / TABLE).is_file():
        raise InputError(f"{given / TABLE}: belongs into {root}, whose photos are read; move it there")
    groups = _groups(lists)
    if groups is None:
        return Parts()
    remedy = f"add it to the groups of {lists}, or give --part"
    return Parts(LISTS, lambda file: groups.get(file, ""), remedy, {lists: "parts"})


def _by_expression(text: str) -> Callable[[str], str]:
    expression = part_names.pattern(text)
    return lambda file: part_names.find_part(expression, file)


def _by_table(path: Path, root: Path, source: str, unused: Mapping[Path, Reason]) -> Parts:
    listed = tables.read(path)
    absent = [file for file in listed if not (root / file).exists()]
    if absent:
        more = f" (the first of {len(absent)})" if len(absent) > 1 else ""
        raise InputError(f"{path}: lists {absent[0]}, which is not in {root}{more}; mend the table")
    remedy = f"add it to {path}"
    return Parts(source, lambda file: listed.get(file, ""), remedy, {path: "parts"}, unused)


def _below(root: Path, path: Path) -> Path:
    """``path`` as the walk through ``root`` calls it, if it lies there."""
    try:
        return root / path.resolve().relative_to(root.resolve())
    except ValueError:
        return path


def _groups(path: Path) -> Optional[Dict[str, str]]:
    """None where there is no such file, or it says nothing of groups: other data sets have one too."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError:
        return None
    if b'"groups"' not in data:
        return None
    problem = InputError(f'{path}: expected "groups": {{FILE: PART, ...}}; mend it, or give --part')
    try:
        groups = json.loads(data.decode("utf-8")).get("groups") if len(data) <= MOST_BYTES else None
    except (ValueError, AttributeError, RecursionError):
        raise problem from None
    if not isinstance(groups, dict) or not all(map(_is_name, groups.values())):
        raise problem
    return {file: str(part) for file, part in groups.items()}


def _is_name(part: object) -> bool:
    return isinstance(part, str) and bool(part) or type(part) is int
