"""The parts of a ``multipart/x-mixed-replace`` answer, as network cameras send pictures."""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterator, Optional

from ssn_edge.errors import InputError
from ssn_edge.sources import mjpeg
from ssn_edge.sources.mjpeg import LARGEST

BLOCK = 1 << 16

LONGEST_LINE = 1 << 14
"""Bytes of a part's header line."""


LINE = re.compile(rb"(?:^|\n)-{2,}([^\r\n]*[^-\s])[ \t]*\r?\n(?=[A-Za-z-]+:|\r?\n)")
"""What looks like a boundary with a part's headers behind it."""

SHORT = 4
"""A boundary of fewer characters may be in a picture by chance, unless it begins a line."""


class _Buffer:
    """What was read and not yet taken."""

    def __init__(self, read: Callable[[int], bytes]):
        self._read, self._ended, self.data = read, False, bytearray()

    def more(self) -> bool:
        """One block more; False at the end."""
        if len(self.data) > LARGEST:
            raise InputError(f"a part of more than {LARGEST >> 20} MB; check that this is a camera")
        block = b"" if self._ended else self._read(BLOCK)
        self._ended = not block
        self.data += block
        return bool(block)

    def take(self, count: int) -> bytes:
        """The first bytes, which go."""
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken

    def line(self) -> Optional[bytes]:
        """Up to a line's end; None at the end of the data."""
        while b"\n" not in self.data:
            if len(self.data) > LONGEST_LINE or not self.more():
                return None
        return self.take(self.data.index(b"\n") + 1).strip()


def parts(read: Callable[[int], bytes], boundary: Optional[str]) -> Iterator[bytes]:
    """Bodies of the parts, text left out. A part ends with its length, or where the next boundary comes
    before that: so a camera that sends half of a picture costs that picture alone. An empty part is a body
    without bytes. Where the answer uses another ``boundary`` than its header names, that one is taken, and
    where it uses none, every JPEG is a part."""
    buffer = _Buffer(read)
    delimiter = _delimiter(buffer, boundary)
    if delimiter is None:
        yield from mjpeg.split(lambda count: buffer.take(count) if buffer.data or buffer.more() else b"")
        return
    while _skip_to(buffer, delimiter):
        headers = _headers(buffer)
        if headers is None:
            return
        length = headers.get("content-length", "")
        known = length.isdigit() and len(length) < 10 and int(length) > 0  # 0 is what some say of any part
        body = _body(buffer, delimiter, int(length) if known else None)
        if (body or headers) and not headers.get("content-type", "").startswith("text/"):
            yield body


def _delimiter(buffer: _Buffer, boundary: Optional[str]) -> Optional[re.Pattern[bytes]]:
    """What stands between parts; None where a JPEG comes before it."""
    named = boundary and _pattern((boundary.lstrip("-") or boundary).encode("latin-1", "replace"))
    while True:
        found = LINE.search(buffer.data)
        start = buffer.data.find(mjpeg.START)
        if named and named.search(buffer.data):
            return named
        if found and not 0 <= start < found.start():
            return _pattern(found[1])
        if start >= 0:
            return None
        buffer.take(max(0, len(buffer.data) - LONGEST_LINE))
        if not buffer.more():
            return named or None


def _pattern(name: bytes) -> re.Pattern[bytes]:
    before = rb"(?:\r?\n)?" if len(name) >= SHORT else rb"(?:^|\r?\n|(?<=\xff\xd9))"
    return re.compile(before + b"-{2,}" + re.escape(name) + rb"(?:--|[ \t]*\r?\n)")


def _skip_to(buffer: _Buffer, delimiter: re.Pattern[bytes]) -> bool:
    """Take everything up to the next boundary, and it too; False at the last one, and at the end."""
    while True:
        found = delimiter.search(buffer.data)
        if found:
            return not buffer.take(found.end()).endswith(b"--")
        buffer.take(max(0, len(buffer.data) - LONGEST_LINE))  # nothing is kept that no boundary is in
        if not buffer.more():
            return False


def _headers(buffer: _Buffer) -> Optional[Dict[str, str]]:
    found: Dict[str, str] = {}
    while True:
        line = buffer.line()
        if not line:
            return None if line is None else found
        name, _, value = line.decode("latin-1").partition(":")
        found[name.strip().lower()] = value.strip()


def _body(buffer: _Buffer, delimiter: re.Pattern[bytes], length: Optional[int]) -> bytes:
    looked = 0
    while True:
        found = delimiter.search(buffer.data, looked)
        if found and (length is None or found.start() < length):
            return buffer.take(found.start())
        if length is not None and len(buffer.data) >= length:
            return buffer.take(length)
        looked = max(0, len(buffer.data) - LONGEST_LINE)
        if not buffer.more():
            return buffer.take(len(buffer.data))
