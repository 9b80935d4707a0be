"""What a model said of photos: thresholds from normal ones, metrics of labelled ones. No torch: the
benchmark judges deployed files with it."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

from ssn_edge.files import PathLike, replacing
from ssn_edge.frames.decoding import Reading
from ssn_edge.frames.placement import fit_mask
from ssn_edge.model.schema import Verdict
from ssn_edge.verdict import promise
from ssn_edge.verdict.judge import Judge
from ssn_train.data.datasets import Sample
from ssn_train.data.truth import read_truth
from ssn_train.report import metrics


@dataclass(frozen=True)
class Predictions:
    """``scores`` float32 [N], ``maps`` float32 [N, H, W] logits, in the order of ``samples``; ``geometry``:
    how the photos got the maps' size; ``reading``: how files became photos."""

    samples: Tuple[Sample, ...]
    scores: np.ndarray
    maps: np.ndarray
    geometry: str = "stretch"
    reading: Reading = Reading()

    @property
    def labels(self) -> np.ndarray:
        return np.array([sample.label for sample in self.samples], np.int64)

    @property
    def map_max(self) -> np.ndarray:
        return self.maps.max(axis=(1, 2)) if len(self.maps) else np.zeros(0, np.float32)

    def values(self, source: str) -> np.ndarray:
        """What a threshold is compared with: the ``score`` or ``map_max``."""
        return {"score": self.scores, "map_max": self.map_max}[source]

    def margins(self, verdict: Verdict) -> np.ndarray:
        """How far each image is beyond the threshold, float64 [N], in standard deviations of what is
        compared; of two sources the larger. NG from 0 on, for ranking and pictures: the verdict
        itself is :class:`ssn_edge.verdict.judge.Judge`'s."""
        found = []
        for source, threshold in verdict.thresholds.items():
            values = self.values(source).astype(np.float64)
            found.append((values - threshold) / (values.std() or 1.0))
        return np.max(found, axis=0)


NO_PROMISE = "no promise: the model was trained on these photos"


def calibrate(
    normal: Predictions, source: str, known: Optional[Predictions] = None,
    level: Optional[float] = None, confidence: Optional[float] = None,
) -> Verdict:
    """Thresholds from sound photos that the model has never seen, and what they promise.

    NG is above the k-th largest of their n numbers, k as large as ``level`` allows on average, or with
    ``confidence``; None: :func:`ssn_edge.verdict.promise.choose`. A photo's number is its value of
    ``source``; for "either" the larger of both's logits, standardised by ``known`` photos, which are others,
    so that both thresholds together hold one rate. The mask's threshold is the map's: with "map_max" and
    "either" a sound photo has a mask only where it alarms, with "score" as seldom as that.

    ``known`` None: ``normal`` are the training photos, which are easier, and nothing is promised.
    """
    promised = promise.choose(len(normal.samples), level, confidence, "photos")
    method = f"{promised.words}; {promise.GUARANTEE}" if known is not None else NO_PROMISE
    if source != "either":
        limits = {source: promise.above(promise.kth_largest(normal.values(source), promised.k))}
    else:
        scales = {name: _scale(name, (known or normal).values(name)) for name in ("score", "map_max")}
        numbers = np.max([_standard(n, normal.values(n), *scale) for n, scale in scales.items()], axis=0)
        limit = promise.kth_largest(numbers, promised.k)
        limits = {name: _beyond(name, limit, *scale) for name, scale in scales.items()}
    pixel = limits.get("map_max", promise.above(promise.kth_largest(normal.map_max, promised.k)))
    first, *more = limits.values()
    return Verdict(source, first, pixel, method, promised.n, *more)


def _scale(name: str, values: np.ndarray) -> Tuple[float, float]:
    """Median and spread of a source's logits, never 0."""
    logits = _logits(name, values)
    middle = float(np.median(logits))
    spread = 1.4826 * float(np.median(np.abs(logits - middle)))  # of normal numbers: their deviation
    return middle, spread or float(logits.std()) or 1.0


def _standard(name: str, values: np.ndarray, middle: float, spread: float) -> np.ndarray:
    return (_logits(name, values) - middle) / spread


def _logits(name: str, values: np.ndarray) -> np.ndarray:
    """The map's are; a score's, whose sigmoid may have saturated."""
    wide = np.asarray(values, np.float64)
    if name == "map_max":
        return wide
    inside = np.clip(wide, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(inside / (1 - inside)))


def _beyond(name: str, limit: float, middle: float, spread: float) -> float:
    """The smallest float32 whose standardised logit is above ``limit``; of scores at most the next above
    1."""
    logit = middle + spread * limit
    value = np.float32(logit if name == "map_max" else 1 / (1 + math.exp(-max(logit, -700.0))))
    up, top = np.float32(np.inf), np.float32(1) if name == "score" else np.float32(np.inf)
    while _standard(name, value, middle, spread) > limit:
        value = np.nextafter(value, -up)
    while value <= top and _standard(name, value, middle, spread) <= limit:
        value = np.nextafter(value, up)
    return float(value)


def load_masks(
    samples: Sequence[Sample], size_hw: Tuple[int, int], geometry: str = "stretch",
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> np.ndarray:
    """Truth at the model's size, bool [N, H, W]; empty where there is no mask.

    ``checking.check`` has held the masks against their photos' sizes already.
    """
    masks = np.zeros((len(samples), *size_hw), bool)
    for mask, sample in zip(masks, samples):
        if sample.mask is not None:
            mask[:] = fit_mask(read_truth(sample.mask, None, reading), size_hw, geometry)
    return masks


def report(test: Predictions, masks: np.ndarray, verdict: Verdict) -> Dict[str, Any]:
    """The content of ``metrics.json`` for a labelled test set."""
    labels = test.labels
    has_mask = np.array([sample.mask is not None for sample in test.samples])
    called = Judge(verdict).are_defects(test.scores, test.map_max)
    best = [metrics.best_f1(labels, test.values(source)) for source in verdict.thresholds]
    return {
        "images": {"good": int((labels == 0).sum()), "defective": int(labels.sum())},
        "metrics": metrics.summary(labels, test.scores, test.maps, masks, has_mask),
        "per_defect": metrics.per_defect(
            labels, [s.defect for s in test.samples], test.scores, test.map_max
        ),
        "at_threshold": {
            "false alarms": int((called & (labels == 0)).sum()),
            "missed defects": int((~called & (labels == 1)).sum()),
        },
        "best_f1": best[0] if len(best) == 1 else dict(zip(verdict.thresholds, best)),
    }


def write_predictions(path: PathLike, predictions: Predictions, verdict: Verdict) -> None:
    """One CSV line a photo."""
    with replacing(path) as temporary, open(
        temporary, "w", newline="", encoding="utf-8", errors="surrogateescape"  # names in other encodings
    ) as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "defect", "score", "map_max", "is_defect"])
        peaks = predictions.map_max
        called = Judge(verdict).are_defects(predictions.scores, peaks)
        for sample, score, peak, judged in zip(predictions.samples, predictions.scores, peaks, called):
            figures = [f"{score:.7g}", f"{peak:.7g}", int(judged)]
            writer.writerow([sample.path, sample.label, sample.defect, *figures])
