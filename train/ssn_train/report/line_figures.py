"""What a line asks of a test set, counted in parts: false alarms where all or nearly all defects are caught,
and what the model's own threshold does. No torch.

A part alarms where any of its photos is NG, so its number is the largest of its photos'. Sound is a part
whose photos are all good, defective one with a defective photo. Of a defective part the defective photos
count: its good ones count neither way, since an alarm there is no false one of the line, and none is no miss.

Intervals are percentile bootstraps over parts, sound and defective ones resampled apart. A resample of n
parts need not be drawn part by part: how many of it alarm is binomial, and its j-th smallest number is the
one at floor(n B) of all sorted ones, with B ~ Beta(j, n + 1 - j), as the j-th smallest of n uniform numbers.
Where none or all of n alarm the resamples may all say the same; then Clopper's and Pearson's interval counts
if it is wider.

Where the recall allows no miss (100 %, and 99 % of fewer than 100 defective parts) the threshold is the worst
ranked defective part's number. No resample holds a worse one, but defects to come may: the true share is
above the upper end in 3 to 5 of 10 simulated test sets, so it is called open (tests/ssn_train/report).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from ssn_edge.verdict import calibrating, promise

CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 0

RECALLS = {"FPR at 100 % recall": 1.0, "FPR at 99 % recall": 0.99}
FPR, RECALL = "FPR at the threshold", "recall at the threshold"
NAMES = (*RECALLS, FPR, RECALL)
"""Of the figures: keys in the document, and names that a table's metrics may have."""

Rate = Optional[Dict[str, Any]]
"""``share`` = ``count`` / ``of``, from ``low`` to ``high`` by method ``interval``; None: no such parts."""


@dataclass(frozen=True)
class Parts:
    """``numbers`` float64 [P], ``called`` bool [P] and ``defective`` bool [P] of P parts; ``several``: how
    many have more than one photo; ``left_out``: good photos of defective parts."""

    numbers: np.ndarray
    called: np.ndarray
    defective: np.ndarray
    several: int
    left_out: int


def grouped(labels: np.ndarray, names: Sequence[str], numbers: np.ndarray, called: np.ndarray) -> Parts:
    """Parts of N photos, in the order of their first ones: ``labels`` [N] 0/1, ``names`` of the parts ("": a
    part of its own), ``numbers`` [N] finite, the higher the worse, ``called`` bool [N] the verdicts."""
    part = calibrating.indices(names)
    count = int(part.max(initial=-1)) + 1
    bad = np.asarray(labels) == 1
    defective = np.zeros(count, bool)
    defective[part[bad]] = True
    counted = bad | ~defective[part]
    highest = np.full(count, -np.inf)
    np.maximum.at(highest, part[counted], np.asarray(numbers, np.float64)[counted])
    alarms = np.zeros(count, bool)
    alarms[part[counted & np.asarray(called, bool)]] = True
    several = int((np.bincount(part, minlength=count) > 1).sum())
    return Parts(highest, alarms, defective, several, int((~counted).sum()))


def document(parts: Parts, ranking: str) -> Dict[str, Any]:
    """The figures for JSON, without NaN: None where the parts of one kind are missing. ``ranking`` says what
    the numbers are, and with them each ``threshold``: NG from it on."""
    sound, bad = parts.numbers[~parts.defective], parts.numbers[parts.defective]
    figures: Dict[str, Rate] = {name: at_recall(sound, bad, recall) for name, recall in RECALLS.items()}
    figures[FPR] = rate(int(parts.called[~parts.defective].sum()), len(sound))
    figures[RECALL] = rate(int(parts.called[parts.defective].sum()), len(bad))
    return {
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "ranking": ranking,
        "parts": {
            "sound": len(sound), "defective": len(bad), "with_several_photos": parts.several,
            "good_photos_of_defective": parts.left_out,
        },
        "figures": figures,
    }


def at_recall(sound: np.ndarray, defective: np.ndarray, recall: float) -> Rate:
    """How many of ``sound`` numbers [S] alarm at the highest threshold that catches ``recall`` of the
    ``defective`` [D]: one of theirs. What equals it alarms, as everywhere. ``open``: the upper end may be too
    low, see above."""
    if not len(sound) or not len(defective):
        return None
    ascending, others = np.sort(defective), np.sort(sound)
    place = len(ascending) - math.ceil(recall * len(ascending) - 1e-9)  # so many may be missed
    threshold = float(ascending[place])
    count = len(others) - int(np.searchsorted(others, threshold))
    rng = np.random.default_rng(SEED)
    places = rng.beta(place + 1, len(ascending) - place, RESAMPLES) * len(ascending)
    drawn = ascending[np.minimum(places.astype(np.int64), len(ascending) - 1)]
    alarming = 1 - np.searchsorted(others, drawn) / len(others)
    resampled = rng.binomial(len(others), alarming) / len(others)
    caught = len(ascending) - int(np.searchsorted(ascending, threshold))
    found = _with_interval(count, len(others), resampled)
    return {**found, "open": place == 0, "threshold": threshold, "caught": caught}


def rate(count: int, of: int) -> Rate:
    """``count`` of ``of`` parts at a threshold that was there before them."""
    if not of:
        return None
    return _with_interval(count, of, np.random.default_rng(SEED).binomial(of, count / of, RESAMPLES) / of)


def _with_interval(count: int, of: int, resampled: np.ndarray) -> Dict[str, Any]:
    low, high = np.quantile(resampled, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)).tolist()
    method = "bootstrap"
    if count in (0, of):
        exact_low, exact_high = promise.interval(count, of, CONFIDENCE)
        if exact_low < low or exact_high > high:
            method = "Clopper-Pearson"
        low, high = min(low, exact_low), max(high, exact_high)
    return {"share": count / of, "count": count, "of": of, "low": low, "high": high, "interval": method}


def shares(line: Optional[Mapping[str, Any]]) -> Dict[str, float]:
    """The shares of metrics.json's ``line`` by NAMES, without those that there are no parts for; none of
    a run from before there was one."""
    return {name: found["share"] for name, found in line["figures"].items() if found} if line else {}


def lines(line: Mapping[str, Any]) -> List[str]:
    """What the commands print: a line about the parts, and one for each figure."""
    parts = line["parts"]
    text = f"{parts['sound']} sound and {parts['defective']} defective parts"
    several = parts["with_several_photos"]
    text += f", {several} of them in several photos (one NG is enough)" if several else ", a photo each"
    if parts["good_photos_of_defective"]:
        text += f"; {parts['good_photos_of_defective']} good photos of defective parts count neither way"
    wide = len(str(max(parts["sound"], parts["defective"])))
    return [text, *(f"{name:24s}{_words(line, name, wide)}" for name in NAMES)]


def _words(line: Mapping[str, Any], name: str, wide: int) -> str:
    found = line["figures"][name]
    if found is None:
        return "     -    needs sound and defective parts" if name in RECALLS else "     -    no such parts"
    what = "defective parts caught" if name == RECALL else "sound parts alarm"
    counts = f"{found['count']:{wide}d} of {found['of']:{wide}d} {what:22s}"
    ends = f"{100 * found['low']:.1f} to {100 * found['high']:.1f} %"
    notes = [" or more"] if found.get("open") and found["high"] < 1 else []
    notes += [] if found["interval"] == "bootstrap" else [f" ({found['interval']})"]
    sure = f"{100 * line['confidence']:g} % interval"
    return f"{100 * found['share']:6.1f} %  {counts}  {sure} {ends}{''.join(notes)}"
