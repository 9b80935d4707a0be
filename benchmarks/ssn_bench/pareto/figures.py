"""Figures of a candidate and of differences between two, with intervals by resampling parts.

A part's photos are drawn together: they are no independent witnesses. Differences are paired, the same parts
drawn for both. Splits and seeds are averaged inside each resample, so that an interval is of the mean over
the trainings that were done; the spread of trainings stands beside it.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Sequence

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95
RATES = (0.05, 0.1)
"""Shares of sound parts that may alarm where defects are counted."""

Document = Mapping[str, Any]


class Tested:
    """What a candidate said of one split's photos: ``values`` [N] and ``labels`` [N], ``parts`` int [N]."""

    def __init__(self, document: Document, source: Optional[str] = None):
        self.values = np.asarray(document[source or document["verdict_source"]])
        self.labels = np.asarray(document["labels"])
        self.split = document["split"]
        names = list(dict.fromkeys(document["parts"]))
        place = {name: number for number, name in enumerate(names)}
        self.parts, self.count = np.array([place[part] for part in document["parts"]]), len(names)

    def aurocs(self, weights: np.ndarray) -> np.ndarray:
        """I-AUROC [R] with photos counted ``weights`` [R, N] times; ties count half."""
        _, group = np.unique(self.values, return_inverse=True)
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(group[order]) > 0])
        bad, good = (
            np.add.reduceat((weights * (self.labels == label))[:, order], starts, axis=1) for label in (1, 0)
        )
        below = np.cumsum(good, axis=1) - good / 2
        return (bad * below).sum(axis=1) / np.maximum(bad.sum(axis=1) * good.sum(axis=1), 1e-12)

    def caught(self, weights: np.ndarray, rate: float) -> np.ndarray:
        """Share [R] of defective photos that are NG where at most ``rate`` of the sound parts alarm."""
        worst = np.full(self.count, -np.inf)
        np.maximum.at(worst, self.parts, self.values)
        sound = np.ones(self.count, bool)
        sound[self.parts[self.labels == 1]] = False
        first = np.array([np.flatnonzero(self.parts == part)[0] for part in range(self.count)])
        descending = np.argsort(-worst, kind="stable")
        counted = (weights[:, first] * sound)[:, descending]  # sound parts, the worst first
        alarms = np.cumsum(counted, axis=1)
        allowed = (alarms <= rate * alarms[:, -1:] + 1e-9) & (counted > 0)
        refused = np.where((counted > 0) & ~allowed, worst[descending], -np.inf)
        threshold = refused.max(axis=1)  # the first sound part that may not alarm: NG is above it
        bad = weights * (self.labels == 1)
        return (bad * (self.values > threshold[:, None])).sum(axis=1) / np.maximum(bad.sum(axis=1), 1e-12)


def drawn(tested: Tested, resamples: int) -> np.ndarray:
    """How often each photo counts, [1 + resamples, N]: as it is, then with parts drawn anew. The same for all
    candidates of a split."""
    seed = int.from_bytes(tested.split.encode()[:8], "big")
    rng = np.random.default_rng(seed)
    parts = rng.multinomial(tested.count, np.full(tested.count, 1 / tested.count), resamples)
    return np.concatenate([np.ones((1, tested.count), int), parts])[:, tested.parts]


def interval(values: np.ndarray) -> Dict[str, float]:
    """Of a figure as it is and resampled, [1 + R]."""
    low, high = np.quantile(values[1:], ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def resampled(
    documents: Sequence[Document], figure: str = "I-AUROC", source: Optional[str] = None
) -> np.ndarray:
    """Mean over the documents, [1 + R]; ``figure`` is I-AUROC or "caught at RATE"."""
    rows = []
    for document in documents:
        tested = Tested(document, source)
        weights = drawn(tested, RESAMPLES)
        if figure == "I-AUROC":
            rows.append(tested.aurocs(weights))
        else:
            rows.append(tested.caught(weights, float(figure.split()[-1])))
    return np.mean(rows, axis=0)


def summary(documents: Sequence[Document]) -> Dict[str, Any]:
    """A candidate's figures: of what its verdict is by, with intervals; means of what has none;
    AUPRO None without masks."""
    by_document = [float(Tested(one).aurocs(np.ones((1, len(one["labels"]))))[0]) for one in documents]
    found: Dict[str, Any] = {
        "runs": len(documents),
        "I-AUROC": interval(resampled(documents)),
        "deviation": float(np.std(by_document, ddof=1)) if len(by_document) > 1 else 0.0,
        "I-AUROC by map": float(resampled(documents, source="map_max")[0]),
        "I-AUROC by score": float(resampled(documents, source="score")[0]),
        "AUPRO": None if None in (known := [one["AUPRO"] for one in documents]) else float(np.mean(known)),
        "seconds": {
            device: float(np.median([one["seconds"] for one in documents if one["device"] == device]))
            for device in sorted({one["device"] for one in documents})
        },
    }
    for rate in RATES:
        found[f"caught at {rate}"] = interval(resampled(documents, f"caught at {rate}"))
    return found


def difference(ours: Sequence[Document], theirs: Sequence[Document]) -> Dict[str, float]:
    """``ours`` less ``theirs`` in I-AUROC, paired by parts."""
    return interval(resampled(ours) - resampled(theirs))


def score_against_map(documents: Sequence[Document]) -> Dict[str, float]:
    """The classification score's I-AUROC less the map maximum's of the same runs."""
    return interval(resampled(documents, source="score") - resampled(documents, source="map_max"))

