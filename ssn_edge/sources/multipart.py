"""The parts of a ``multipart/x-mixed-replace`` answer, as network cameras send pictures."""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterator, Optional

from ssn_edge.errors import InputError
from ssn_edge.sources.mjpeg import LARGEST

BLOCK = 1 << 16

LONGEST_LINE = 1 << 14
"""Bytes of a part's header line."""


class _Buffer:
    """What was read and not yet taken."""

    def __init__(self, read: Callable[[int], bytes]):
        self._read, self.data = read, bytearray()

    def more(self) -> bool:
        """One block more; False at the end."""
        if len(self.data) > LARGEST:
            raise InputError(f"a part of more than {LARGEST >> 20} MB; check that this is a camera")
        block = self._read(BLOCK)
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


def parts(read: Callable[[int], bytes], boundary: str) -> Iterator[bytes]:
    """Bodies of the parts, text left out. A part ends with its length, or where the next boundary comes
    before that: so a camera that sends half of a picture costs that picture alone."""
    name = re.escape((boundary.lstrip("-") or boundary).encode("latin-1", "replace"))
    delimiter = re.compile(rb"(?:^|\r?\n)-{2,}" + name + rb"(?:--|[ \t]*\r?\n)")
    buffer = _Buffer(read)
    while _skip_to(buffer, delimiter):
        headers = _headers(buffer)
        if headers is None:
            return
        length = headers.get("content-length", "")
        body = _body(buffer, delimiter, int(length) if length.isdigit() and len(length) < 10 else None)
        if body and not headers.get("content-type", "").startswith("text/"):
            yield body


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
