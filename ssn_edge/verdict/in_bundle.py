"""The calibrations of a bundle: which there are, which is in use; adding one, using another, going back."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Callable, ContextManager, Dict, List, NamedTuple, Optional, Sequence

from ssn_edge.errors import InputError, ModelError
from ssn_edge.files import check_sha256, open_plain
from ssn_edge.frames.placement import View
from ssn_edge.model import bundle, bundle_writer
from ssn_edge.model.bundle import LABEL, Bundle, Entry
from ssn_edge.model.bundle_writer import BundleWriter, Content
from ssn_edge.model.schema import ModelInfo, Verdict
from ssn_edge.text import one_line
from ssn_edge.verdict import calibration
from ssn_edge.verdict.calibration import TRAINING, Calibration
from ssn_edge.verdict.promise import Promise

Log = Callable[[str], object]

MOST_HISTORY = 1000
"""Steps that ``undo`` can go back."""


class InUse(NamedTuple):
    """A calibration, and why its promise does not hold for what runs, or ""."""

    calibration: Calibration
    misfit: str

    @property
    def verdict(self) -> Verdict:
        """The calibration's, with words that say so where its promise does not hold."""
        verdict = self.calibration.verdict
        if not self.misfit:
            return verdict
        return dataclasses.replace(verdict, method=f"no promise: {self.misfit}; run ssn-calibrate")


def read_all(found: Bundle, name: Optional[str] = None) -> List[Calibration]:
    """All of them, or those of one name (one a file that it was made on), oldest first. ModelError for a
    damaged one."""
    return [_read(found, one) for one in found.of_role("calibration") if name in (None, one.label)]


def _read(found: Bundle, entry: Entry) -> Calibration:
    path = found.place(entry)
    with open_plain(path) as file:
        data = file.read(calibration.MOST_BYTES)
    check_sha256(path, hashlib.sha256(data).hexdigest(), entry.sha256)
    one = calibration.from_text(data.decode("utf-8", "replace"), str(path))
    if one.name != entry.label:
        raise ModelError(f"{path}: is {one.name}, the manifest says {entry.label}; copy the bundle again")
    return one


def in_use(
    found: Bundle, precision: str, library: str, sha256: str, view: View, name: Optional[str] = None
) -> Optional[InUse]:
    """The calibration ``name``, or that in use, for the file ``sha256`` run by ``library``: the one of it
    that was made on that, else its first, with what does not fit. None where the bundle has none."""
    if name is None:
        if not found.history:
            return None
        name = found.history[-1]
    records = [InUse(one, one.misfit(precision, library, sha256, view)) for one in read_all(found, name)]
    if not records:
        raise InputError(f"{found.path}: no calibration {name}, but {_names(found)}")
    if name in found.history[-1:] and records[0].calibration.verdict != found.model.verdict:
        raise ModelError(f"{found.path}: its verdict is not that of its calibration {name}; copy it again")
    return next((one for one in records if not one.misfit), records[0])


def judged_by(info: ModelInfo, found: InUse) -> ModelInfo:
    """The model with the calibration's verdict, whose words say whether its promise holds here."""
    return dataclasses.replace(info, verdict=found.verdict, calibration=found.calibration.name)


def _names(found: Bundle) -> str:
    labels = dict.fromkeys(one.label for one in found.of_role("calibration"))
    return ", ".join(labels) or "none at all"


def add(path: Path, one: Calibration, log: Log = print, made_on: Optional[ModelInfo] = None) -> None:
    """Write a calibration into the bundle and use it; all earlier ones stay. InputError for a name that is
    taken for the same file, and where the bundle is not that of ``made_on``, the model that was watched."""
    with _writing(path, log) as writer:
        found = bundle.read(path)
        _check_same(found, one, made_on)
        others = check_free(found, one.name, one.precision, one.library, one.sha256)
        entries = [] if found.of_role("calibration") else [_add(writer, _of_export(found))]
        history = [entry.label for entry in entries] + list(found.history)
        if history[-1:] != [one.name]:
            history.append(one.name)
        _use(writer, found, [*entries, _add(writer, one)], history, [*others, one][0])


def _check_same(found: Bundle, one: Calibration, made_on: Optional[ModelInfo]) -> None:
    """The scores are those of one network, and but in float32 of one file."""
    same = made_on is None or found.model.same_network(made_on)
    if made_on is not None and one.precision != "float32":
        same = same and one.sha256 in {entry.sha256 for entry in found.entries}
    if not same:
        raise InputError(f"{found.path}: was replaced by another model meanwhile; calibrate that one")


def check_free(
    found: Bundle, name: str, precision: str, library: str, sha256: str
) -> List[Calibration]:
    """Those of that name, on other files; InputError where the name is taken for this one, or is none."""
    if not LABEL.fullmatch(name):
        raise InputError(f"--name {one_line(name, 40)}: give up to 64 letters, digits and . _ -, no blanks")
    if name == TRAINING:
        raise InputError(f"--name {name}: is that of ssn-train's own; give another")
    others = read_all(found, name)
    for other in others:
        if not other.misfit(precision, library, sha256, other.view):
            raise InputError(f"--name {name}: {found.path} has one of that name; give another")
    return others


def use(path: Path, name: str, log: Log = print) -> Calibration:
    """Use an earlier calibration again."""
    with _writing(path, log) as writer:
        found = bundle.read(path)
        records = read_all(found, name)
        if not records:
            raise InputError(f"--use {name}: no such calibration in {path}, but {_names(found)}")
        if found.history[-1:] != (name,):
            _use(writer, found, [], [*found.history, name], records[0])
    return records[0]


def undo(path: Path, log: Log = print) -> Calibration:
    """Use the one that was used before; the last stays in the bundle."""
    with _writing(path, log) as writer:
        found = bundle.read(path)
        if len(found.history) < 2:
            used = "".join(found.history) or "the export's thresholds"
            raise InputError(f"--undo: {path} has used {used} alone; there is nothing before it")
        one = read_all(found, found.history[-2])[0]
        _use(writer, found, [], found.history[:-1], one)
    return one


def check_room(path: Path, written: bool = True) -> None:
    """InputError where no calibration could be added, asked before anything is watched; whether the bundle
    can be written only if it is to be."""
    found = _read_open(path)
    if len(found.entries) > bundle.MOST_FILES - 2:
        count = len(found.entries)
        raise InputError(f"{path}: has {count} files, as many as a bundle may; export it to another name")
    if written:
        with bundle_writer.writing(path, lambda line: None):
            pass


def _writing(path: Path, log: Log) -> ContextManager[BundleWriter]:
    _read_open(path)  # what is none is not made one
    return bundle_writer.writing(path, log)


def _read_open(path: Path) -> Bundle:
    """The bundle; InputError where calibrations do not reach its thresholds."""
    found = bundle.read(path)
    if found.model.verdict_inside:
        raise InputError(
            f"{path}: its graphs have thresholds inside, which a calibration does not reach; export it again "
            "without --verdict"
        )
    return found


def _use(
    writer: BundleWriter, found: Bundle, entries: Sequence[Entry], history: Sequence[str], one: Calibration
) -> None:
    """The manifest's model has the verdict in use: who reads no calibrations judges by no other."""
    model: Dict[str, object] = {**found.document["model"]}
    model["verdict"] = calibration.to_document(one)["verdict"]
    writer.commit_more(entries, history=list(history)[-MOST_HISTORY:], model=model)


def _add(writer: BundleWriter, one: Calibration) -> Entry:
    return writer.add(content(one))


def content(one: Calibration) -> Content:
    """Its file in a bundle."""
    text = calibration.to_text(one)
    return Content(
        "calibration", lambda place: place.write_text(text, encoding="utf-8"), one.precision, label=one.name
    )


def _of_export(found: Bundle) -> Calibration:
    """What a bundle says that has no calibrations yet: thresholds, and no numbers."""
    verdict = found.model.verdict
    return Calibration(
        TRAINING, verdict, Promise(max(verdict.n, 1), 1), (), "none",
        source="from before calibrations were kept",
    )
