"""Pictures and videos on disk: single ones, folders and patterns, with an account of what is left out."""

from __future__ import annotations

import glob
import os
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ssn_edge import inventory
from ssn_edge.errors import InputError
from ssn_edge.frames.formats import VIDEO_SUFFIXES, image_suffixes, kind_of
from ssn_edge.inventory import Reason, Row
from ssn_edge.sources import mjpeg, video
from ssn_edge.sources.pictures import Pictures
from ssn_edge.sources.source import Account, Frame

USE = "judged"

ENTER = Reason("folders with images, which this pattern does not enter: /**/* does", True)


@dataclass(frozen=True)
class Files:
    """What one path or pattern names, in order, and the account of a folder or pattern."""

    paths: Tuple[Path, ...]
    account: Optional[Account] = None


def find(spec: str) -> Optional[Files]:
    """The files of a path, folder or pattern; None where there is none of that name. InputError for a folder
    or pattern without anything to judge."""
    if os.path.isfile(spec):
        return Files((Path(spec),))
    if os.path.isdir(spec):
        return _folder(Path(spec))
    return _pattern(spec) if glob.has_magic(spec) else None


def is_judged(path: Path) -> bool:
    """Whether a folder's file is taken: by its suffix, as in training."""
    return path.suffix.lower() in image_suffixes() | VIDEO_SUFFIXES


def _folder(root: Path) -> Files:
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise InputError(f"{root}: cannot be listed ({error.strerror}); check its rights") from None
    paths = tuple(
        path for path in entries if is_judged(path) and not path.name.startswith(".") and path.is_file()
    )

    def reason(path: Path) -> Reason:
        suffix = path.suffix.lower()
        if path.parent == root or not is_judged(path):
            return inventory.unknown(path)
        kind = "videos" if suffix in VIDEO_SUFFIXES else "images"
        return Reason(f"{kind} in subfolders, which only '{root}/**/*{suffix}' takes", True)

    rows = tuple(inventory.account(root, dict.fromkeys(paths, USE), reason))
    if not paths:
        raise InputError(f"{root}: no images or videos in this folder{_held(root, rows)}")
    return Files(paths, Account(root, rows))


def _held(root: Path, rows: Sequence[Row]) -> str:
    held = [f"{row.text} ({len(row.files)})" for row in rows]
    return f"; it holds {'; '.join(held)}" if held else "; it is empty; give another, or a pattern"


def _pattern(spec: str) -> Files:
    root, matches = _root(spec), [Path(name) for name in sorted(glob.glob(spec, recursive=True))]
    paths = tuple(dict.fromkeys(path for path in matches if is_judged(path) and path.is_file()))
    if not paths:
        inside = [path for match in matches if match.is_dir() for path in inventory.files_below(match)]
        suffixes = Counter(path.suffix for path in inside if is_judged(path))
        if suffixes:
            count = sum(suffixes.values())
            below = f"{spec.rstrip('/')}/**/*{next(iter(suffixes)) if len(suffixes) == 1 else ''}"
            raise InputError(
                f"{spec}: matches only folders, which hold {count} images or videos; "
                f"give '{below}'"
            )
        found = f"{len(matches)} others" if matches else "nothing"
        raise InputError(f"{spec}: matches no image or video, but {found}; check the pattern")
    unused: Dict[Reason, List[Path]] = defaultdict(list)
    for path in dict.fromkeys(matches):
        if path.is_dir():
            if "**" not in spec and any(map(is_judged, inventory.files_below(path))):
                unused[ENTER].append(path)
        elif not is_judged(path):
            unused[inventory.unknown(path)].append(path)
    return Files(paths, Account(root, (Row(USE, paths, True), *inventory.unused_rows(unused))))


def _root(spec: str) -> Path:
    """The folder that a pattern's matches lie below."""
    plain: List[str] = []
    for part in Path(spec).parts[:-1]:
        if glob.has_magic(part):
            break
        plain.append(part)
    return Path(*plain)


def labels(paths: Sequence[Path]) -> Dict[Path, str]:
    """What their frames are called: the file's name, with the folder where two have the same one."""
    names = Counter(path.name for path in dict.fromkeys(paths))
    return {path: path.name if names[path.name] == 1 else str(path) for path in paths}


def stems(names: Mapping[Path, str]) -> Dict[Path, str]:
    """What frames of videos are called before their number; with the suffix where two would be the same."""
    short = Counter(video.label(name) for name in names.values())
    whole = {path: re.sub(r"[^\w.-]+", "-", name) for path, name in names.items()}
    return {path: video.label(name) if short[video.label(name)] == 1 else whole[path]
            for path, name in names.items()}


def opened(path: Path, name: str, stem: str, pictures: Pictures) -> Iterator[Frame]:
    """One file's frames. InputError where it opens as nothing, or is a picture that cannot be read."""
    head = _head(path)
    if _is_motion_jpeg(path, head):
        return mjpeg.frames(path, stem, pictures)
    suffix = path.suffix.lower()
    if kind_of(head) or suffix in image_suffixes() and not video.is_container(head):
        frame = pictures.read(path, name)
        if frame.image is None:
            raise InputError(frame.problem)
        return iter([frame])
    capture = video.open_file(path, head)
    return video.counted_frames(capture, stem, path.name, head, os.path.getsize(path), path)


def ended(frames: Iterator[Frame], pictures: Pictures) -> Iterator[Frame]:
    """The frames, and at their end what all of them tell."""
    try:
        yield from frames
    finally:
        pictures.finish()


def each(paths: Sequence[Path], pictures: Pictures) -> Callable[[Path], Iterator[Frame]]:
    """A function that opens one of many: a file that is damaged is a frame without an image."""
    names = labels(paths)
    numbered = stems(names)

    def frames(path: Path) -> Iterator[Frame]:
        try:
            yield from opened(path, names[path], numbered[path], pictures)
        except InputError as error:
            yield Frame(names[path], None, time.time(), str(error))

    return frames


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(video.HEAD)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def _is_motion_jpeg(path: Path, head: bytes) -> bool:
    """Pictures one behind the other under a video's name; a saved HTTP stream begins with a boundary."""
    suffix = path.suffix.lower()
    saved = suffix in (".mjpeg", ".mjpg") and not video.is_container(head)
    return saved or suffix in VIDEO_SUFFIXES and head.startswith(mjpeg.START)
