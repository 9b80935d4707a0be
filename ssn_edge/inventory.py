"""An account of every file below a folder: used as what, or not used and why."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Set, Tuple

from ssn_edge.frames.formats import VIDEO_SUFFIXES, image_suffixes

NAMES = 3
"""So many names stand behind a count."""

SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir"}
"""What file managers leave behind; named with the hidden files."""

HIDDEN = "hidden files"


class Reason(NamedTuple):
    """Why a file is not used; ``alarming``: it looks like what should have been."""

    text: str
    alarming: bool = False


@dataclass(frozen=True)
class Row:
    """Files with one use, or with one reason for none."""

    text: str
    files: Tuple[Path, ...]
    used: bool
    alarming: bool = False


def files_below(root: Path) -> Iterator[Path]:
    """Every file, sorted by folder. Links to folders elsewhere are followed, each once: a link to a folder
    that is here too, or was seen already, counts as a file."""
    seen = {os.path.realpath(folder) for folder, _, _ in os.walk(root)}
    entered: Set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        again = []
        for name in list(folders):
            path = os.path.join(folder, name)
            place = os.path.realpath(path)
            if place in seen and os.path.islink(path) or place in entered:
                folders.remove(name)
                again.append(name)
                continue
            seen.add(place)
            entered.add(place)
        yield from (Path(folder, name) for name in sorted([*files, *again]))


def is_hidden(path: Path, root: Path) -> bool:
    """Whether a name on the way from ``root`` to ``path`` is hidden, or a file manager's."""
    parts = path.relative_to(root).parts
    return any(part.startswith(".") or part.lower() in SYSTEM_FILES for part in parts)


def is_image(path: Path) -> bool:
    """By its suffix."""
    return path.suffix.lower() in image_suffixes()


def unknown(path: Path) -> Reason:
    """The reason that is left for a file that is no image."""
    if path.is_dir():
        return Reason("links to folders that are here too")
    suffix = path.suffix.lower()
    kind = "video" if suffix in VIDEO_SUFFIXES else "no image that is read here"
    return Reason(f"{kind} ({suffix or 'no suffix'})", suffix in VIDEO_SUFFIXES)


def unused_rows(by_reason: Mapping[Reason, Sequence[Path]]) -> List[Row]:
    """A row for each reason, in the order given."""
    return [Row(one.text, tuple(files), False, one.alarming) for one, files in by_reason.items()]


def account(root: Path, uses: Mapping[Path, str], reason: Callable[[Path], Reason]) -> List[Row]:
    """Rows that hold every file below ``root`` once, in the order of ``uses``, then what is not used."""
    used: Dict[str, List[Path]] = {text: [] for text in uses.values()}
    unused: Dict[Reason, List[Path]] = defaultdict(list)
    for path in files_below(root):
        if path in uses:
            used[uses[path]].append(path)
        elif is_hidden(path, root):
            unused[Reason(HIDDEN)].append(path)
        else:
            unused[reason(path)].append(path)
    rows = [Row(text, tuple(files), True) for text, files in used.items() if files]
    order = sorted(unused, key=lambda one: (not one.alarming, one.text == HIDDEN))
    return rows + unused_rows({one: unused[one] for one in order})


def table(root: Path, rows: Sequence[Row]) -> List[str]:
    """Lines for a terminal: counts, uses and places, then what is not used."""
    if not rows:
        return []
    width = max(len(row.text) for row in rows)
    lines = [f"{row_of(root, row, width)}" for row in rows if row.used]
    unused = [row for row in rows if not row.used]
    if unused:
        lines += [" not used:", *(row_of(root, row, width) for row in unused)]
    return lines


def row_of(root: Path, row: Row, width: int = 0) -> str:
    """``  12  defective photos   bad/crack/ (000.png, 001.png, 002.png, ...)``"""
    where = "" if row.text == HIDDEN else f"  {places(root, row.files)}"
    return f"{len(row.files):7d}  {row.text:{width}s}{where}".rstrip()


def places(root: Path, files: Sequence[Path]) -> str:
    """The folder and the first names in it, or the first names with their folders."""
    names = [path.relative_to(root) for path in files]
    more = ", ..." if len(names) > NAMES else ""
    folder = names[0].parent
    if all(name.parent == folder for name in names):
        inside = ", ".join(name.name for name in names[:NAMES]) + more
        return f"{folder}/ ({inside})" if folder.parts else inside
    first: Dict[Path, Path] = {}
    for name in names:
        first.setdefault(name.parent, name)
    shown = list(first.values())[:NAMES]
    return ", ".join(map(str, shown)) + more


def alarm(root: Path, rows: Sequence[Row]) -> str:
    """One line on what looks like data and is not used, or ""."""
    found = [f"{row.text} ({len(row.files)}): {places(root, row.files)}" for row in rows if row.alarming]
    return f"{root}: not used: {'; '.join(found)}" if found else ""
