"""JPEG's markers, walked from the front, and its decoding with or without ``simplejpeg``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, Optional, Set, Tuple

import numpy as np

SCAN, END, EXIF = 0xDA, 0xD9, 0xE1
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
FRAMES = {0xC0 + n for n in range(16)} - {0xC4, 0xC8, 0xCC}
ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length."""

NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Inside a scan 0xFF is followed by 0, a restart marker or fill bytes; anything else ends it."""

try:
    import simplejpeg
except ImportError:
    simplejpeg = None


@dataclass
class Walk:
    """``end``: behind the end marker. ``problem``: what is missing, or "". ``exif``: the tags' block."""

    end: int
    problem: str = ""
    exif: bytes = b""
    progressive: bool = False
    components: Set[int] = field(default_factory=set)
    missing_bits: Dict[Tuple[int, int], int] = field(default_factory=dict)


def walk(data: bytes) -> Walk:
    """From the start marker to the end marker; what lies behind it does not count, so that a
    phone's video or a camera's notes neither hide a cut nor look like one."""
    found, place, scans = Walk(len(data)), 2, 0
    while True:
        place, marker = _marker(data, place)
        if marker is None:
            found.problem = "it ends before its end marker"
            return found
        if marker == END:
            found.end = place
            found.problem = found.problem or _unsent(found, scans)
            return found
        if marker in ALONE:
            continue
        length = int.from_bytes(data[place : place + 2], "big")
        body, place = data[place + 2 : place + length], place + length
        if length < 2 or place > len(data):
            found.problem = "it ends inside its header"
            return found
        _note(found, marker, body)
        if marker == SCAN:
            scans += 1
            behind = NEXT_MARKER.search(data, place)
            place = behind.start() if behind else len(data)


def _marker(data: bytes, place: int) -> Tuple[int, Optional[int]]:
    """(place behind it, the next marker); None at the end of the data."""
    place = data.find(b"\xff", place)
    while 0 <= place < len(data) - 1 and data[place + 1] in (0xFF, 0):
        place = place + 1 if data[place + 1] else data.find(b"\xff", place + 2)
    return (place + 2, data[place + 1]) if 0 <= place < len(data) - 1 else (len(data), None)


def _note(found: Walk, marker: int, body: bytes) -> None:
    if marker == EXIF and body[:6] == b"Exif\0\0" and not found.exif:
        found.exif = body[6:]
    elif marker in FRAMES:
        found.progressive = marker in PROGRESSIVE
        found.components = {body[6 + 3 * n] for n in range(body[5])}
    elif marker == SCAN and found.progressive:
        names = [body[1 + 2 * n] for n in range(body[0])]
        first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
        for name in names:
            for coefficient in range(first, min(last, 63) + 1):
                found.missing_bits[name, coefficient] = bits & 15


def _unsent(found: Walk, scans: int) -> str:
    """A progressive picture is whole once every component's coefficients were sent to their last bit."""
    if not scans:
        return "it has no scan"
    if found.progressive:
        for component in found.components:
            if any(found.missing_bits.get((component, n), 1) for n in range(64)):
                return "it ends before its last scan"
    return ""


def decode_strictly(data: bytes) -> Optional[np.ndarray]:
    """BGR or grey uint8, by the decoder whose warnings are errors: ValueError for what it had to make up.

    None where ``simplejpeg`` is not installed, and for colour spaces that it does not turn into BGR.
    """
    if simplejpeg is None:
        return None
    colours = simplejpeg.decode_jpeg_header(data)[2]
    if colours == "Gray":
        return np.asarray(simplejpeg.decode_jpeg(data, "GRAY", strict=True))[..., 0]
    if colours in ("CMYK", "YCCK"):
        return None
    return np.asarray(simplejpeg.decode_jpeg(data, "BGR", strict=True))
