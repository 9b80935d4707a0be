"""What a picture's bytes say of themselves before they are decoded: where it ends, whether all of it is
there, whether the format could tell at all, how it is turned, and whether the file holds further pictures.

Decoders fill what is missing with grey or with what came before, and say so on stderr at best.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Dict, Iterator, List, Set

from ssn_edge.frames import jpeg, orientation
from ssn_edge.frames.formats import kind_of

DEFLATE = (8, 32946)
COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)
"""Of TIFF: what every libtiff reads. Not so LZMA, Zstandard and WebP."""

MOST_PAGES = 10_000


@dataclass(frozen=True)
class Structure:
    """``end``: bytes of the picture itself, trailers of cameras and phones left out. ``problem``: why it is
    not whole, or "". ``tells``: the format has checksums, so that a picture that decodes is whole.
    ``packed``: entropy-coded, where a long run of zeros cannot be. ``tag``: orientation. ``several``: more
    pictures follow. ``lossy``: its pixels carry a compression's noise. ``hint``: what a decoder may lack.
    """

    kind: str
    end: int
    problem: str = ""
    tells: bool = False
    packed: bool = False
    tag: int = 1
    several: bool = False
    lossy: bool = False
    hint: str = ""


def inspect(data: bytes) -> Structure:
    """Looks at markers, chunks, directories and lengths; inflates deflated TIFF, for its checksums.

    A format that is not known, or damaged beyond reading, is left to the decoder.
    """
    kind = kind_of(data) or "unknown"
    read = {
        "JPEG": _jpeg, "PNG": _png, "TIFF": _tiff, "WebP": _webp, "GIF": _gif, "BMP": _bmp, "PNM": _pnm,
    }.get(kind)
    try:
        if read is not None:
            return read(data)
    except (struct.error, IndexError, ValueError, OverflowError):
        return Structure(kind, len(data), "its header is damaged")
    if kind == "AVIF":
        tag = orientation.of_avif(data)
        return Structure(kind, len(data), packed=True, tag=tag, several=data[8:12] == b"avis", lossy=True)
    packed = kind == "JPEG 2000"
    return Structure(kind, len(data), packed=packed, lossy=packed)


def _jpeg(data: bytes) -> Structure:
    found = jpeg.walk(data)
    tag = orientation.of_exif(found.exif)
    return Structure("JPEG", found.end, found.problem, tag=tag, lossy=True)


def _png(data: bytes) -> Structure:
    place, tag, several = 8, 1, False
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        if name == b"eXIf":
            tag = orientation.of_exif(data[place + 8 : place + 8 + length])
        elif name == b"acTL":
            several = struct.unpack_from(">I", data, place + 8)[0] > 1
        place += 12 + length
        if name == b"IEND" and place <= len(data):
            return Structure("PNG", place, tells=True, packed=True, tag=tag, several=several)
    return Structure("PNG", len(data), "it ends before its end mark")


def _webp(data: bytes) -> Structure:
    (length,) = struct.unpack_from("<I", data, 4)
    end = 8 + length
    if end > len(data):
        return Structure("WebP", len(data), f"its header names {end} bytes")
    tag, images, place, lossy = 1, 0, 12, False
    while place + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, place)
        if name == b"EXIF":
            block = data[place + 8 : place + 8 + size]
            tag = orientation.of_exif(block[6:] if block[:6] == b"Exif\0\0" else block)
        images += name == b"ANMF"
        lossy |= name == b"VP8 "
        place += 8 + size + size % 2
    # Lossless ones may be written with long runs of zeros, by libwebp's fastest method.
    return Structure("WebP", end, packed=lossy, tag=tag, several=images > 1, lossy=lossy)


def _gif(data: bytes) -> Structure:
    place, images = 13 + _palette(data[10]), 0
    while place < len(data):
        block = data[place]
        if block == 0x3B:
            return Structure("GIF", place + 1, packed=True, several=images > 1)
        if block == 0x21:
            place += 2
        elif block == 0x2C:
            images += 1
            place += 11 + _palette(data[place + 9])
        else:
            break
        while data[place]:  # sub-blocks
            place += 1 + data[place]
        place += 1
    return Structure("GIF", len(data), "it ends before its end mark")


def _palette(flags: int) -> int:
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0


def _bmp(data: bytes) -> Structure:
    offset, header = struct.unpack_from("<II", data, 10)
    if header < 40:
        return Structure("BMP", len(data))
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    end = offset + (width * bits + 31) // 32 * 4 * abs(height)
    if compression not in (0, 3):  # run lengths: no size to hold it against
        return Structure("BMP", len(data))
    short = f"its header names {end} bytes" if end > len(data) else ""
    return Structure("BMP", min(end, len(data)), short)


PNM_HEADER = re.compile(rb"P([1-6])(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)")
PNM_MAXIMUM = re.compile(rb"(?:\s+|#[^\n]*\n)+(\d+)\s")


def _pnm(data: bytes) -> Structure:
    header = PNM_HEADER.match(data)
    if header is None or int(header[1]) < 4:  # PAM and text forms: the decoder counts their numbers
        return Structure("PNM", len(data))
    kind, width, height = int(header[1]), int(header[2]), int(header[3])
    if kind == 4:
        end = header.end() + 1 + (width + 7) // 8 * height
    else:
        maximum = PNM_MAXIMUM.match(data, header.end())
        if maximum is None:
            return Structure("PNM", len(data), "its header is damaged")
        end = maximum.end() + width * height * (3 if kind == 6 else 1) * (2 if int(maximum[1]) > 255 else 1)
    short = f"its header names {end} bytes" if end > len(data) else ""
    return Structure("PNM", min(end, len(data)), short)


def _tiff(data: bytes) -> Structure:
    if data[2:3] not in (b"*", b"\0") or data[:4] == b"MM\0+":
        return Structure("TIFF", len(data))  # BigTIFF
    pages = list(_pages(data))
    if not pages:
        return Structure("TIFF", len(data), "its directory is missing")
    first = pages[0]
    compression = first.get(259, [1])[0]
    strips = list(zip(first.get(273) or first.get(324, []), first.get(279) or first.get(325, [])))
    several = sum(not page.get(254, [0])[0] & 1 for page in pages) > 1  # thumbnails are no pictures
    problem = ""
    if any(place + size > len(data) for place, size in strips):
        problem = "parts of it lie behind its end"
    deflated = compression in DEFLATE
    if deflated and not problem and not all(_inflates(data[p : p + n]) for p, n in strips):
        problem = "its compressed data are damaged"
    other = f"compression {compression} may not be read here; use another"
    hint = "" if compression in COMPRESSIONS else other
    return Structure("TIFF", len(data), problem, tells=deflated, packed=compression != 1, several=several,
                     tag=first.get(274, [1])[0], lossy=compression in (6, 7), hint=hint)


def _pages(data: bytes) -> Iterator[Dict[int, List[int]]]:
    order = "<" if data[:2] == b"II" else ">"
    (place,) = struct.unpack_from(order + "I", data, 4)
    seen: Set[int] = set()
    while place and place not in seen and len(seen) < MOST_PAGES:
        seen.add(place)
        (count,) = struct.unpack_from(order + "H", data, place)
        entries = (struct.unpack_from(order + "HHI4s", data, place + 2 + 12 * n) for n in range(count))
        yield {tag: _numbers(data, order, kind, n, raw) for tag, kind, n, raw in entries if kind in (3, 4)}
        (place,) = struct.unpack_from(order + "I", data, place + 2 + 12 * count)


def _numbers(data: bytes, order: str, kind: int, count: int, raw: bytes) -> List[int]:
    size, letter = (2, "H") if kind == 3 else (4, "I")
    if size * count > len(data):
        raise ValueError("a directory entry larger than the file")
    if size * count <= 4:
        return list(struct.unpack_from(f"{order}{count}{letter}", raw))
    return list(struct.unpack_from(f"{order}{count}{letter}", data, struct.unpack(order + "I", raw)[0]))


def _inflates(strip: bytes) -> bool:
    """Whether a strip's checksum holds: libtiff only logs what it could not read."""
    engine = zlib.decompressobj()
    try:
        while strip and not engine.eof:
            engine.decompress(strip, 1 << 20)
            strip = engine.unconsumed_tail
    except zlib.error:
        return False
    return engine.eof


def zero_tail(data: bytes, end: int) -> int:
    """Zero bytes at the end of the picture's ``end`` bytes."""
    last = data[max(0, end - 4096) : end].rstrip(b"\0")
    return min(end, 4096) - len(last) if last else end - len(data[:end].rstrip(b"\0"))  # seldom: it copies
