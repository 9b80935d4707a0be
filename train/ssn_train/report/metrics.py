"""Detection and localisation metrics (section 4.2). No torch: the benchmark uses them too."""

from __future__ import annotations

import math
from typing import Dict, Sequence, Tuple

import cv2
import numpy as np
from sklearn import metrics as sk

AUPRO_LIMIT = 0.3


def auroc(labels: np.ndarray, values: np.ndarray) -> float:
    """Area under the ROC curve; NaN where one class is missing."""
    labels = np.ravel(labels)
    return float(sk.roc_auc_score(labels, np.ravel(values))) if _both(labels) else math.nan


def average_precision(labels: np.ndarray, values: np.ndarray) -> float:
    """Average precision; NaN where one class is missing."""
    labels = np.ravel(labels)
    return float(sk.average_precision_score(labels, np.ravel(values))) if _both(labels) else math.nan


def best_f1(labels: np.ndarray, values: np.ndarray) -> Dict[str, float]:
    """The threshold with the highest F1, for comparison: it is chosen on the test set."""
    if not _both(labels):
        return {"threshold": math.nan, "f1": math.nan}
    precision, recall, thresholds = sk.precision_recall_curve(labels, values)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1[:-1]))
    return {"threshold": float(thresholds[best]), "f1": float(f1[best])}


def _both(labels: np.ndarray) -> bool:
    return bool(np.any(labels) and not np.all(labels))


def aupro(maps: np.ndarray, masks: np.ndarray, limit: float = AUPRO_LIMIT) -> float:
    """Area under the per-region-overlap curve up to a false positive rate of ``limit``, over it.

    ``maps`` float [N, H, W], ``masks`` bool [N, H, W]. The exact integral: every distinct value
    is a threshold, ties move together, regions are 8-connected and weigh the same. NaN without
    regions or without normal pixels, and for a constant map. (The published figures use anomalib
    0.7, which resamples each region's curve and differs by up to 1e-4 without ties.)

    The overlap changes at defective pixels alone, so that only the normal pixels' values are sorted,
    and in place: beside the arguments one copy of them is held (4 bytes a pixel).
    """
    values, weights, regions = _regions(maps, masks)
    normal = maps[~masks]
    if not regions or not len(normal) or maps.min() == maps.max():
        return math.nan
    normal.sort()
    order = np.argsort(-values, kind="stable")
    values, gained = values[order], np.cumsum(weights[order]) / regions
    last = np.append(values[1:] != values[:-1], True)  # of each group of equal values
    thresholds, overlap = values[last], gained[last]
    above = (len(normal) - np.searchsorted(normal, thresholds, side="right")) / len(normal)
    reached = (len(normal) - np.searchsorted(normal, thresholds, side="left")) / len(normal)
    # Between two thresholds the overlap stays while the rate grows; in a tie both grow together.
    x = np.append(np.stack([above, reached], axis=1).ravel(), 1.0)
    y = np.append(np.stack([np.append(0, overlap[:-1]), overlap], axis=1).ravel(), overlap[-1])
    x, y = np.append(0, x), np.append(0, y)
    inside = np.searchsorted(x, limit, side="right")
    x, y = np.append(x[:inside], limit), np.append(y[:inside], np.interp(limit, x, y))
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / limit)


def _regions(maps: np.ndarray, masks: np.ndarray) -> Tuple[np.ndarray, np.ndarray, int]:
    """Values and weights of all defective pixels, each region's weights summing to 1, and the
    number of regions."""
    values, weights, regions = [], [], 0
    for image, mask in zip(maps, masks):
        if mask.any():
            count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            sizes = np.bincount(labels.ravel(), minlength=count)
            values.append(image[mask])
            weights.append(1.0 / sizes[labels[mask]])
            regions += count - 1
    if not regions:
        return np.zeros(0, maps.dtype), np.zeros(0), 0
    return np.concatenate(values), np.concatenate(weights), regions


def summary(
    labels: np.ndarray, scores: np.ndarray, maps: np.ndarray, masks: np.ndarray, has_mask: np.ndarray
) -> Dict[str, float]:
    """All metrics of a labelled set.

    ``labels`` [N] 0/1, ``scores`` [N], ``maps`` [N, H, W], ``masks`` bool [N, H, W]; ``has_mask`` [N]
    leaves defective images without a mask out of the pixel metrics.
    """
    map_max = maps.max(axis=(1, 2))
    known = (labels == 0) | has_mask
    return {
        "I-AUROC": auroc(labels, scores),
        "I-AUROC (map maximum)": auroc(labels, map_max),
        "AP-det": average_precision(labels, scores),
        "AP-det (map maximum)": average_precision(labels, map_max),
        "P-AUROC": auroc(masks[known], maps[known]),
        "AP-loc": average_precision(masks[known], maps[known]),
        "AUPRO": aupro(maps[known], masks[known]),
    }


def per_defect(
    labels: np.ndarray, defects: Sequence[str], scores: np.ndarray, map_max: np.ndarray
) -> Dict[str, Dict[str, float]]:
    """Image metrics of each kind of defect against all good images."""
    kinds = np.asarray(defects)
    table = {}
    for kind in sorted({str(k) for k, label in zip(kinds, labels) if label}):
        chosen = (labels == 0) | (kinds == kind)
        table[kind] = {
            "n": int((kinds == kind).sum()),
            "I-AUROC": auroc(labels[chosen], scores[chosen]),
            "I-AUROC (map maximum)": auroc(labels[chosen], map_max[chosen]),
        }
    return table
