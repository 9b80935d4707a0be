"""What a model says of parts, and how a threshold's promise fares on others: the shipped functions
throughout."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import click
import numpy as np

from ssn_edge import Detector, Judge, Verdict, part_names, sources
from ssn_edge.line import sound_parts
from ssn_edge.line.sound_parts import Observed
from ssn_edge.verdict import calibrating, promise
from ssn_edge.verdict.calibrating import Scales

SOURCES = ("score", "map_max", "either")


@dataclass(frozen=True)
class Row:
    """A threshold by ``source`` from ``n`` parts, and what it did on others: ``alarms`` of ``sound`` parts,
    ``caught`` of ``defects`` photos."""

    source: str
    method: str
    n: int
    on_average: Optional[float]
    at_most: Optional[float]
    alarms: int
    sound: int
    caught: int
    defects: int


def observed(detector: Detector, folder: Path, expression: Optional[str] = None) -> Observed:
    """The folder's photos, judged by the runtime."""
    source = sources.find(str(folder))
    with click.progressbar(length=len(source.files), label=folder.name, file=sys.stderr) as bar:
        pattern = part_names.pattern(expression) if expression else None
        seen, _ = sound_parts.watch(source, detector, pattern, on_shot=lambda parts, shots: bar.update(1))
    return seen


def row(
    source: str, scales: Scales, known: Observed, sound: Observed, bad: Observed, level: float
) -> Row:
    """A calibration on ``known`` parts, held against ``sound`` parts and ``bad`` photos."""
    made = calibrating.calibrate(*known.arrays(), known.parts, source, scales, level)
    method = f"{100 * level:g} % by part"
    return _row(source, method, made.verdict, sound, bad, made.promise.n, made.promise)


def quantile_row(source: str, known: Observed, sound: Observed, bad: Observed) -> Row:
    """The threshold as it was before: an interpolated 0.99 quantile of photos, whatever their parts."""
    scores, peaks = known.arrays()
    threshold = float(np.quantile({"score": scores, "map_max": peaks}[source], 0.99))
    return _row(source, "0.99 quantile of photos", Verdict(source, threshold, 0.0, "", 0), sound, bad,
                len(scores), None)


def _row(
    source: str, method: str, verdict: Verdict, sound: Observed, bad: Observed, n: int, promised: Any
) -> Row:
    judge = Judge(verdict)
    alarms = calibrating.by_part(judge.are_defects(*sound.arrays()), sound.parts)
    caught = judge.are_defects(*bad.arrays())
    return Row(
        source, method, n, promised and promised.on_average, promised and promised.at_most, int(alarms.sum()),
        len(alarms), int(caught.sum()), len(caught),
    )


def table(rows: Sequence[Row]) -> List[str]:
    """Rows of one source and method added up: what was promised, and what happened, with the interval that
    one split of that rate has."""
    groups: Dict[Any, List[Row]] = {}
    for one in rows:
        groups.setdefault((one.source, one.method), []).append(one)
    alarmed = "false alarms, 95 % interval of one split"
    head = ("judged by", "threshold", "parts", "promised", alarmed, "defects caught")
    lines = [head]
    for (source, method), found in groups.items():
        alarms, sound = sum(one.alarms for one in found), sum(one.sound for one in found)
        caught, defects = sum(one.caught for one in found), sum(one.defects for one in found)
        # Splits draw the same parts again and again: no more is known than from one of them.
        low, high = promise.interval(round(alarms / len(found)), round(sound / len(found)))
        first = found[0]
        stated = "-"
        if first.on_average is not None and first.at_most is not None:
            stated = f"{100 * first.on_average:.1f} % on average, {100 * first.at_most:.1f} % at most"
        shown = f"{alarms} of {sound} = {100 * alarms / sound:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        lines.append((source, method, str(first.n), stated, shown, f"{caught} of {defects}"))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
