"""Whether a video's file holds together: elements, packets and tags are walked, their content is not read.

What a decoder shows of a damaged file does not tell: it stops at a hole, or goes on behind it.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, Dict, List, Optional, Tuple

TOP = {
    0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC,
    0xBF,
}
"""What a Matroska segment holds; a cluster is the fourth."""

CLUSTER, SEGMENT, UNKNOWN = 0x1F43B675, 0x18538067, (1 << 56) - 1
IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF, 0xEC, 0xBF}

ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")

HOLE = 1024
"""Zeros in a row that no packet of an ASF has inside, and no two packs between them."""

PACKET, NO_STREAM = 188, 0x1FFF
HEAD = 1 << 16
LARGEST = 1 << 28


def is_whole(path: Path) -> Optional[bool]:
    """None of a container that is not walked, or a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            head, size = file.read(HEAD), os.fstat(file.fileno()).st_size
            file.seek(0)
            if head.startswith(b"\x1aE\xdf\xa3"):
                return _matroska(file, size)
            if head.startswith(b"FLV"):
                return _flash(file, size)
            if head.startswith(b"0&\xb2u\x8ef\xcf\x11"):
                return _asf(file, head, size)
            if head.startswith(b"\0\0\1\xba"):
                return _program(file, size)
            if b"G" == head[:1] == head[PACKET : PACKET + 1]:
                return _transport(file, 0)
            if b"G" == head[4:5] == head[PACKET + 8 : PACKET + 9]:
                return _transport(file, 4)
    except (OSError, struct.error):
        pass
    return None


def _element(file: BinaryIO) -> Optional[Tuple[int, int]]:
    """A Matroska element's name and size."""
    numbers = []
    for longest in (4, 8):
        first = file.read(1)
        length = 9 - first[0].bit_length() if first and first[0] else 99
        rest = file.read(length - 1) if length <= longest else b""
        if length > longest or len(rest) < length - 1:
            return None
        number = int.from_bytes(first + rest, "big")
        mask = (1 << 7 * length) - 1
        numbers.append(number if longest == 4 else UNKNOWN if number & mask == mask else number & mask)
    return numbers[0], numbers[1]


def _matroska(file: BinaryIO, size: int) -> bool:
    """Elements of known names up to the segment's end; what lies behind it is not looked at."""
    end = size
    while file.tell() < end:
        found = _element(file)
        if found is None:
            return False
        name, length = found
        behind = file.tell() + length
        if name == SEGMENT:
            end = size if length == UNKNOWN else behind
            if end > size:
                return False
        elif name == CLUSTER:  # what it holds comes next
            if length != UNKNOWN and behind > size:
                return False
        elif name in TOP or name in IN_CLUSTER or name == 0x1A45DFA3:
            if length == UNKNOWN or behind > size:
                return False
            file.seek(length, os.SEEK_CUR)
        else:
            return False
    return True


def _flash(file: BinaryIO, size: int) -> bool:
    file.seek(int.from_bytes(file.read(9)[5:9], "big") + 4)
    while file.tell() < size:
        tag = file.read(11)
        if len(tag) < 11 or tag[0] & 0x1F not in (8, 9, 18):
            return False
        file.seek(int.from_bytes(tag[1:4], "big") + 4, os.SEEK_CUR)
    return file.tell() <= size + 4  # the last tag's size may be left out


def _asf(file: BinaryIO, head: bytes, size: int) -> Optional[bool]:
    """Packets of one size, each with its error correction's mark; zeros in them are padding at their end."""
    place, data = head.find(ASF_PROPERTIES), head.find(ASF_DATA)
    if place < 0 or data < 0:
        return None
    flags, shortest, longest = struct.unpack_from("<III", head, place + 88)
    (count,) = struct.unpack_from("<Q", head, data + 40)
    if flags & 1 or shortest != longest or not shortest:  # written live: counts are not filled in
        return None
    begin = data + 50
    if begin + count * shortest > size:
        return False
    for number in range(count):
        file.seek(begin + number * shortest)
        packet = file.read(shortest)
        if packet[:3] != b"\x82\0\0":
            return None if number == 0 else False
        if bytes(HOLE) in packet.rstrip(b"\0"):
            return False
    return True


def _program(file: BinaryIO, size: int) -> bool:
    """Packs and their packets, each with a start code."""
    while file.tell() < size:
        start, zeros = file.read(4), 0
        while start[:3] == b"\0\0\0" and zeros < HOLE:  # Video CDs fill sectors up
            start, zeros = start[1:] + file.read(1), zeros + 1
        if start == bytes(len(start)) and zeros < HOLE:
            return True
        if start[:3] != b"\0\0\1" or len(start) < 4:
            return False
        if start[3] == 0xB9:  # the end; another program may follow
            continue
        if start[3] == 0xBA:
            pack = file.read(1)
            if pack and pack[0] >> 6 == 1:  # MPEG-2
                stuffing = file.read(9)
                file.seek(stuffing[8] & 7 if len(stuffing) == 9 else 0, os.SEEK_CUR)
            else:
                file.seek(7, os.SEEK_CUR)
        elif start[3] > 0xBA:
            file.seek(int.from_bytes(file.read(2), "big"), os.SEEK_CUR)
        else:
            return False
    return file.tell() == size


def _transport(file: BinaryIO, stamp: int) -> bool:
    """Packets with their sync byte, whose counters go on; of a camcorder with a ``stamp`` before each."""
    counters: Dict[int, int] = {}
    while True:
        packet = file.read(stamp + PACKET)[stamp:]
        if not packet:
            return True
        if len(packet) < PACKET or packet[0] != 0x47:
            return False
        stream, counter = (packet[1] & 0x1F) << 8 | packet[2], packet[3] & 15
        if stream == NO_STREAM or not packet[3] & 0x10:
            continue
        restarts = packet[3] & 0x20 and packet[4] and packet[5] & 0x80 or not counter  # or files in a row
        last = counters.get(stream, counter)
        if counter not in (last, (last + 1) % 16) and not restarts:
            return False
        counters[stream] = counter


def shown_seconds(path: Optional[Path], head: bytes) -> Optional[float]:
    """Of an MP4 whose edit list hides frames: how long the rest is. None where it hides none."""
    moov = _moov(path, head)
    for trak in _boxes(moov, b"trak"):
        media = _box(trak, b"mdia")
        if _box(media, b"hdlr")[8:12] == b"vide":
            try:
                return _shown(_box(moov, b"mvhd"), media, _box(_box(trak, b"edts"), b"elst"))
            except (struct.error, ZeroDivisionError):
                return None
    return None


def _shown(mvhd: bytes, media: bytes, edits: bytes) -> Optional[float]:
    if not edits:
        return None
    movie_rate, _ = _clock(mvhd)
    rate, length = _clock(_box(media, b"mdhd"))
    table = _box(_box(media, b"minf"), b"stbl")
    samples = struct.unpack_from(">I", _box(table, b"stsz"), 8)[0]
    ctts = _box(table, b"ctts")
    delay = struct.unpack_from(">i", ctts, 12)[0] if ctts else 0
    (count,) = struct.unpack_from(">I", edits, 4)
    form, width = (">qq", 20) if edits[0] else (">ii", 12)
    found = [struct.unpack_from(form, edits, 8 + width * number) for number in range(count)]
    shown = [(span / movie_rate, begin) for span, begin in found if begin >= 0]
    seconds, step = sum(span for span, _ in shown), length / rate / samples
    late = max((begin - delay for _, begin in shown), default=0) / rate
    return seconds if late > step / 2 or length / rate - seconds > step / 2 and seconds else None


def _clock(header: bytes) -> Tuple[int, int]:
    """Ticks a second, and the length in ticks."""
    form, place = (">IQ", 20) if header[:1] == b"\1" else (">II", 12)
    rate, length = struct.unpack_from(form, header, place)
    return int(rate), int(length)


def _moov(path: Optional[Path], head: bytes) -> bytes:
    """The header of an MP4, which may lie at its end."""
    if path is None:
        return _box(head, b"moov")
    try:
        with open(path, "rb") as file:
            while True:
                start = file.read(8)
                if len(start) < 8:
                    return b""
                length, taken = int.from_bytes(start[:4], "big"), 8
                if length == 1:
                    length, taken = int.from_bytes(file.read(8), "big"), 16
                if start[4:] == b"moov":
                    return file.read(min(length - taken, LARGEST))
                if length < taken:
                    return b""
                file.seek(length - taken, os.SEEK_CUR)
    except (OSError, OverflowError, ValueError):
        return b""


def _boxes(data: bytes, name: bytes) -> List[bytes]:
    found, place = [], 0
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if length < 8:
            break
        if data[place + 4 : place + 8] == name:
            found.append(data[place + 8 : place + length])
        place += length
    return found


def _box(data: bytes, name: bytes) -> bytes:
    """The first box of that name; empty where there is none."""
    return next(iter(_boxes(data, name)), b"")
