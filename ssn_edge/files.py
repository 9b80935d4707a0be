"""Files that are whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Union

from ssn_edge.errors import InputError, ModelError

PathLike = Union[str, Path]

LONGEST_BESIDE = 40
"""Bytes of a file's name that its temporary one has too: that one must not be the longer of the two."""


class NameTooLong(InputError):
    """A file's name that its file system does not take."""


def failed(path: PathLike, error: OSError, remedy: str) -> InputError:
    """What is said where ``path`` could not be written."""
    if error.errno == errno.ENAMETOOLONG:
        name = Path(path).name
        shown = name if len(name) <= LONGEST_BESIDE else f"{name[:LONGEST_BESIDE]}..."
        count = len(os.fsencode(name))
        return NameTooLong(f"{shown}: a name of {count} bytes is too long; give a shorter one")
    return InputError(f"{path}: {remedy.format(error.strerror)}")


UMASK = os.umask(0o077)
"""The process's, read once: asking means setting it, which two threads must not do at a time."""
os.umask(UMASK)


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """A temporary path beside ``path`` (same suffix) that takes its place on success.

    Any exception, a full disk included, removes the temporary file and leaves what was there.
    Raises InputError if the folder cannot be written to.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        yield temporary
        put_in_place(temporary, path)
    except OSError as error:
        raise failed(path, error, "not written ({}); free some space or choose another place") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def check_writable(path: PathLike) -> None:
    """InputError if :func:`replacing` could not write there: asked before minutes of work."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file's name")
    temporary_beside(path).unlink()


def temporary_beside(path: Path) -> Path:
    """A new empty file beside ``path``, whose folder is made; InputError if that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stem = os.fsencode(path.stem)[:LONGEST_BESIDE].decode(errors="ignore")
        suffix = path.suffix if len(os.fsencode(path.suffix)) <= LONGEST_BESIDE else ""
        handle, name = tempfile.mkstemp(suffix=suffix, prefix=f".{stem}-", dir=path.parent)
    except OSError as error:
        raise failed(path, error, "cannot be written ({}); choose a folder that you can write to") from None
    os.close(handle)
    return Path(name)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file of :func:`temporary_beside`, with the rights that a new file has."""
    temporary.chmod(0o666 & ~UMASK)
    os.replace(temporary, path)


def write_json(path: PathLike, document: Any) -> None:
    """Indented UTF-8 JSON; NaN becomes null, since JSON has none."""
    with replacing(path) as temporary:
        text = json.dumps(finite(document), indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """A JSON document with null for NaN and infinities."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not (abs(value) < float("inf")):
        return None
    return value


def read_bounded(path: PathLike, most: int, what: str) -> bytes:
    """A file's content. InputError for one that cannot be read, and for more than ``most`` bytes, which is
    not ``what``."""
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if len(data) > most:
        raise InputError(f"{path}: more than {most >> 20} MiB; not {what}")
    return data


def open_plain(path: PathLike) -> BinaryIO:
    """A file opened for reading that is no symlink, device or pipe; ModelError for those, and where it is
    missing or cannot be read."""
    # Without O_NONBLOCK a pipe would hold the caller until somebody writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise ModelError(f"{path}: a symlink, which is not followed; put the file itself there")
        handle = os.open(str(path), flags | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); copy it again") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ModelError(f"{path}: not a plain file; copy it again")
    return os.fdopen(handle, "rb")


def sha256(path: PathLike) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as file:
        return digest_of(file)


def digest_of(file: BinaryIO) -> str:
    """Hex digest of what is left to read."""
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


def check_sha256(name: PathLike, found: str, expected: str) -> None:
    """ModelError unless a file has the digest that its user expects."""
    if found != expected.strip().lower():
        raise ModelError(
            f"{name}: its sha256 is {found[:12]}..., not the {expected.strip()[:12]}... given; do not run "
            "it, copy it again from where it was built"
        )
