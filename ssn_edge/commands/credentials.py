"""Passwords and tokens from the environment or a file, since every user of a machine sees command lines."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Callable, Tuple
from urllib.parse import urlsplit

from ssn_edge.errors import InputError

FILE_LIMIT = 4096
"""Bytes that are read of a file: a password is a line."""

PASSWORD = re.compile(r"://[^/\s@]*:[^/\s]*@|\buser-pw=")
"""In an address, and in a GStreamer pipeline."""


def given(option: str, text: str, warn: Callable[[str], object]) -> Tuple[str, bool]:
    """What an option is, and whether the command line hides it: ``env:NAME`` is that variable's value,
    ``@FILE`` the file's first line, anything else itself.

    ``warn(line)`` is told of a file that everybody can read. No message has the value. InputError
    where it is missing, empty or longer than 4 kB.
    """
    if text.startswith("env:"):
        value = os.environ.get(text[4:], "")
        if not value:
            raise InputError(f"{option} {text}: this environment variable is not set, or empty; export it")
        return value, True
    if text.startswith("@"):
        return _first_line(option, Path(text[1:]), warn), True
    return text, False


def address(option: str, text: str, warn: Callable[[str], object]) -> str:
    """:func:`given` where it is an address that may have a password; ``warn`` is told of one in plain."""
    value, hidden = given(option, text, warn)
    if hidden and not _showable(value):
        raise InputError(
            f"{option} {text}: holds no address as rtsp://user:password@host/stream (in a password / is %2F)"
        )
    if not hidden and PASSWORD.search(text):
        warn(plain(option))
    return value


def plain(option: str) -> str:
    """The hint for a password that stands on the command line itself."""
    return f"hint: {option}: every user of this machine sees it in the process list; give env:NAME or @FILE"


def _showable(value: str) -> bool:
    """Whether messages that show an address without its password find that in it."""
    host = value.partition("://")[2].partition("/")[0]
    try:
        return " ! " in value or bool(host) and ("@" in host or urlsplit(value).port != -1)
    except ValueError:  # user:pass, where the password goes on behind a slash
        return False


def _first_line(option: str, path: Path, warn: Callable[[str], object]) -> str:
    name = f"{option} @{path}"
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(FILE_LIMIT + 1)
        line = data.splitlines()[0].decode() if data else ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"{name}: cannot be read ({reason}); give a file with one line") from None
    if not line.isprintable() or not line or len(line.encode()) > FILE_LIMIT:
        raise InputError(f"{name}: its first line is no text of 1 to {FILE_LIMIT} bytes; write it there")
    if stat.S_ISREG(mode) and mode & stat.S_IROTH and os.name != "nt":
        warn(f"warning: {name}: every user of this machine can read it; chmod 600 {path}")
    return line
