"""Short texts: messages of one line, addresses without their password."""

from __future__ import annotations

import re


def one_line(text: object, limit: int = 160) -> str:
    """A library's message cut to one line of ours."""
    return " ".join(str(text).split())[:limit]


def printable(text: str) -> str:
    """The text with "?" for control characters, which a terminal would obey, and for what no encoding has."""
    return "".join(one if one.isprintable() else "?" for one in text)


def without_password(address: str) -> str:
    """An address as it may be shown: what stands before an ``@`` in ``scheme://user:password@host`` goes, of
    every address in a pipeline, and what parameters called password hold."""
    address = re.sub(r"""\b(user-pw\s*=\s*)("[^"]*"|'[^']*'|\S+)""", r"\1...", address)  # of GStreamer
    address = re.sub(r"(?i)([?&](?:pwd|pass|passwd|password|token)=)[^&\s]*", r"\1...", address)
    return re.sub(r"(://)(\S+)", lambda found: found[1] + _without_user(found[2]), address)


def _without_user(rest: str) -> str:
    """What stands behind ``://``. A host's colon has a port behind it: else it is a password's, and a slash
    may be in that."""
    host, slash, path = rest.partition("/")
    if "@" not in host and "@" in path and not re.fullmatch(r"[^:]*(:\d*)?|\[.*\](:\d*)?", host):
        return rest.rpartition("@")[2]
    return f"{host.rpartition('@')[2]}{slash}{path}"
