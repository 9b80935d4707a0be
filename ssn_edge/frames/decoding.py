"""Bytes to pixels for every source: one decoder, and one answer to whether a picture is whole.

What a decoder would have to make up is an error here. Where a format has no way to tell, the picture says
so (``told``), and of a file that ends in a long run of zeros, as a copy that stopped leaves it, says that
(``doubt``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import cv2
import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames import jpeg, orientation
from ssn_edge.frames.pixels import to_bgr8
from ssn_edge.frames.structure import Structure, inspect, zero_tail
from ssn_edge.text import one_line

EXTRA = "strict-decode"
"""The extra that brings the decoder whose warnings are errors."""

HOLE = 1024
"""Zero bytes in a row that no entropy coder writes, but for pictures of one colour."""

PLAIN_BITS = 0.05
"""Bits a pixel of a picture of one colour: up to here zeros are no hole."""

ZERO_SHARE, ZERO_LEAST = 1 / 16, 4096
"""Of a file's bytes: so many zeros at its end are worth a warning."""


@dataclass(frozen=True)
class Reading:
    """How files become pixels; a model keeps what it was trained with.

    ``bits``: those in use of 16-bit files, right-aligned as camera SDKs write Mono10 and Mono12; 16 also
    where they are left-aligned. ``orientation``: tags "applied" to all formats, or, as models from before
    there was a choice were trained, "ignored" (but by TIFF, which OpenCV turns).
    """

    bits: int = 16
    orientation: str = "applied"


@dataclass(frozen=True)
class Picture:
    """``stored``: as decoded, grey, BGR or BGRA of uint8 or uint16, upright where the reading says so.
    ``told``: the format told that it is whole. ``doubt``: why it may not be, or "". ``several``: the file
    holds further pictures. ``tag``: its orientation as stored, 1 upright. ``lossy``: its pixels carry a
    compression's noise."""

    stored: np.ndarray
    kind: str
    told: bool
    doubt: str = ""
    several: bool = False
    tag: int = 1
    lossy: bool = False

    def bgr(self, name: str, reading: Reading) -> np.ndarray:
        """uint8 [H, W, 3]. InputError for float pixels, and for more bits than ``reading`` has."""
        return to_bgr8(self.stored, name, bits=reading.bits)


def decode(data: bytes, name: str, reading: Reading = Reading()) -> Picture:  # noqa: B008 (frozen)
    """The first picture of a file's bytes. InputError where it is none, or not whole as far as it tells."""
    found = inspect(data)
    reason = found.problem
    image, told = None, False
    if not reason:
        try:
            image, told = _pixels(data, found)
        except ValueError as error:  # the strict decoder's: what libjpeg had to make up
            reason = one_line(error, 80).rstrip(".")
    if image is not None and found.packed and not told and _has_hole(data, found.end, image):
        reason = "it has a hole of zeros"
    if image is None or reason:
        reason = reason or found.hint
        detail = f": {reason}" if reason else ""
        raise InputError(f"{name}: not a complete image ({len(data)} bytes{detail}); save or copy it again")
    turned = found.kind != "TIFF" and reading.orientation == "applied"  # OpenCV turns TIFF by itself
    stored = orientation.upright(image, found.tag) if turned else image
    doubt = "" if told else _doubt(data, found, image)
    return Picture(stored, found.kind, told, doubt, found.several, found.tag, found.lossy)


def _pixels(data: bytes, found: Structure) -> Tuple[Optional[np.ndarray], bool]:
    """The decoded picture, if it is one, and whether its format told that it is whole."""
    if found.kind == "JPEG":
        image = jpeg.decode_strictly(data[: found.end])
        if image is not None:
            return image, True
    try:
        buffer = np.frombuffer(data, np.uint8, found.end)
        return (cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if len(buffer) else None), found.tells
    except cv2.error:  # among others, more pixels than OpenCV takes
        return None, found.tells


def _has_hole(data: bytes, end: int, image: np.ndarray) -> bool:
    """A run of zeros that no entropy coder writes, unless the picture is of one colour."""
    pixels = image.shape[0] * image.shape[1]
    return end * 8 > PLAIN_BITS * pixels and data.find(bytes(HOLE), 0, end) >= 0


def _doubt(data: bytes, found: Structure, image: np.ndarray) -> str:
    """Formats without checksums, and JPEG where the strict decoder is missing."""
    if found.kind == "JPEG":
        return "a long run of zeros inside; is it whole?" if _has_hole(data, found.end, image) else ""
    zeros = zero_tail(data, found.end)
    if zeros < max(ZERO_LEAST, ZERO_SHARE * found.end):
        return ""
    return f"its last {zeros} of {found.end} bytes are zeros; is it whole?"
