"""Names for the files that a run writes: inside its folder, and never one that it gave before."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from pathlib import Path
from typing import Iterator, Set

from ssn_edge.frames.formats import image_suffixes

LONGEST, SHORTEST = 240, 140
"""Bytes of a name: file systems take 255, encrypted ones 143."""

DIGITS = 12
"""Of the digest that tells shortened names apart."""


def flat(name: str) -> str:
    """A frame's name without folders, and without what a file's name cannot hold or would be hidden by."""
    parts = [part for part in re.split(r"[/\\\x00-\x1f\x7f]", name) if part not in ("", ".", "..")]
    joined = "-".join(parts).lstrip(".") or "frame"
    try:
        os.fsencode(joined)
    except UnicodeEncodeError:
        joined = joined.encode("ascii", "replace").decode().replace("?", "_")
    return joined


def stem_of(name: str) -> str:
    """A frame's name for a file: flat, without an image's suffix."""
    stem, dot, suffix = flat(name).rpartition(".")
    return stem if stem and dot + suffix.lower() in image_suffixes() else flat(name)


def fitted(stem: str, suffix: str, longest: int = LONGEST) -> str:
    """``stem + suffix``, its end replaced by a digest where a file system would not take it."""
    if len(os.fsencode(stem + suffix)) <= longest:
        return stem + suffix
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:DIGITS]
    room = longest - len(os.fsencode(suffix)) - DIGITS - 1
    return f"{os.fsencode(stem)[:room].decode(errors='ignore')}-{digest}{suffix}"


class Names:
    """Paths in ``folder`` for one run. A file that lay there before may be replaced, once: that is a rerun.
    One of this run never is. What is free is asked of the disk, so that nothing here grows with the stream.
    """

    def __init__(self, folder: Path, suffix: str):
        self._folder, self._suffix, self._number = folder, suffix, itertools.count(2)
        self.longest = LONGEST
        with os.scandir(folder) as entries:
            self._earlier: Set[str] = {
                entry.name for entry in entries
                if entry.name.endswith(suffix) and not entry.is_dir(follow_symlinks=False)
            }

    def take(self, *stems: str) -> Path:
        """The first of ``stems`` that may be written, else the last with a number."""
        for stem in itertools.chain(stems, self._numbered(stems[-1])):
            name = fitted(stem, self._suffix, self.longest)
            path = self._folder / name
            if name in self._earlier or not os.path.lexists(path):
                self._earlier.discard(name)
                return path
        raise AssertionError("numbers do not end")

    def _numbered(self, stem: str) -> Iterator[str]:
        """The numbers go on from name to name, so that the same name again and again is found at once."""
        return (f"{stem}-{number}" for number in self._number)
