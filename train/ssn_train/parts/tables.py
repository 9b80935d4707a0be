"""``parts.csv``: which photo shows which part, a line a photo."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath
from typing import Dict, List, Mapping, Tuple

from ssn_edge.errors import InputError
from ssn_edge.files import read_bounded, replacing

NAME = "parts.csv"
"""In the data folder it is found by itself."""

COLUMNS = ["file", "part"]
MOST_BYTES = 16 << 20


def read(path: Path) -> Dict[str, str]:
    """File (relative to the data folder, with ``/``) -> part, of a UTF-8 table with the header
    ``file,part``.

    InputError for a file that cannot be read or is larger than 16 MiB, another header, a line of other than
    two values, an empty one, a name that leads out of the folder, and two parts for one file.
    """
    data = read_bounded(path, MOST_BYTES, "a table of parts")
    text = data.decode("utf-8-sig", "surrogateescape")  # as the system gives names that are not UTF-8
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: Dict[str, str] = {}
    try:
        header = next(reader, [])
        if header != COLUMNS:
            said = ",".join(header)[:60] or "nothing"
            raise InputError(f"{path}: expected the header file,part, found {said}")
        for row in reader:
            if row:
                file, part = _checked(row, f"{path}: line {reader.line_num}")
                if found.setdefault(file, part) != part:
                    raise InputError(f"{path}: {file} is of part {found[file]} and of {part}; leave one")
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num} is no CSV ({error}); mend it") from None
    return found


def _checked(row: List[str], where: str) -> Tuple[str, str]:
    if len(row) != len(COLUMNS) or not row[0].strip() or not row[1].strip():
        raise InputError(f"{where} is not FILE,PART; a photo that shows a part alone has one of its own")
    if not row[1].isprintable():
        raise InputError(f"{where}: its part is not UTF-8 text; save the table as UTF-8")
    path = PurePosixPath(row[0])
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in row[0]:
        raise InputError(f"{where}: {row[0]!r} leads out of the folder; give paths below the data folder")
    return str(path), row[1].strip()


def write(path: Path, parts: Mapping[str, str]) -> None:
    """The table that :func:`read` reads; whole or not at all."""
    with replacing(path) as temporary:
        with open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)  # CRLF, or a name with one of the two would not be quoted
            writer.writerows([COLUMNS, *parts.items()])
