"""Short texts: messages of one line, numbers that a user typed, addresses without their password."""

from __future__ import annotations

import re
from typing import Optional


def one_line(text: object, limit: int = 160) -> str:
    """A library's message cut to one line of ours."""
    return " ".join(str(text).split())[:limit]


def is_number(text: str) -> bool:
    """Whether it is a whole number of up to nine of the digits 0 to 9, which fits a C int. ``isdigit`` alone
    takes a "²" too, and ``isdecimal`` other alphabets' digits."""
    return text.isascii() and text.isdigit() and len(text) < 10


def whole_number(text: str) -> Optional[int]:
    """The number that the text is, spaces around it apart; None unless :func:`is_number`."""
    text = text.strip()
    return int(text) if is_number(text) else None


def without_password(address: str) -> str:
    """An address as it may be shown: what stands before an ``@`` in ``scheme://user:password@host`` goes."""
    address = re.sub(r"\b(user-pw=)\S+", r"\1...", address)  # of a GStreamer pipeline
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if separator else address
