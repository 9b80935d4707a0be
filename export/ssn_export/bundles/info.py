"""What a model says of itself, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

from ssn_edge.backends import selection
from ssn_edge.backends.selection import Choice
from ssn_edge.errors import SsnEdgeError
from ssn_edge.model import bundle
from ssn_edge.model.bundle import Entry
from ssn_edge.model.onnx_metadata import read_info
from ssn_edge.model.schema import ModelInfo
from ssn_edge.text import one_line
from ssn_export.bundles import calibrations

HEADER = ("role", "precision", "plan", "MB", "file", "")


def lines(path: Path, log: Callable[[str], object] = print) -> None:
    """Print the bundle or ONNX file ``path``; every digest of a bundle is checked."""
    if not bundle.is_bundle(path):
        info = read_info(path)
        for line in _model(path, info):
            log(line)
        log(f"{info.precision}, plan {info.plan}; {_error(info.parity, 'trained model')}")
        return
    found = bundle.read(path)
    for line in _model(path, found.model):
        log(line)
    log(f"sha256 of the manifest {found.sha256}")
    rows = [HEADER, *(_row(entry, selection.compared_later(found, entry)) for entry in found.entries)]
    for line in _aligned(rows):
        log(line)
    for entry in found.entries:
        bundle.check(found, entry, force=True)
    for entry in found.all_graphs():
        selection.check_same(found.place(entry), read_info(found.place(entry)), found)
    log(f"all {len(found.entries)} files have the digests of the manifest")
    choice, here = _here(path)
    for line in calibrations.lines(found, choice):
        log(line)
    log(f"here: {here}")


def _model(path: Path, info: ModelInfo) -> List[str]:
    frame = f", from frames of {info.frame[0]}x{info.frame[1]}" if info.frame else ""
    inside = ", thresholds in the graph" if info.verdict_inside else ""
    return [
        one_line(
            f"{path}: {info.backbone}, {info.height}x{info.width} {info.colour} "
            f"({info.geometry}{frame}{inside})"
        ),
        *([one_line(info.design.words)] if info.design is not None else []),
        calibrations.words(info),
        one_line(f"checkpoint {info.checkpoint_sha256}"),
    ]


def _row(entry: Entry, later: bool) -> Sequence[str]:
    about = f"for {entry.target}" if entry.target else ""
    engine = entry.engine
    if engine is not None:
        flags = [name for name in ("version_compatible", "hardware_compatible") if getattr(engine, name)]
        about = ", ".join([
            engine.made_with, f"for compute capability {', '.join(engine.compute_capabilities)}"
            if engine.compute_capabilities else f"{engine.device} ({engine.compute_capability})",
            f"1 to {engine.batch} images" if engine.batch > 1 else "1 image",
            *(flag.replace("_", "-") for flag in flags),
            _error(entry.measured.get("parity") or {}, "the trained model") if entry.verified
            else "compared with the trained model where it is opened" if later
            else "not compared with the trained model",
        ])
    size = f"{entry.size / 1e6:.1f}"
    cells = entry.role, entry.precision or "-", entry.plan or "-", size, entry.name, about
    return [one_line(cell) for cell in cells]


def _error(parity: Mapping[str, Any], what: str) -> str:
    """The map's error as it was measured."""
    figures = parity.get("trained model", parity) if isinstance(parity, Mapping) else None
    rms = figures.get("map_rms") if isinstance(figures, Mapping) else None
    if not isinstance(rms, float):
        return "error not measured"
    images = one_line(figures.get("images", "?"), 20)
    return f"map {rms:.1e} of its standard deviation off {what}'s on {images} images"


def _aligned(rows: Sequence[Sequence[str]]) -> List[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _here(path: Path) -> Tuple[Optional[Choice], str]:
    """What would run on this machine, and that in words; or why nothing would."""
    try:
        choice = selection.choose(path)
    except SsnEdgeError as error:
        return None, str(error)
    return choice, f"{choice.library.NAME} {choice.library.version()} runs {choice.why}"
