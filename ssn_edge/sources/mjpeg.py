"""Motion JPEG: pictures one behind the other, each decoded by itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, Iterator, Optional

from ssn_edge.frames.jpeg import ALONE, END, NEXT_MARKER, SCAN
from ssn_edge.sources.pictures import Pictures
from ssn_edge.sources.source import Frame

START = b"\xff\xd8\xff"

BLOCK = 1 << 20

LARGEST = 64 << 20
"""Bytes of one picture; what goes on for longer is none."""

NOTES = {*range(0xE0, 0xF0), 0xFE}
"""Segments that may hold a picture of their own, a thumbnail."""


def end_of(data: bytes, start: int) -> Optional[int]:
    """Where the picture at ``start`` ends: behind its end marker, or where the next begins if it was cut.
    None where the data end before that."""
    place = start + 2
    while True:
        place = data.find(b"\xff", place)
        if not 0 <= place < len(data) - 3:
            return _end_at_the_end(data, place)
        marker = data[place + 1]
        if marker == 0xD8:
            return place
        if marker == END:
            return place + 2
        if marker in (0, 0xFF) or marker in ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        behind = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        inside = -1 if marker in NOTES else data.find(START, place + 2, behind)
        if inside >= 0 or behind > len(data):
            return inside if inside >= 0 else None
        place = behind
        if marker == SCAN:
            found = NEXT_MARKER.search(data, place)
            if found is None:
                return None
            place = found.start()


def _end_at_the_end(data: bytes, place: int) -> Optional[int]:
    """The last bytes hold no whole segment, but perhaps an end marker."""
    end = data.find(b"\xff\xd9", place) if place >= 0 else -1
    return end + 2 if end >= 0 else None


def split(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Pictures of what ``read`` gives, up to its end; what lies between them is left out."""
    data = b""
    while True:
        start = data.find(START)
        end = end_of(data, start) if start >= 0 else None
        if end is not None:
            yield data[start:end]
            data = data[end:]
            continue
        data = data[start:] if start >= 0 else data[-2:]
        block = read(BLOCK) if len(data) < LARGEST else b""
        if not block:
            if start >= 0:
                yield data
            return
        data += block


def frames(path: Path, stem: str, pictures: Pictures) -> Iterator[Frame]:
    """Every picture of a ``.mjpeg`` file. A cut one is a frame without an image; the next is read as ever."""
    number = -1
    with open(path, "rb") as file:
        for number, data in enumerate(split(file.read)):
            name = f"{stem}-{number:06d}"
            yield pictures.frame(data, name, f"{path}: frame {number}")
    if number < 0:
        yield Frame(f"{stem}-000000", None, time.time(), f"{path}: holds no JPEG; copy it again")
