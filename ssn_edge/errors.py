"""What can go wrong, as one tree:

    SsnEdgeError
     |- InputError     a file, folder, frame, camera or option that cannot be used
     |- ModelError     a model file or checkpoint that cannot be used
     `- BackendError   an inference library that is missing or failed

Every message is one line: what it is about, the value found, and the remedy.
"""

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


class SsnEdgeError(Exception):
    """Base of all errors that ssn-edge raises on purpose."""


class InputError(SsnEdgeError):
    """An image, folder, frame, camera or option that cannot be used."""


class ModelError(SsnEdgeError):
    """A model file or checkpoint that is damaged, foreign or of another schema."""


class BackendError(SsnEdgeError):
    """An inference library that is not installed, does not know the model, or failed."""
