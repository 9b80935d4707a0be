"""``watch:FOLDER``: pictures that appear in a folder, each judged once, when it is whole."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, NamedTuple, Optional, Set

from ssn_edge.errors import InputError
from ssn_edge.frames.decoding import Reading
from ssn_edge.frames.formats import VIDEO_SUFFIXES, image_suffixes
from ssn_edge.sources.pictures import Pictures
from ssn_edge.sources.source import POLL_S, Frame, Source, log

SETTLE_S = 2.0
"""A file whose format cannot tell that it is whole is read when it has not changed for so long, and one that
cannot be read is broken then."""

TAIL = 4096
"""Bytes at a file's end that are compared too: not every way of writing changes the time."""


class Stamp(NamedTuple):
    """By what a file is known to be another, or to have changed."""

    mtime_ns: int
    size: int
    inode: int


class Judged(NamedTuple):
    """A file that gave its frame, or that lay there at the start."""

    stamp: Stamp
    digest: bytes = b""
    broken: bool = False


@dataclass
class _Waiting:
    """A file that is not judged yet: what it was at the last look, and since when (monotonic)."""

    stamp: Stamp
    tail: bytes
    since: float
    tried: bool = False


def find(spec: str, reading: Reading, settle_s: Optional[float] = None) -> Source:
    """``watch:FOLDER``; what lies there now is not judged until it changes."""
    folder = Path(spec[6:])
    if not spec[6:] or not folder.is_dir():
        raise InputError(f"{folder}: no such folder to watch; make it first")
    watch = _Watch(folder, Pictures(reading), settle_s)  # kept when the folder is lost and found again
    return Source(spec, watch.frames, live=True)


class _Watch:
    def __init__(self, folder: Path, pictures: Pictures, settle_s: Optional[float]):
        self._folder, self._pictures, self._settle_s = folder, pictures, settle_s
        there = listed(folder)
        self._judged = {path: Judged(stamp) for path, stamp in there.items()}
        self._waiting: Dict[Path, _Waiting] = {}
        self._videos: Set[Path] = {path for path in there if _is_video(path)}

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        """Pictures, oldest first, until ``stop``. InputError once the folder is gone."""
        while not stop.is_set():
            there = listed(self._folder)
            self._forget(there)
            for path, stamp in there.items():
                if stop.is_set():
                    return
                if _is_video(path):
                    self._name_once(path)
                elif path not in self._judged or self._judged[path].stamp != stamp:
                    frame = self._look(path, stamp)
                    if frame is not None:
                        yield frame
            stop.wait(POLL_S)

    def _forget(self, there: Dict[Path, Stamp]) -> None:
        """So that weeks of files that come and go do not pile up here."""
        self._judged = {path: judged for path, judged in self._judged.items() if path in there}
        self._waiting = {path: waiting for path, waiting in self._waiting.items() if path in there}
        self._videos &= set(there)

    def _name_once(self, path: Path) -> None:
        if path not in self._videos:
            self._videos.add(path)
            log.warning("%s: a video, which is not judged in a watched folder; give it alone", path)

    def _look(self, path: Path, stamp: Stamp) -> Optional[Frame]:
        """The file's frame, if it is time for it."""
        now, settle_s = time.monotonic(), SETTLE_S if self._settle_s is None else self._settle_s
        tail = _tail(path)
        waiting = self._waiting.get(path)
        if waiting is None or (waiting.stamp, waiting.tail) != (stamp, tail):
            waiting = self._waiting[path] = _Waiting(stamp, tail, now)
        settled = now - waiting.since >= settle_s
        if waiting.tried and not settled:
            return None
        waiting.tried = True
        data = _content(path, stamp)
        if data is None:  # it changed under our hands
            return None
        if self._is_no_news(path, stamp, data):
            return None
        read = self._pictures
        frame = read.frame(data, path.name, str(path)) if data else read.read(path, path.name)
        if not settled and (frame.image is None or not frame.told):
            return None
        self._keep(path, stamp, data, frame.image is None)
        return frame

    def _is_no_news(self, path: Path, stamp: Stamp, data: bytes) -> bool:
        """The judged picture itself, with a time that was set back (``cp -p``) or with notes behind it. What
        follows a broken one is the rest of it."""
        judged = self._judged.get(path)
        if judged is None or judged.stamp.inode != stamp.inode or stamp.size < judged.stamp.size:
            return False
        longer, older = stamp.size > judged.stamp.size, stamp.mtime_ns < judged.stamp.mtime_ns
        same = hashlib.sha256(data[: judged.stamp.size]).digest() == judged.digest
        if same and (not judged.broken if longer else older):
            self._keep(path, stamp, data, judged.broken)
            return True
        return False

    def _keep(self, path: Path, stamp: Stamp, data: bytes, broken: bool) -> None:
        self._waiting.pop(path, None)
        self._judged[path] = Judged(stamp, hashlib.sha256(data).digest(), broken)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


def _tail(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return file.read(TAIL)
    except OSError:
        return b""


def _content(path: Path, stamp: Stamp) -> Optional[bytes]:
    """The file's bytes, where it is what it was; b"" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read()
            return data if _stamp(os.fstat(file.fileno())) == stamp else None
    except OSError:
        return b""


def listed(folder: Path) -> Dict[Path, Stamp]:
    """Images and videos in a folder, oldest first, hidden ones left out. InputError once it is gone."""
    found: Dict[Path, Stamp] = {}
    suffixes = image_suffixes() | VIDEO_SUFFIXES
    try:
        for path in folder.iterdir():
            if path.suffix.lower() in suffixes and not path.name.startswith("."):
                try:
                    status = path.stat()
                except OSError:  # gone meanwhile, or a link to nothing
                    continue
                if stat.S_ISREG(status.st_mode):
                    found[path] = _stamp(status)
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); bring it back") from None
    return dict(sorted(found.items(), key=lambda item: (item[1].mtime_ns, item[0])))
