"""A threshold chosen by hand on a calibration's numbers: what can still be said of it, and it as one.

The promise of an order statistic holds where the statistic was fixed before anybody looked. A threshold that
was chosen after looking has an estimate instead, which holds for every limit at once
(:func:`ssn_edge.verdict.promise.estimate_at`).
"""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames.placement import View
from ssn_edge.model.schema import Verdict
from ssn_edge.verdict import calibrating, promise
from ssn_edge.verdict.calibrating import SLACK
from ssn_edge.verdict.calibration import Calibration
from ssn_edge.verdict.judge import not_below
from ssn_edge.verdict.promise import NOTES

SET = "set by hand"


def moved(one: Calibration, threshold: float) -> Verdict:
    """The verdict of a calibration with another threshold: of the score, or of the map's maximum where that
    alone counts. With "either" the map's follows, so that both stand at one number; its method says what is
    estimated of sound parts there. A value that reaches the threshold is NG.

    InputError for a threshold that is not finite, and for a score's outside 0..1.
    """
    source = next(iter(one.verdict.thresholds))
    if not math.isfinite(threshold) or source == "score" and not 0 <= threshold <= 1:
        wanted = "0 to 1" if source == "score" else "a finite number"
        raise InputError(f"threshold {threshold:g}: give {wanted}")
    limit = limit_of(one, source, threshold)
    return one.at(limit, f"{SET}: {words(one, limit)}; {promise.GUARANTEE}")


def limit_of(one: Calibration, source: str, threshold: float) -> float:
    """The largest limit above which, by a calibration's numbers, all is that reaches ``threshold`` of
    ``source``: just below that value's own number. Infinity where no score reaches it."""
    value = not_below(threshold)
    if one.verdict.source != "either":
        return float(np.nextafter(value, -np.inf))
    if source == "map_max":
        _, _, middle, spread = calibrating.needed(one.verdict.scales)
        number = (value - middle) / spread
    elif value > 1:
        return math.inf
    else:  # -inf: a map that says nothing
        both = np.array([value]), np.array([-np.inf])
        number = float(calibrating.numbers("either", one.verdict.scales, *both)[0])
    return number - 3 * SLACK * max(1.0, abs(number))  # below what calibrating takes for a tie


def limit_of_verdict(one: Calibration, verdict: Verdict) -> float:
    """The limit above which all is that ``verdict``, of the calibration's source, calls NG: the lower of two
    thresholds that do not stand at one number."""
    return min(limit_of(one, source, threshold) for source, threshold in verdict.thresholds.items())


def words(one: Calibration, limit: float) -> str:
    """What is estimated of sound parts with a limit, and how."""
    promised = one.promise
    unit = f"{promised.unit}{NOTES.get(promised.unit, '')}"
    if one.most_shots > 1:
        unit = f"{unit}, of up to {one.most_shots} photos"
    others = "; of other heads than the shipped ones" if one.kind == "estimate" else ""
    return (
        f"at most {promise.per_cent(one.estimate(limit))} of sound {promised.unit} (estimate: "
        f"{promise.sure(promised.confidence)} confidence for every position at once, by the inequality of "
        f"Dvoretzky, Kiefer and Wolfowitz; {promised.n} {unit}{others})"
    )


def saved(one: Calibration, verdict: Verdict, name: str, view: View) -> Calibration:
    """A verdict that was set by hand on ``one`` as a calibration, for frames of ``view``: the numbers are
    those of ``one``, the order statistic the nearest that is not above the threshold; its method is the
    estimate. An estimate from other heads stays one.

    InputError for a name that is none.
    """
    limit = limit_of_verdict(one, verdict)
    above = int(np.sum(np.array(one.values) > limit))
    verdict = dataclasses.replace(verdict, method=f"{SET}: {words(one, limit)}; {promise.GUARANTEE}")
    return dataclasses.replace(
        one, name=name, verdict=verdict, kind="estimate" if one.kind == "estimate" else "by hand",
        promise=dataclasses.replace(one.promise, k=min(above + 1, one.promise.n)), view=view, defects=None,
        date=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )
