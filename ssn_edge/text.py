"""Short texts: messages of one line, addresses without their password."""

from __future__ import annotations

import re


def one_line(text: object, limit: int = 160) -> str:
    """A library's message cut to one line of ours."""
    return " ".join(str(text).split())[:limit]


def without_password(address: str) -> str:
    """An address as it may be shown: what stands before an ``@`` in ``scheme://user:password@host`` goes."""
    address = re.sub(r"\b(user-pw=)\S+", r"\1...", address)  # of a GStreamer pipeline
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if separator else address
