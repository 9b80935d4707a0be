"""Between a bundle and the plain files that a model was before: ``NAME.onnx``, ``NAME.fp16.onnx``,
``NAME.rtx.fp16.onnx`` for a target, ``NAME.reference.npz``, ``NAME.engine`` with its ``NAME.json``. No torch.
"""

from __future__ import annotations

import itertools
import shutil
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Tuple

import numpy as np

from ssn_edge import Detector
from ssn_edge.backends import selection
from ssn_edge.errors import InputError, ModelError
from ssn_edge.files import check_sha256, replacing, sha256, write_json
from ssn_edge.model import bundle, bundle_writer
from ssn_edge.model.bundle import Bundle
from ssn_edge.model.bundle_writer import Content, Log
from ssn_edge.model.engine_file import EngineInfo
from ssn_edge.model.onnx_metadata import read_info
from ssn_edge.model.schema import SCHEMA, ModelInfo, parse
from ssn_export.gates import parity

JSON_BYTES = 4 << 20
"""Most that is read of an engine's ``.json``."""

TARGETS = ("rtx", "orin")
"""What a set may have a graph of its own for."""

AWAY = "move it away, and pack again"

MEASURED = ("parity", "layers", "memory", "build_seconds", "warnings")
"""What is carried over of it."""


class Members(NamedTuple):
    """The files of one name."""

    float32: Path
    half: Path
    reference: Path
    engine: Path
    description: Path


def members(model: Path) -> Members:
    """Where the others of NAME.onnx, or NAME.fp16.onnx, would lie."""
    stem = model.stem[: -len(".fp16")] if model.stem.endswith(".fp16") else model.stem
    suffixes = (".onnx", ".fp16.onnx", ".reference.npz", ".engine", ".json")
    return Members(*(model.with_name(stem + suffix) for suffix in suffixes))


def pack(model: Path, out: Path, log: Log = print) -> List[Path]:
    """The plain files of one name as the bundle ``out``; returns what was taken in.

    ModelError names the file that comes from another training, or does not belong to the others.
    """
    found = members(model)
    if not model.is_file():
        raise InputError(f"{model}: no such file; give the set's .onnx file")
    core, contents = _graphs(model, found)
    taken = [path for path in (found.float32, found.half) if path.is_file()]
    for path, info in _for_targets(found):
        _check_same(path, info.core(), model, core)
        contents.append(Content(
            "graph", partial(shutil.copyfile, path), info.precision, info.plan, target=_target_of(info),
        ))
        taken.append(path)
    if found.reference.is_file():
        _check_reference(found.reference, taken[0], core)
        contents.append(Content("reference", partial(shutil.copyfile, found.reference)))
        taken.append(found.reference)
    else:
        log(f"no {found.reference.name}: an engine cannot be compared with the trained model")
    if found.engine.is_file():
        contents.append(_engine(found, core, {sha256(path) for path in taken}))
        taken.append(found.engine)
    with bundle_writer.writing(out, log) as writer:
        writer.replace(core, contents)
    for path in taken:
        log(f"took {path}")
    return taken


def _graphs(model: Path, found: Members) -> Any:
    """What the graphs have in common, and the graphs."""
    given = read_info(model)
    contents = []
    for role, path in (("float32", found.float32), ("half", found.half)):
        if path.is_file():
            info = read_info(path)
            if info.verdict_inside:
                raise InputError(
                    f"{path}: has thresholds inside, and a bundle's are its calibrations'; pack files that "
                    "were exported without --verdict"
                )
            _check_same(path, info.core(), model, given.core())
            if info.precision != bundle.ROLES[role].precision:
                raise ModelError(f"{path}: is {info.precision}, which its name does not say; rename it")
            contents.append(Content(role, partial(shutil.copyfile, path), info.precision, info.plan))
    if not contents:
        raise InputError(f"{model}: give NAME.onnx or NAME.fp16.onnx, by the name that the set has")
    return given.core(), contents


def target_file(found: Members, target: str, precision: str) -> Path:
    """``NAME.rtx.fp16.onnx``, ``NAME.orin.onnx``."""
    suffix = ".fp16.onnx" if precision == "float16" else ".onnx"
    return found.float32.with_suffix(f".{target}{suffix}")


def _for_targets(found: Members) -> Iterator[Tuple[Path, ModelInfo]]:
    """Files of that name which say that they are for that target: another model may have such a name."""
    for target, precision in itertools.product(TARGETS, selection.PRECISIONS):
        path = target_file(found, target, precision)
        if path.is_file():
            info = read_info(path)
            if (_target_of(info), info.precision) == (target, precision) and not info.verdict_inside:
                yield path, info


def _target_of(info: ModelInfo) -> str:
    return str(info.plan_table.get("target", ""))


def _check_same(path: Path, found: ModelInfo, model: Path, given: ModelInfo) -> None:
    if found.checkpoint_sha256 != given.checkpoint_sha256:
        raise ModelError(
            f"{path}: made from another training than {model.name} (checkpoint "
            f"{found.checkpoint_sha256[:12]}..., not {given.checkpoint_sha256[:12]}...); {AWAY}"
        )
    if not found.same_network(given) or found.verdict != given.verdict:
        raise ModelError(
            f"{path}: describes another model than {model.name} (input, geometry or verdict); {AWAY}"
        )


def _check_reference(path: Path, graph: Path, core: ModelInfo) -> None:
    """Frames do not say where they are from: their answers are the graph's, or they are another model's."""
    truth = parity.read_reference(path)
    if truth.images.shape[1:3] != core.input_hw or truth.maps.shape[1:] != core.size_hw:
        raise ModelError(f"{path}: images of another size than {graph.name}'s; {AWAY}")
    with Detector.open(graph) as detector:
        precision = detector.info.precision
        answers = [detector.infer_batch(image[None]) for image in truth.images]
    maps, scores = (np.concatenate([answer[i] for answer in answers]) for i in (0, 1))
    try:
        parity.gate(parity.compare(truth, maps, scores, core.verdict, precision), precision)
    except ModelError as error:
        reason = str(error).partition(": ")[2].partition(";")[0]
        raise ModelError(
            f"{path}: not the answers of {graph.name} ({reason}), so another model's; {AWAY}"
        ) from None


def _engine(found: Members, core: ModelInfo, graphs: Any) -> Content:
    """The engine, by what its builder wrote beside it."""
    path = found.engine
    if not found.description.is_file():
        raise ModelError(
            f"{path}: no {found.description.name} beside it, which says what it is; move it away, pack, and "
            "build one with --engine"
        )
    with open(found.description, encoding="utf-8", errors="replace") as file:
        document = parse(file.read(JSON_BYTES), str(found.description))
    info = EngineInfo.from_document(document.get("engine", {}), str(found.description))
    check_sha256(path, sha256(path), str(document.get("sha256", "")))
    _check_same(path, info.model.core(), found.float32, core)
    if info.onnx_sha256 not in graphs:
        raise ModelError(
            f"{path}: built from another {info.source} than the one here; move it away, pack, and build one "
            "with --engine"
        )
    measured = {key: document[key] for key in MEASURED if key in document}
    write = partial(shutil.copyfile, path)
    return Content("engine", write, info.model.precision, info.model.plan, info, measured)


def unpack(path: Path, folder: Path, log: Callable[[str], object] = print) -> List[Path]:
    """The bundle's files under the names of a set. InputError if one of them is there."""
    found = bundle.read(path)
    targets = _targets(found, folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--unpack {folder}: is a file; give a folder")
    descriptions = [place.with_suffix(".json") for place in targets.values() if place.suffix == ".engine"]
    for target in (*targets.values(), *descriptions):
        if target.exists():
            raise InputError(f"{target}: is there already; give another folder")
    entries = [entry for entry in found.entries if entry.name in targets]
    for entry in entries:
        place = bundle.check(found, entry, force=True)
        if place.suffix == ".onnx":
            selection.check_same(place, read_info(place), found)
    for entry in entries:
        target = targets[entry.name]
        with replacing(target) as temporary:
            shutil.copyfile(found.place(entry), temporary)
        if entry.engine is not None:
            description = _description(entry.engine, entry.sha256, entry.measured)
            write_json(target.with_suffix(".json"), description)
        log(f"wrote {target}")
    if found.history:
        log(
            f"plain files have the thresholds of the export, calibrations stay in {path}; for a file with "
            f"those of one: ssn-export {path} --out NAME.onnx [--verdict] --calibration {found.history[-1]}"
        )
    return list(targets.values())


def _targets(found: Bundle, folder: Path) -> Dict[str, Path]:
    places = members(folder / f"{found.path.stem}.onnx")
    engines = found.of_role("engine")
    targets = {}
    for entry in found.entries:
        place = getattr(places, entry.role, None)
        if entry.role == "graph":
            place = target_file(places, entry.target, entry.precision)
        if entry.role == "engine" and len(engines) > 1:
            place = folder / f"{found.path.stem}-{entry.sha256[:8]}.engine"
        if place is not None:
            targets[entry.name] = place
    return targets


def _description(engine: EngineInfo, digest: str, measured: Mapping[str, Any]) -> Dict[str, Any]:
    """What :func:`_engine` reads."""
    return {"schema": SCHEMA, "engine": engine.document(), "sha256": digest, **measured}
