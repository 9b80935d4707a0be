"""What a user typed, as a source."""

from __future__ import annotations

import itertools
import os
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Sequence, Union

import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames.decoding import Reading
from ssn_edge.sources import files, network, pipes, shared_memory, video, watched_folder
from ssn_edge.sources.files import Files
from ssn_edge.sources.pictures import Pictures
from ssn_edge.sources.source import Frame, Source
from ssn_edge.text import without_password
from ssn_edge.values import whole_number

AS_STORED = Reading()


def find(spec: str, reading: Reading = AS_STORED, settle_s: Optional[float] = None) -> Source:
    """The source that ``spec`` names:

    an image, a video, a folder or glob of both; ``watch:FOLDER`` for images still to come; a camera's number
    or /dev/video0; an RTSP, HTTP or GStreamer address; ``file:`` and a path; ``raw:HxWxFORMAT:PATH`` for
    frames through a pipe (``-`` for standard input); ``shm:NAME`` for a frame in shared memory. InputError
    if it is missing; an HTTP address is asked what it is. ``reading``: how files become pixels
    (``Detector.reading``). ``settle_s``: how long a watched file must not have changed where its format
    cannot tell that it is whole.

    >>> find("0").live, find("rtsp://user:secret@camera.local/stream").name
    (True, 'rtsp://camera.local/stream')
    """
    part = _part(spec, reading, settle_s)
    if isinstance(part, Source):
        return part
    pictures = Pictures(reading)
    if part.account is not None:
        return _files(spec, part.paths, pictures, [part])
    (path,) = part.paths
    stem = video.label(path.name)

    def opened(_: threading.Event) -> Iterator[Frame]:
        return files.ended(files.opened(path, path.name, stem, pictures), pictures)

    return Source(spec, opened, files=part.paths)


def find_all(
    specs: Sequence[str], reading: Reading = AS_STORED, settle_s: Optional[float] = None
) -> Source:
    """Several sources one behind the other; all of them must end by themselves."""
    if len(specs) == 1:
        return find(specs[0], reading, settle_s)
    parts: List[Union[Source, Files]] = []
    for spec in specs:
        part = _part(spec, reading, settle_s)
        if isinstance(part, Source) and (part.live or part.policy != "every"):
            raise InputError(f"{part.name}: does not end by itself; give it alone, without other sources")
        parts.append(part)
    paths = [path for part in parts if isinstance(part, Files) for path in part.paths]
    pictures = Pictures(reading)
    frames = files.each(paths, pictures)

    def all_of_them(stop: threading.Event) -> Iterator[Frame]:
        for part in parts:
            if isinstance(part, Source):
                yield from part.open(stop)
            else:
                yield from itertools.chain.from_iterable(map(frames, part.paths))

    accounts = tuple(part.account for part in parts if isinstance(part, Files) and part.account)

    def opened(stop: threading.Event) -> Iterator[Frame]:
        return files.ended(all_of_them(stop), pictures)

    return Source(f"{len(specs)} sources", opened, accounts=accounts, files=tuple(paths))


def open_source(spec: str, reading: Reading = AS_STORED) -> Iterator[Frame]:
    """Frames of ``spec``. InputError if it is missing, empty or does not open."""
    return find(spec, reading).open(threading.Event())


def of(frames: Iterable[Union[Frame, np.ndarray]], name: str = "frames") -> Source:
    """A source of any iterable of :class:`Frame` or of arrays; read once."""

    def stamped(_: threading.Event) -> Iterator[Frame]:
        for number, item in enumerate(frames):
            yield item if isinstance(item, Frame) else Frame(f"{name}-{number:06d}", item, time.time())

    return Source(name, stamped)


def _files(spec: str, paths: Sequence[Path], pictures: Pictures, found: Sequence[Files]) -> Source:
    frames = files.each(paths, pictures)
    accounts = tuple(one.account for one in found if one.account)

    def opened(_: threading.Event) -> Iterator[Frame]:
        return files.ended(itertools.chain.from_iterable(map(frames, paths)), pictures)

    return Source(spec, opened, accounts=accounts, files=tuple(paths))


def _part(spec: str, reading: Reading, settle_s: Optional[float]) -> Union[Source, Files]:
    """Files, or a source of another kind."""
    if not spec:
        raise InputError("the source is empty; give an image, folder, video, camera or URL")
    if spec.startswith("watch:"):
        return watched_folder.find(spec, reading, settle_s)
    if spec.startswith("raw:"):
        return pipes.find(spec)
    if spec.startswith("shm:"):
        counter = itertools.count()
        return Source(spec, lambda stop: shared_memory.frames(spec[4:], counter, stop), True, "latest")
    camera = whole_number(spec)
    if camera is not None or spec.startswith("/dev/video"):
        target = spec if camera is None else camera
        return _live(target, f"camera {spec}", "check the camera's name and who else uses it")
    path = local_path(spec)
    if path is None and not os.path.exists(spec):
        if spec.lower().startswith(("http://", "https://")):
            return network.find(spec, reading)
        if "://" in spec or " ! " in spec:
            return _live(spec, without_password(spec), network.REMEDY)
    found = files.find(spec if path is None else path)
    if found is None:
        raise InputError(f"{spec}: no such file or folder; give an image, folder, video, camera or URL")
    return found


def _live(target: Union[int, str], name: str, remedy: str) -> Source:
    counter, stem = itertools.count(), video.label(name)

    def opened(_: threading.Event) -> Iterator[Frame]:
        return video.live_frames(video.open_live(target, name, remedy), stem, counter)

    return Source(name, opened, True, "latest")


def local_path(spec: str) -> Optional[str]:
    """The path of a ``file:`` address, None for anything else."""
    if not spec.lower().startswith("file:") or os.path.exists(spec):
        return None
    host, _, path = spec[5:].partition("//")[2].partition("/") if spec[5:7] == "//" else ("", "", spec[5:])
    if host not in ("", "localhost"):
        raise InputError(f"{spec}: a file of another machine; give file:///PATH")
    return urllib.parse.unquote("/" + path if spec[5:7] == "//" else path)
