"""Split files that data sets ship as pickles, read without trusting them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, Set, Tuple

from ssn_edge.errors import InputError
from ssn_edge.files import read_bounded

MAX_BYTES = 16 << 20
MAX_DEPTH = 8


class _Plain(pickle.Unpickler):
    """Loads no class and calls nothing; outside objects are refused by the base class."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"wants {module}.{name}")


def load(path: Path) -> Any:
    """The lists and tuples of ints, bools and strings of a pickle file.

    Raises InputError for a missing, damaged or oversized file, and for one that holds anything else:
    a pickle can run any program, so nothing that needs a class or a function is loaded.
    """
    data = read_bounded(path, MAX_BYTES, "a split file")
    try:
        found = _Plain(io.BytesIO(data)).load()
    except Exception as error:  # damaged pickles raise a dozen types
        reason = (str(error) or type(error).__name__).splitlines()[0][:80]
        raise InputError(
            f"{path}: not loaded ({reason}); a split file holds only lists of numbers and names"
        ) from None
    if not _is_plain(found, MAX_DEPTH, set()):
        raise InputError(f"{path}: holds other things than lists of numbers and names; not loaded")
    return found


def _is_plain(value: Any, depth: int, seen: Set[Tuple[int, int]]) -> bool:
    """``seen`` (object, depth): a pickle may hold one list a million times, and even in itself."""
    if isinstance(value, (list, tuple)):
        if (id(value), depth) in seen:
            return True
        seen.add((id(value), depth))
        return depth > 0 and all(_is_plain(part, depth - 1, seen) for part in value)
    return isinstance(value, (int, str))
