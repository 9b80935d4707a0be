"""How far an answer may be off: a model file's maps and scores against the trained model's.

A device judges its engines and providers with the same figures and limits as the workstation its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from ssn_edge.errors import ModelError
from ssn_edge.model.schema import Verdict
from ssn_edge.text import one_line
from ssn_edge.verdict.judge import Judge

FLOAT_LIMITS = {"map_rms": 1e-5, "map_max": 1e-4}
HALF_LIMITS = {"map_rms": 3e-3}
"""Errors over the map's standard deviation; two correct float32 runs differ by 1e-5 at most."""

MARGINS = {"float32": 1e-4, "float16": 3e-2}
"""Verdicts must agree unless the value is this close to the threshold (over the standard deviation of the
map for ``map_max``, absolute for ``score``)."""

MADE_UP_SLACK = 2.0
"""Times the limits, for two libraries on :func:`made_up_frames`: each may be a limit off from the model."""


@dataclass(frozen=True)
class Reference:
    """uint8 BGR ``images`` [N, H, W, 3], and the trained model's answers in float64."""

    images: np.ndarray
    maps: np.ndarray
    scores: np.ndarray

    def first(self, count: int) -> Reference:
        """The first ``count`` images with their answers."""
        return Reference(self.images[:count], self.maps[:count], self.scores[:count])

    def spread(self, count: int) -> Reference:
        """At most ``count`` images at even distances: sound ones come first, and their maps may be so flat
        that an error over their deviation says nothing of the gate's."""
        rows = np.linspace(0, len(self.images) - 1, min(count, len(self.images))).astype(int)
        return Reference(self.images[rows], self.maps[rows], self.scores[rows])


@dataclass(frozen=True)
class Parity:
    """Errors against :class:`Reference`: map errors over the map's standard deviation, score
    errors absolute; verdicts changed, and of those the ones outside the margin."""

    images: int
    map_rms: float
    map_mean: float
    map_max: float
    score_mean: float
    score_max: float
    verdicts_changed: int
    changed_outside_margin: int
    margin: float

    def line(self) -> str:
        """The figures in words."""
        return (
            f"map error {self.map_rms:.1e} rms, {self.map_mean:.1e} mean, {self.map_max:.1e} max "
            f"(of its standard deviation); score {self.score_mean:.1e} mean, {self.score_max:.1e} max; "
            f"{self.verdicts_changed} of {self.images} verdicts changed"
        )


def compare(
    truth: Reference, maps: np.ndarray, scores: np.ndarray, verdict: Verdict, precision: str
) -> Parity:
    """Errors of ``maps`` [N, H, W] and ``scores`` [N] against the reference. Figures are not finite
    where an answer is not, which :func:`refusal` names."""
    deviation = float(truth.maps.std())
    error = np.abs(maps - truth.maps) / deviation
    score_error = np.abs(scores - truth.scores)
    peaks, exact_peaks = maps.max((1, 2)), truth.maps.max((1, 2))
    judge = Judge(verdict)
    changed = judge.reaches(truth.scores, exact_peaks) != judge.reaches(scores, peaks)
    outside = np.zeros(len(maps), bool)
    compared = {"score": (truth.scores, scores, 1.0), "map_max": (exact_peaks, peaks, deviation)}
    for source, threshold in verdict.thresholds.items():
        exact, ours, unit = compared[source]
        crossed = (exact < threshold) != (ours < threshold)
        outside |= changed & crossed & (np.abs(exact - threshold) > MARGINS[precision] * unit)
    return Parity(
        images=len(maps),
        map_rms=float(np.sqrt(np.mean(error**2))),
        map_mean=float(error.mean()),
        map_max=float(error.max()),
        score_mean=float(score_error.mean()),
        score_max=float(score_error.max()),
        verdicts_changed=int(changed.sum()),
        changed_outside_margin=int(outside.sum()),
        margin=MARGINS[precision],
    )


def refusal(parity: Parity, precision: str, slack: float = 1.0) -> Optional[str]:
    """Which figure exceeds ``slack`` times its limit, in a few words; None where none does."""
    if not (np.isfinite(parity.map_rms) and np.isfinite(parity.score_max)):
        return f"an answer is not finite (map error {parity.map_rms} rms, score error {parity.score_max})"
    limits: Dict[str, Any] = FLOAT_LIMITS if precision == "float32" else HALF_LIMITS
    for name, limit in limits.items():
        value = getattr(parity, name)
        if not value <= slack * limit:
            return f"{name} {value:.1e} of the map's standard deviation, limit {slack * limit:.0e}"
    if parity.changed_outside_margin:
        return f"{parity.changed_outside_margin} verdicts changed beyond {parity.margin:g} of the threshold"
    return None


def made_up_frames(input_hw: Tuple[int, int]) -> np.ndarray:
    """uint8 [5, H, W, 3]: noise, faint noise and flat ones, where there are no reference images."""
    noise = np.random.default_rng(0).integers(0, 256, (*input_hw, 3), np.uint8)
    flat = [np.full_like(noise, level) for level in (0, 128, 255)]
    return np.stack([noise, noise // 8 + 112, *flat])


def read_reference(path: Path) -> Reference:
    """A bundle's reference images and answers. Raises ModelError for any other file."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            truth = Reference(stored["images"], stored["anomaly_map"], stored["score"])
    except Exception as error:  # a damaged archive fails in zlib, zipfile, tokenize or numpy
        reason = one_line(f"{type(error).__name__}: {error}", 120)
        raise ModelError(f"{path}: not a reference file ({reason}); copy it again") from None
    shapes = truth.images.shape, truth.maps.shape, truth.scores.shape
    kinds = truth.images.dtype == np.uint8, truth.maps.dtype.kind == "f", truth.scores.dtype.kind == "f"
    if [len(s) for s in shapes] != [4, 3, 1] or len({s[0] for s in shapes}) != 1 or not len(truth.scores):
        raise ModelError(f"{path}: arrays of shapes {shapes} do not belong together; copy it again")
    if not all(kinds):
        raise ModelError(f"{path}: arrays of other types than images and answers have; copy it again")
    return truth
