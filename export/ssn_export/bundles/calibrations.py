"""What a bundle's calibrations say of a file that is written from it, and of those in it. No torch."""

from __future__ import annotations

import dataclasses
from typing import List, Optional

from ssn_edge.backends.selection import Choice
from ssn_edge.frames.placement import View
from ssn_edge.model.bundle import Bundle, Entry
from ssn_edge.model.schema import ModelInfo
from ssn_edge.text import one_line
from ssn_edge.verdict import calibration, in_bundle
from ssn_edge.verdict.calibration import TRAINING, Calibration
from ssn_edge.verdict.in_bundle import InUse

ONNX = "onnxruntime"
"""The library that a plain ONNX file's thresholds are looked up for."""


def judged(
    found: Bundle, entry: Entry, info: ModelInfo, name: Optional[str] = None, library: str = ONNX
) -> ModelInfo:
    """What the file ``entry`` says of itself, with the thresholds of the calibration ``name`` (None: the one
    in use), whose words say whether the promise holds for it, run by ``library`` on whole frames.

    A bundle from before calibrations has the training's. InputError for a name that there is none of.
    """
    one = in_bundle.in_use(found, info.precision, library, entry.sha256, View(), name)
    return judged_by_training(info, None) if one is None else in_bundle.judged_by(info, one)


def judged_by_training(info: ModelInfo, one: Optional[Calibration]) -> ModelInfo:
    """A run folder's graph by the calibration ``one`` of its training; None: of before it was kept, whose
    thresholds are what the graph says."""
    if one is None:
        return dataclasses.replace(info, calibration=TRAINING)
    return in_bundle.judged_by(info, InUse(one, one.misfit(info.precision, ONNX, "", View())))


def words(info: ModelInfo) -> str:
    """The thresholds in one line, with what they promise, and whose they are where the file says."""
    verdict = info.verdict
    method = one_line(f"{verdict.method}, n = {verdict.n}", 300)
    whose = f"calibration {info.calibration}: " if info.calibration else ""
    return f"{whose}{verdict.rule}; mask from {verdict.pixel_threshold:.4g} ({method})"


def lines(found: Bundle, choice: Optional[Choice]) -> List[str]:
    """A bundle's calibrations, three lines each, oldest first; ``choice`` is what runs on this machine."""
    return [line for one in in_bundle.read_all(found) for line in _lines(found, choice, one)]


def _lines(found: Bundle, choice: Optional[Choice], one: Calibration) -> List[str]:
    in_use = ", in use" if found.history[-1:] == (one.name,) else ""
    made_on = " on ".join(part for part in (one.precision, one.library) if part)
    about = [
        one.date, one.kind, f"made in {made_on}", calibration.shown(one.view),
        f"of {one.source}" if one.source else "",
    ]
    return [
        one_line(f"calibration {one.name}{in_use}: {', '.join(part for part in about if part)}", 300),
        f"  {one_line(f'{one.verdict.rule}; {one.verdict.method}', 300)}",
        f"  here: {_holds(found, choice, one)}",
    ]


def _holds(found: Bundle, choice: Optional[Choice], one: Calibration) -> str:
    """Whether what it promises is promised of the file that runs here, of frames cut as it says."""
    if choice is None:
        return "nothing runs"
    precision = next(entry.precision for entry in found.entries if entry.sha256 == choice.sha256)
    misfit = one.misfit(precision, choice.library.NAME, choice.sha256, one.view)
    if misfit:
        return one_line(f"no promise: {misfit}; run ssn-calibrate")
    return "its promise holds" if one.kind == "promise" else f"made for what runs; no promise ({one.kind})"
