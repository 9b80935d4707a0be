"""Orientation tags (Exif 0x0112): how a stored picture has to be turned to stand upright."""

from __future__ import annotations

import struct

import cv2
import numpy as np

TAG = 0x0112
MOST_TAGS = 1000

ROTATIONS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
MIRRORED = {2: 1, 4: 0}


def of_exif(block: bytes) -> int:
    """The tag 1 to 8 of an Exif block (a TIFF header and its entries); 1, upright, where it has none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return 1
    (place,) = struct.unpack_from(order + "I", block, 4)
    if place + 2 > len(block):
        return 1
    (count,) = struct.unpack_from(order + "H", block, place)
    for number in range(min(count, MOST_TAGS)):
        entry = place + 2 + 12 * number
        if entry + 12 > len(block):
            return 1
        tag, _, _, value = struct.unpack_from(order + "HHIH", block, entry)
        if tag == TAG:
            return int(value) if 1 <= value <= 8 else 1
    return 1


AVIF = {
    (0, 1): 2, (2, -1): 3, (0, 0): 4, (1, 0): 5, (3, -1): 6, (3, 0): 7, (1, -1): 8, (2, 0): 2, (2, 1): 4,
    (1, 1): 7, (3, 1): 5,
}
"""(quarter turns to the left, mirror axis or -1) of AVIF's properties irot and imir -> the tag that does the
same."""


def of_avif(data: bytes) -> int:
    """The tag that an AVIF file's rotation and mirror properties amount to; decoders of OpenCV ignore
    them."""
    turn, mirror = data.find(b"\0\0\0\x09irot"), data.find(b"\0\0\0\x09imir")
    angle = data[turn + 8] & 3 if 0 <= turn < len(data) - 8 else 0
    axis = data[mirror + 8] & 1 if 0 <= mirror < len(data) - 8 else -1
    return AVIF.get((angle, axis), 1)


def upright(image: np.ndarray, tag: int) -> np.ndarray:
    """``image`` [H, W] or [H, W, C] turned and mirrored as ``tag`` asks for; itself for 1."""
    if tag in ROTATIONS:
        return cv2.rotate(image, ROTATIONS[tag])
    if tag in MIRRORED:
        return cv2.flip(image, MIRRORED[tag])
    if tag in (5, 7):  # mirrored at a diagonal
        transposed = cv2.transpose(image)
        return transposed if tag == 5 else cv2.flip(transposed, -1)
    return image


def describe(tag: int) -> str:
    """In words, for messages: ``turned by 180 degrees (tag 3)``."""
    words = {3: "turned by 180 degrees", 6: "turned by 90 degrees", 8: "turned by 270 degrees"}
    return f"{words.get(tag, 'mirrored')} (tag {tag})" if tag != 1 else "upright (no tag)"
