"""What a model said of photos, and metrics of labelled ones. No torch: the benchmark judges deployed files
with it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any, Dict, Sequence, Tuple

import numpy as np

from ssn_edge.files import PathLike, replacing
from ssn_edge.frames.decoding import Reading
from ssn_edge.frames.placement import fit_mask
from ssn_edge.model.schema import Verdict
from ssn_edge.verdict import calibrating
from ssn_edge.verdict.judge import Judge
from ssn_train.data.datasets import Sample
from ssn_train.data.truth import read_truth
from ssn_train.report import line_figures, metrics


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

    def ranking(self, verdict: Verdict) -> Tuple[str, np.ndarray]:
        """By what photos are ordered when thresholds move, float64 [N], and its name: the source's own
        values, or where two count the ``number`` that was calibrated, so that both thresholds move as if they
        were calibrated anew; of models that do not keep its scales the ``margin``. In each of them the
        verdict's own place parts NG from OK as the verdict does."""
        if verdict.source == "either" and verdict.scales is None:
            return "margin", self.margins(verdict)
        found = calibrating.numbers(verdict.source, verdict.scales, self.scores, self.map_max)
        return "number" if verdict.source == "either" else verdict.source, found


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
    ranking, numbers = test.ranking(verdict)
    parts = line_figures.grouped(labels, [sample.part for sample in test.samples], numbers, called)
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
        "line": line_figures.document(parts, ranking),
        "best_f1": best[0] if len(best) == 1 else dict(zip(verdict.thresholds, best)),
    }


def write_predictions(path: PathLike, predictions: Predictions, verdict: Verdict) -> None:
    """One CSV line a photo."""
    with replacing(path) as temporary, open(
        temporary, "w", newline="", encoding="utf-8", errors="surrogateescape"  # names in other encodings
    ) as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "defect", "score", "map_max", "is_defect", "part"])
        peaks = predictions.map_max
        called = Judge(verdict).are_defects(predictions.scores, peaks)
        for sample, score, peak, judged in zip(predictions.samples, predictions.scores, peaks, called):
            figures = [f"{score:.7g}", f"{peak:.7g}", int(judged)]
            writer.writerow([sample.path, sample.label, sample.defect, *figures, sample.part])
