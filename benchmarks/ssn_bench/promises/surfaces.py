"""Made-up surfaces by the thousand: what a threshold from some promises for the others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Optional

import click
import numpy as np

from ssn_bench.demo import surfaces
from ssn_bench.promises import judged
from ssn_bench.promises.judged import Row
from ssn_edge import Detector, sources
from ssn_edge.line import sound_parts
from ssn_edge.line.sound_parts import Observed
from ssn_edge.sources import Frame
from ssn_edge.verdict import calibrating

LEVELS = (0.01, 0.05)
SCALED_BY = 64
"""Sound photos that "either" is standardised by, in no other count."""


def run(model: Path, texture: str, known: int, sound: int, defects: int, size: int) -> List[Row]:
    """``known`` sound photos calibrate, ``sound`` others and ``defects`` of each kind are counted."""
    with Detector.open(model) as detector:
        scaled = _observed(detector, texture, None, SCALED_BY, 100, size)
        calibrated = _observed(detector, texture, None, known, 101, size)
        tested = _observed(detector, texture, None, sound, 102, size)
        bad = Observed()
        for number, kind in enumerate(surfaces.DEFECTS[texture]):
            found = _observed(detector, texture, kind, defects, 103 + number, size)
            bad.scores += found.scores
            bad.map_max += found.map_max
            bad.parts += found.parts
    scales = calibrating.scales_of(*scaled.arrays())
    return [judged.row(source, scales, calibrated, tested, bad, level)
            for source in judged.SOURCES for level in LEVELS]


def _observed(
    detector: Detector, texture: str, defect: Optional[object], count: int, group: int, size: int
) -> Observed:
    """Photos of a seeded group that no data set of the demo has."""

    def frames():
        for number in range(count):
            rng = np.random.default_rng([0, group, number])
            photo, _ = surfaces.make_photo(rng, texture, defect, size)
            yield Frame(f"{number:05d}", photo, 0.0)

    label = getattr(defect, "__name__", "sound")
    with click.progressbar(length=count, label=label, file=sys.stderr) as bar:
        source = sources.of(frames())
        seen, _ = sound_parts.watch(source, detector, on_shot=lambda parts, shots: bar.update(1))
    return seen
