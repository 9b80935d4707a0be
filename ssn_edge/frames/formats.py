"""Which files are pictures and which are videos: one list for all commands, by what this OpenCV decodes."""

from __future__ import annotations

import functools
from typing import Dict, FrozenSet, Optional, Tuple

import cv2

_WRITERS: Dict[str, Tuple[str, ...]] = {
    ".jpg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    ".png": (".png",),
    ".bmp": (".bmp", ".dib"),
    ".tif": (".tif", ".tiff"),
    ".webp": (".webp",),
    ".pgm": (".pgm", ".ppm", ".pbm", ".pnm", ".pam"),
    ".ras": (".ras", ".sr"),
    ".jp2": (".jp2",),
    ".gif": (".gif",),
    ".avif": (".avif",),
}
"""Suffix that OpenCV is asked about -> the suffixes of that format. Formats of float pixels are not among
them: a fixed grey scale is what makes scores comparable."""

VIDEO_SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})


@functools.lru_cache(maxsize=None)
def image_suffixes() -> FrozenSet[str]:
    """Lower-case suffixes of the pictures that this OpenCV decodes; it is asked once."""
    return frozenset(
        suffix for writer, suffixes in _WRITERS.items() if _decodes(writer) for suffix in suffixes
    )


def _decodes(suffix: str) -> bool:
    """OpenCV tells only whether it writes a format, and reads what it writes."""
    try:
        return bool(cv2.haveImageWriter("x" + suffix))
    except cv2.error:  # before 4.11 for a suffix that it does not know
        return False


def kind_of(data: bytes) -> Optional[str]:
    """A picture's format by its first bytes, None for what is none that is known.

    >>> kind_of(b"P5 640 480 255 ...")
    'PNM'
    """
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:3] == b"GIF":
        return "GIF"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if data[:12] == b"\0\0\0\x0cjP  \r\n\x87\n" or data[:4] == b"\xff\x4f\xff\x51":
        return "JPEG 2000"
    if data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3].isspace():
        return "PNM"
    if data[:2] == b"BM":
        return "BMP"
    return "RAS" if data[:4] == b"\x59\xa6\x6a\x95" else None
