"""A model as one thing: the folder ``NAME.ssn``, read and checked. :mod:`.bundle_writer` writes it.

The folder holds plain files that never change, and ``manifest.json``, which names them and is replaced in
one step. docs/files.md has the fields, and what a later version may change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ssn_edge.errors import InputError, ModelError
from ssn_edge.files import PathLike, check_sha256, digest_of, open_plain, put_in_place
from ssn_edge.model.engine_file import EngineInfo
from ssn_edge.model.schema import ModelInfo, parse
from ssn_edge.text import one_line

SUFFIX = ".ssn"
MANIFEST = "manifest.json"
CHECKED = ".checked.json"
"""Which files had the right digest when they were last read, with what the system said of them then."""

MANIFEST_BYTES = 1 << 20
MOST_FILES = 1024
"""Calibrations are kept."""


class Role(NamedTuple):
    """What a content file is for: its suffix, and the precision that this says."""

    suffix: str
    precision: Optional[str] = None


ROLES: Dict[str, Role] = {
    "float32": Role(".onnx", "float32"),
    "half": Role(".onnx", "float16"),
    "reference": Role(".npz"),
    "engine": Role(".engine"),
    "calibration": Role(".json"),
    "graph": Role(".onnx"),
}
"""``graph`` is one for a target other than the CPU. Of a later version there may be others, which are
ignored."""

NAME = re.compile(r"[a-z][a-z0-9]{0,31}-([0-9a-f]{8,64})\.[a-z0-9]{1,16}")
"""Of a content file: its role and how its sha256 begins. No name that it fits leaves the folder."""

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of a calibration."""

TARGET = re.compile(r"[a-z][a-z0-9]{0,15}")
"""What a graph is for: ``rtx``, ``orin``."""


@dataclass(frozen=True)
class Entry:
    """One content file: ``size`` in bytes; ``label`` is a calibration's name; ``engine`` says what an engine
    was built on and for, ``measured`` what its builder found (``parity`` is empty for one that was not
    compared with the trained model). ``target`` says what a graph of the role ``graph`` is for."""

    name: str
    role: str
    sha256: str
    size: int
    precision: str = ""
    plan: str = ""
    engine: Optional[EngineInfo] = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    target: str = ""

    @property
    def verified(self) -> bool:
        """Whether it was compared with the trained model, as graphs always are."""
        return self.engine is None or bool(self.measured.get("parity"))


@dataclass(frozen=True)
class Bundle:
    """A manifest: ``model`` is what its files have in common, with the verdict in use; ``history`` are the
    names of the calibrations that were used, the last of which is. ``sha256`` is the manifest's own digest,
    which by its entries' digests stands for all files; ``document`` is what was read, with fields of later
    versions.
    """

    path: Path
    model: ModelInfo
    entries: Tuple[Entry, ...]
    sha256: str
    document: Mapping[str, Any]
    history: Tuple[str, ...] = ()

    def of_role(self, role: str) -> List[Entry]:
        """Its entries of one role."""
        return [entry for entry in self.entries if entry.role == role]

    def graphs(self) -> Dict[str, Entry]:
        """The ONNX files that any machine may run, by precision; of roles that this version knows, since
        others may be anything."""
        known = {role: kind.precision for role, kind in ROLES.items() if kind.precision is not None}
        return {known[entry.role]: entry for entry in self.entries if entry.role in known}

    def all_graphs(self) -> List[Entry]:
        """Those and the graphs for targets."""
        return [*self.graphs().values(), *self.of_role("graph")]

    def place(self, entry: Entry) -> Path:
        """An entry's path."""
        return self.path / entry.name


def is_bundle(path: PathLike) -> bool:
    """By its name, which is what every command goes by."""
    return Path(path).suffix == SUFFIX


def read(path: PathLike, sha256: Optional[str] = None) -> Bundle:
    """The bundle at ``path``; all files that its manifest names are there in the size it says.

    ``sha256`` is what the manifest must hash to. Raises InputError where there is no folder of this name,
    ModelError for a damaged or foreign one.
    """
    path = Path(path)
    if not path.is_dir():
        what = "no such model" if not os.path.lexists(path) else "not a folder, as a bundle is"
        raise InputError(f"{path}: {what}; write one with ssn-export RUN --out {path}")
    manifest = path / MANIFEST
    if not os.path.lexists(manifest):
        raise ModelError(f"{path}: no {MANIFEST} inside, so no bundle, or one whose export did not finish; "
                         "export or copy it again")
    with open_plain(manifest) as file:
        data = file.read(MANIFEST_BYTES + 1)
    if sha256 is not None:
        check_sha256(manifest, hashlib.sha256(data).hexdigest(), sha256)
    found = parsed(data, path)
    for entry in found.entries:
        _check_present(found.place(entry), entry.size)
    return found


def parsed(data: bytes, path: Path) -> Bundle:
    """A manifest's bytes, checked; ModelError says what does not fit."""
    name = str(path / MANIFEST)
    if not data:
        raise ModelError(f"{name}: empty; export or copy the bundle again")
    if len(data) > MANIFEST_BYTES:
        raise ModelError(f"{name}: larger than {MANIFEST_BYTES} bytes, so none of ours; export again")
    try:
        document = parse(data.decode("utf-8"), name)
        model = ModelInfo.from_document({**document["model"], "precision": ""}, name)
        if type(document.get("minor", 0)) is not int:
            raise ValueError(f"minor version {one_line(document['minor'], 20)}")
        files = document["files"]
        if not isinstance(files, list) or not 1 <= len(files) <= MOST_FILES:
            raise ValueError(f"files: expected 1 to {MOST_FILES}")
        entries = tuple(_entry(one, model, name) for one in files)
        if len({entry.name for entry in entries}) != len(entries):
            raise ValueError("a file is named twice")
        history = _history(document.get("history", []), entries)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{name}: does not follow its schema ({one_line(error)}); export again") from None
    return Bundle(path, model, entries, hashlib.sha256(data).hexdigest(), document, history)


def _history(found: Any, entries: Tuple[Entry, ...]) -> Tuple[str, ...]:
    labels = {entry.label for entry in entries if entry.role == "calibration"}
    if not isinstance(found, list) or not all(isinstance(name, str) and name in labels for name in found):
        raise ValueError("history: a calibration that there is none of")
    return tuple(found)


def _entry(document: Mapping[str, Any], model: ModelInfo, name: str) -> Entry:
    """One of ``files``. Raises KeyError, TypeError or ValueError for anything that does not fit."""
    file, digest, size = document["name"], document["sha256"], document["size"]
    match = NAME.fullmatch(file)
    if not match or not re.fullmatch("[0-9a-f]{64}", digest) or not digest.startswith(match.group(1)):
        raise ValueError(f"file name {one_line(file, 40)!r}: expected a role and how its sha256 begins")
    role = str(document["role"])
    if role in ROLES and not file.endswith(ROLES[role].suffix):
        raise ValueError(f"{file}: no {role}")
    if type(size) is not int or size < 0:
        raise ValueError(f"{file}: size {one_line(size, 20)}")
    precision, plan = str(document.get("precision", "")), str(document.get("plan", ""))
    engine = None
    if role == "engine":
        own = dataclasses.asdict(dataclasses.replace(model, precision=precision, plan=plan))
        engine = EngineInfo.from_document({**document["built"], "model": own}, f"{name}, {file}")
    measured = document.get("measured", {})
    if not isinstance(measured, Mapping):
        raise ValueError(f"{file}: measured")
    for key in ("parity", "layers"):
        if not isinstance(measured.get(key, {}), Mapping):
            raise ValueError(f"{file}: {key}")
    label = document.get("label", "")
    if not isinstance(label, str) or role == "calibration" and not LABEL.fullmatch(label):
        raise ValueError(f"{file}: label {one_line(label, 40)}")
    target = document.get("target", "")
    if role == "graph" and not (isinstance(target, str) and TARGET.fullmatch(target)):
        raise ValueError(f"{file}: target {one_line(target, 40)}")
    return Entry(file, role, digest, size, precision, plan, engine, measured, label, str(target))


def entry_document(entry: Entry) -> Dict[str, Any]:
    """What :func:`parsed` reads back."""
    document: Dict[str, Any] = {
        "name": entry.name, "role": entry.role, "sha256": entry.sha256, "size": entry.size,
    }
    if entry.precision:
        document.update(precision=entry.precision, plan=entry.plan)
    if entry.label:
        document["label"] = entry.label
    if entry.target:
        document["target"] = entry.target
    if entry.engine is not None:
        built = entry.engine.document()
        document["built"] = {key: value for key, value in built.items() if key not in ("model", "schema")}
        document["measured"] = dict(entry.measured)
    return document


def model_document(model: ModelInfo) -> Dict[str, Any]:
    """The manifest's ``model``."""
    document = json.loads(model.core().to_json())
    for key in ("precision", "plan", "plan_table", "parity", "float32_nodes", "calibration"):
        del document[key]
    return dict(document)


def _check_present(path: Path, size: int) -> None:
    try:
        state = os.lstat(path)
    except OSError as error:
        raise ModelError(
            f"{path}: {error.strerror}, but the manifest names it; copy the bundle again"
        ) from None
    if not stat.S_ISREG(state.st_mode):
        what = "a symlink, which is not followed" if stat.S_ISLNK(state.st_mode) else "not a plain file"
        raise ModelError(f"{path}: {what}; copy the bundle again")
    found = state.st_size
    if found != size:
        raise ModelError(
            f"{path}: {found} bytes, not the {size} that the manifest says; copy the bundle again"
        )


def check(bundle: Bundle, entry: Entry, force: bool = False) -> Path:
    """The path of a content file whose digest is the manifest's. ModelError names the file otherwise.

    A file whose size and times are those it had when it was last read is not read again, unless ``force``.
    """
    path, seen = bundle.place(entry), _seen(bundle.path)
    with open_plain(path) as file:
        now = os.fstat(file.fileno())
        state = [entry.sha256, now.st_size, now.st_mtime_ns, now.st_ctime_ns]
        if not force and seen.get(entry.name) == state:
            return path
        check_sha256(path, digest_of(file), entry.sha256)
    names = {one.name for one in bundle.entries}
    kept = {name: state for name, state in seen.items() if name in names}
    _remember(bundle.path, {**kept, entry.name: state})
    return path


def _seen(folder: Path) -> Dict[str, Any]:
    """What :func:`_remember` wrote; nothing where that cannot be read, which only costs time."""
    with contextlib.suppress(ModelError, ValueError, RecursionError), open_plain(folder / CHECKED) as file:
        found = json.loads(file.read(MANIFEST_BYTES).decode("utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _remember(folder: Path, seen: Mapping[str, Any]) -> None:
    """Best effort: a bundle on a read-only disk is read whole each time."""
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=CHECKED, dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(seen, file)
            put_in_place(Path(name), folder / CHECKED)
        except OSError:
            os.unlink(name)
