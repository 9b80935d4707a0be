"""Detection and localisation metrics (section 4.2). No torch: the benchmark uses them too."""

from __future__ import annotations

import math
from typing import Dict, Sequence

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
    """
    weights = np.zeros(masks.shape, np.float64)  # each region's pixels sum to 1
    regions = 0
    for weight, mask in zip(weights, masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        sizes = np.bincount(labels.ravel(), minlength=count)
        weight[:] = np.where(mask, 1.0 / sizes[labels], 0.0)
        regions += count - 1
    normal = ~masks.ravel()
    if not regions or not normal.any() or maps.min() == maps.max():
        return math.nan
    values = maps.ravel()
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.diff(values[order]) != 0, True)
    fpr = np.append(0, np.cumsum(normal[order])[last_of_tie] / normal.sum())
    pro = np.append(0, np.cumsum(weights.ravel()[order])[last_of_tie] / regions)
    inside = np.searchsorted(fpr, limit, side="right")
    x = np.append(fpr[:inside], limit)
    y = np.append(pro[:inside], np.interp(limit, fpr, pro))
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / limit)


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
