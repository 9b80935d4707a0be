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
from typing import Iterator

from ssn_edge.text import one_line


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
