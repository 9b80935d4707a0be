"""A frame, and what frames come from."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Optional, Tuple

import numpy as np

from ssn_edge.inventory import Row

log = logging.getLogger("ssn_edge.stream")
"""The stream's: a source's warnings are shown with its."""

POLL_S = 0.1
"""How often a watched folder is looked at, and how soon a stop is seen."""

TIMEOUT_MS = 5000
"""How long a network camera may be silent before it counts as lost."""


@dataclass(frozen=True)
class Frame:
    """``image`` BGR or grey uint8, or None with the ``problem``; ``time`` in seconds since 1970;
    ``arrived`` in monotonic seconds, where the source knows it better than its reader. ``doubt``: why an
    image may not be whole, or "". ``told``: its format told that it is. ``kind``: that format, or "".
    ``several``: its file holds further pictures."""

    name: str
    image: Optional[np.ndarray]
    time: float
    problem: str = ""
    arrived: Optional[float] = None
    doubt: str = ""
    told: bool = True
    kind: str = ""
    several: bool = False


@dataclass(frozen=True)
class Account:
    """What lies at ``root``: rows of what is judged, and of what is not and why."""

    root: Path
    rows: Tuple[Row, ...]


@dataclass(frozen=True)
class Source:
    """Something that can be opened for frames; a ``live`` one may be lost and opened again. ``policy``:
    what a stream does when frames come faster than it judges them, "latest" or "every". ``accounts``: of
    folders and patterns, which of their files are judged; ``files``: those, and the single ones.

    ``open`` takes the event that asks its frames to end. Folders, pipes and shared memory look at it
    while they wait; a camera or network stream inside OpenCV, and an iterable of the caller's, see it
    with their next frame.
    """

    name: str
    open: Callable[[threading.Event], Iterator[Frame]]
    live: bool = False
    policy: str = "every"
    accounts: Tuple[Account, ...] = ()
    files: Tuple[Path, ...] = ()
