"""What can go wrong, as one tree:

    SsnEdgeError
     |- InputError     a file, folder, frame, camera or option that cannot be used
     |- ModelError     a model file or checkpoint that cannot be used
     |   `- VersionError    of another schema than this ssn-edge reads
     `- BackendError   an inference library that is missing or failed

Every message is one line: what it is about, the value found, and the remedy.
"""

from __future__ import annotations

import contextlib
import re
from typing import Iterator, Optional


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


class SsnEdgeError(Exception):
    """Base of all errors that ssn-edge raises on purpose."""


class InputError(SsnEdgeError):
    """An image, folder, frame, camera or option that cannot be used."""


class ModelError(SsnEdgeError):
    """A model file or checkpoint that is damaged, foreign or of another schema."""


class VersionError(ModelError):
    """A document whose major version this ssn-edge does not read."""


class BackendError(SsnEdgeError):
    """An inference library that is not installed, does not know the model, or failed."""


@contextlib.contextmanager
def needs(extra: str, what: str = "") -> Iterator[None]:
    """Around imports that not every machine can do: BackendError names the module that is missing, and the
    extra that brings it. ``what`` says what it is needed for.
    """
    try:
        yield
    except ImportError as error:
        module = (error.name or "a library").partition(".")[0]
        if module.startswith("ssn_"):
            raise  # ours, and no one's to install
        missing = isinstance(error, ModuleNotFoundError)
        problem = "is missing" if missing else f"cannot be loaded ({one_line(error)})"
        raise BackendError(
            f'{what}{": " if what else ""}{module} {problem}; run: pip install "ssn-edge[{extra}]"'
        ) from None
