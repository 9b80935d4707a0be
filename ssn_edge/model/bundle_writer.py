"""Writing a bundle: content files first, then the manifest that names them, in one step.

A reader sees the old manifest or the new one, and each names files that are whole and stay. Nothing is
overwritten: a content file is named by its digest, and what no manifest names any more is removed by the next
writer, once no reader can be about to open it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from ssn_edge.errors import InputError, ModelError, VersionError
from ssn_edge.files import UMASK, sha256
from ssn_edge.model import bundle
from ssn_edge.model.bundle import MANIFEST, Bundle, Entry
from ssn_edge.model.engine_file import CACHE_SUFFIX, EngineInfo
from ssn_edge.model.lock import LOCK, locked
from ssn_edge.model.schema import SCHEMA, ModelInfo
from ssn_edge.text import one_line

Log = Callable[[str], object]

NEW = ".new-"
"""How names of files begin that are being written."""

GRACE_S = 3600.0
"""How long a file stays that no manifest names any more: a reader may have read the manifest before."""

MINOR = 2
"""Raised with every field that is added; :data:`ssn_edge.model.schema.SCHEMA` when a meaning changes."""


@dataclass(frozen=True)
class Content:
    """A file to be added: ``write`` is given the path to write it to."""

    role: str
    write: Callable[[Path], object]
    precision: str = ""
    plan: str = ""
    engine: Optional[EngineInfo] = None
    measured: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    label: str = ""
    target: str = ""


@contextlib.contextmanager
def writing(path: Path, log: Log = print) -> Iterator[BundleWriter]:
    """The one writer of the bundle ``path`` until the block ends. What it added and did not commit goes.

    Raises InputError where another process writes it, where there is something else, or where nothing can
    be written.
    """
    if path.suffix != bundle.SUFFIX:
        raise InputError(f"{path}: give a name that ends in {bundle.SUFFIX}")
    path = path.resolve() if path.is_symlink() else path  # the folder may be linked to, nothing in it
    made = _make_folder(path)
    with contextlib.ExitStack() as held:
        if made:
            held.callback(_remove_if_empty, path)
        with _told(path):
            held.enter_context(locked(path, log))
            if made:  # still under the lock, which another would take meanwhile
                held.callback(_remove_notes, path)
            writer = BundleWriter(path, log)
        held.callback(writer.drop_uncommitted)
        yield writer


def _make_folder(path: Path) -> bool:
    """Whether it was made now. InputError if it cannot be, or is there and no bundle."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return True
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose a folder that you can write to"
        ) from None
    if not path.is_dir():
        raise InputError(f"{path}: is a file; remove it, or choose another name")
    foreign = [name for name in os.listdir(path) if not _ours(name)]
    if foreign and not os.path.lexists(path / MANIFEST):
        raise InputError(
            f"{path}: is a folder with other files ({one_line(foreign[0], 60)}); choose another name"
        )
    return False


def _ours(name: str) -> bool:
    known = name in (LOCK, MANIFEST) or name.startswith((NEW, bundle.CHECKED))
    return known or bool(bundle.NAME.fullmatch(name))


def _remove_notes(path: Path) -> None:
    """What is left of a folder that did not become a bundle."""
    with contextlib.suppress(OSError):
        if not os.path.lexists(path / MANIFEST):
            for name in os.listdir(path):
                if name == LOCK or name.startswith(bundle.CHECKED):
                    os.unlink(path / name)


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()


@contextlib.contextmanager
def _told(path: Path, committed: Optional[bytes] = None) -> Iterator[None]:
    """What the system refuses, as one line that says what became of the bundle; ``committed`` is the manifest
    that may have been put in place."""
    try:
        yield
    except OSError as error:
        state = "is as it was" if os.path.lexists(path / MANIFEST) else "was not made"
        if committed is not None and _is_there(path, committed):
            state = "is the new one"  # renamed, and the answer was lost
        raise InputError(
            f"{path}: not written ({error.strerror or error}); the bundle {state}; free some space, or "
            "choose a place that you can write to"
        ) from None


def _is_there(path: Path, manifest: bytes) -> bool:
    with contextlib.suppress(OSError):
        return (path / MANIFEST).read_bytes() == manifest
    return False


class BundleWriter:
    """What :func:`writing` gives. ``current`` is the bundle that is there; None for none, or a damaged one,
    of which ``problem`` says what is wrong."""

    def __init__(self, path: Path, log: Log):
        self._path, self._log = path, log
        self._added: List[str] = []
        self.current: Optional[Bundle] = None
        self.problem: Optional[ModelError] = None
        if os.path.lexists(path / MANIFEST):
            try:
                self.current = bundle.read(path)
            except VersionError as error:  # not ours to replace
                reason = str(error).partition(";")[0]
                raise InputError(f"{reason}; give another name, or remove it") from None
            except ModelError as error:
                self.problem = error
        self._clean()

    def _clean(self) -> None:
        """Remove what dead writers left, and what no manifest names, once it has been so for a while."""
        now, count, freed = time.time(), 0, 0
        named = self._named()
        for name in os.listdir(self._path):
            path = self._path / name
            unnamed = bundle.NAME.fullmatch(name) and name not in named and self.problem is None
            rest = name.startswith(bundle.CHECKED) and name != bundle.CHECKED
            rest = rest or name.endswith(CACHE_SUFFIX) and not any(
                name.startswith(f".{Path(one).stem}-") for one in named
            )
            with contextlib.suppress(FileNotFoundError):  # a reader's note has just got its name
                state = os.lstat(path)
                old = now - state.st_mtime > GRACE_S
                if name.startswith(NEW) or old and (unnamed or rest):
                    path.unlink()
                    count, freed = count + 1, freed + state.st_size
        if count:
            self._log(f"{self._path}: removed {count} files that nothing names ({freed / 1e6:.1f} MB)")

    def add(self, content: Content) -> Entry:
        """Write a content file, synced, under its final name; no reader knows of it before the commit."""
        suffix = bundle.ROLES[content.role].suffix
        temporary = self._path / f"{NEW}{content.role}{suffix}"
        with _told(self._path), _gone_after(temporary):
            content.write(temporary)
            _sync(temporary)
            digest, size = sha256(temporary), temporary.stat().st_size
            name = self._name(content.role, digest, suffix)
            place = self._path / name
            if not (_is_plain(place) and sha256(place) == digest):
                temporary.chmod(0o666 & ~UMASK)
                os.replace(temporary, place)
            if name not in self._named():
                self._added.append(name)
        return Entry(
            name, content.role, digest, size, content.precision, content.plan, content.engine,
            content.measured, content.label, content.target,
        )

    def _name(self, role: str, digest: str, suffix: str) -> str:
        """With as much of the digest as no other file in use begins with."""
        short, full = (f"{role}-{digest[:length]}{suffix}" for length in (8, 64))
        return short if self._named().get(short, digest) == digest else full

    def _named(self) -> Dict[str, str]:
        """The digests by name of the files in use."""
        return {one.name: one.sha256 for one in self.current.entries} if self.current else {}

    def replace(self, model: ModelInfo, contents: Sequence[Content]) -> Bundle:
        """Commit ``contents`` in place of what there is. Engines of the same graphs stay, and of the same
        model calibrations, with the one that is in use; others are told."""
        old, model = self.current, model.core()
        same = old is not None and old.model.same_network(model)
        if self.problem is not None:
            self._log(f"in place of a bundle that does not open: {self.problem}")
        elif old is not None and not same:
            self._log(f"in place of another model (checkpoint {old.model.checkpoint_sha256[:12]}...)")
        entries = [self.add(content) for content in contents]
        graphs, own = {entry.sha256 for entry in entries}, {entry.name for entry in entries}
        labels = [entry.label for entry in entries if entry.role == "calibration"]
        for entry in old.entries if old is not None else ():
            if entry.name in own or entry.role not in ("engine", "calibration") or entry.label in labels:
                continue
            if same and (entry.engine is None or entry.engine.onnx_sha256 in graphs):
                entries.append(entry)
            elif entry.engine is not None:
                self._log(f"without {entry.name}, an engine of another graph; build one with --engine")
            else:
                self._log(f"without the calibration {entry.label}, of another model; run ssn-calibrate")
        history = labels
        if same and old is not None and old.history:
            history, model = list(old.history), old.model
        return self.commit(model, entries, history)

    def commit(self, model: ModelInfo, entries: Sequence[Entry], history: Sequence[str] = ()) -> Bundle:
        """Replace the manifest by one of ``model`` and ``entries``, whole, and return the bundle."""
        return self._replace({
            "schema": SCHEMA, "minor": MINOR, "model": bundle.model_document(model),
            "files": [bundle.entry_document(entry) for entry in entries],
            **({"history": list(history)} if history else {}),
        })

    def commit_more(
        self, entries: Sequence[Entry], without: Sequence[Entry] = (), **fields: Any
    ) -> Bundle:
        """Add entries to the manifest that is there, in place of some, and set its ``fields``: those of later
        versions stay."""
        assert self.current is not None
        gone = {entry.name for entry in (*without, *entries)}
        kept = [one for one in self.current.document["files"] if one["name"] not in gone]
        return self._replace({
            **self.current.document, **fields, "minor": max(MINOR, self.current.document.get("minor", 0)),
            "files": [*kept, *(bundle.entry_document(entry) for entry in entries)],
        })

    def _replace(self, document: Mapping[str, Any]) -> Bundle:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        data = text.encode("utf-8")
        found = bundle.parsed(data, self._path)  # never one that no reader would take
        with _told(self._path, data):
            for name in self._named().keys() - {entry.name for entry in found.entries}:
                with contextlib.suppress(FileNotFoundError, PermissionError):  # gone, or another owner's
                    os.utime(self._path / name)  # its grace begins now
            _sync_folder(self._path)  # the content files' names before the manifest that has them
            temporary = self._path / f"{NEW}{MANIFEST}"
            with _gone_after(temporary):
                temporary.write_bytes(data)
                temporary.chmod(0o666 & ~UMASK)
                _sync(temporary)
                os.replace(temporary, self._path / MANIFEST)
        self._added, self.current, self.problem = [], found, None
        try:
            _sync_folder(self._path)
        except OSError as error:
            raise InputError(
                f"{self._path}: written, but the disk does not promise to keep it ({error.strerror}); check "
                "the disk, then write it again"
            ) from None
        return found

    def drop_uncommitted(self) -> None:
        """Remove what was added and is not named by the manifest on the disk: an error, or Ctrl-C, may come
        when that has just been put in place. Where it cannot be read nothing goes."""
        try:
            data = (self._path / MANIFEST).read_bytes()
            named = {entry.name for entry in bundle.parsed(data, self._path).entries}
        except FileNotFoundError:
            named = set()
        except (OSError, ModelError):
            return
        for name in set(self._added) - named:
            with contextlib.suppress(OSError):
                (self._path / name).unlink()


def _is_plain(path: Path) -> bool:
    return os.path.lexists(path) and stat.S_ISREG(os.lstat(path).st_mode)


@contextlib.contextmanager
def _gone_after(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """So that names survive a power cut; Windows has no such call, and some network file systems neither."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
