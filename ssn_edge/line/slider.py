"""The live page's slider: where the promise stands, what is estimated anywhere else, and saving a position.

It moves the calibration's limit, so that of two thresholds the other follows, and goes back to the mark with
the promise's own words. Without a calibration whose numbers hold here it moves one threshold, and nothing is
known.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

from ssn_edge.detector import BY_HAND, Detector
from ssn_edge.errors import InputError
from ssn_edge.line.stream import log
from ssn_edge.model.schema import Verdict
from ssn_edge.verdict import by_hand, in_bundle, promise
from ssn_edge.verdict.calibration import Calibration
from ssn_edge.verdict.in_bundle import InUse
from ssn_edge.verdict.judge import not_below

NO_NUMBERS = (
    "no promise is known: there are no numbers of sound parts for this model; calibrate its bundle with "
    "ssn-calibrate"
)
NO_TOKEN = "to save this position into the bundle, start ssn-run with --token"


class _Shown(NamedTuple):
    """What was last described, by identity: a stream asks with every frame."""

    verdict: Verdict
    calibration: Optional[InUse]
    figures: Dict[str, Any]


class Slider:
    """Moves the thresholds of ``detector`` for all who look. ``token``: whether they had to show one, without
    which nothing is saved."""

    def __init__(self, detector: Detector, token: bool):
        self._detector, self._token = detector, token
        self._opened = detector.info.verdict
        self._saving = threading.Lock()
        self._shown: Optional[_Shown] = None

    @property
    def known(self) -> Optional[Calibration]:
        """The calibration whose numbers hold for what runs, or None."""
        found = self._detector.calibration
        if found is None or found.misfit or found.calibration.kind == "none":
            return None
        return found.calibration

    @property
    def own(self) -> Verdict:
        """Where the mark is: the calibration's verdict, or without one what the model was opened with."""
        found = self._detector.calibration
        return self._opened if found is None else found.verdict

    def figures(self) -> Dict[str, Any]:
        """Where it stands, as the page shows it: :meth:`_position` of the verdict in force, and ``source``,
        ``calibration`` (its name), ``own`` (the mark's threshold), ``mark`` (the calibration's kind where its
        numbers hold, else "") and ``unsaved`` (why a position cannot be saved, or "")."""
        verdict, found = self._detector.info.verdict, self._detector.calibration
        shown = self._shown
        if shown is None or shown.verdict is not verdict or shown.calibration is not found:
            known = self.known
            shown = _Shown(verdict, found, {
                **self._position(verdict), "source": verdict.source,
                "calibration": found.calibration.name if found else "", "own": self.own.image_threshold,
                "mark": "" if known is None else known.kind, "unsaved": self._unsaved(),
            })
            self._shown = shown
        return shown.figures

    def at(self, threshold: float) -> Dict[str, Any]:
        """What would be shown there: :meth:`_position`. InputError or ModelError for what is no threshold."""
        return self._position(self._verdict(threshold))

    def move(self, threshold: float) -> None:
        """Judge from there on; at the mark by exactly what the mark stands for. InputError or ModelError for
        what is no threshold."""
        if self.known is None and not self._is_own(threshold):
            self._detector.set_threshold(threshold)
        else:
            self._detector.judge_by(self._verdict(threshold))

    def save(self, name: str, threshold: float) -> str:
        """Write the position as a calibration into the bundle and go on with it; its name, which is made of
        date and time where none is given. ``threshold`` is what whoever saves it sees.

        InputError where that is not allowed, the name is taken, the slider has been moved meanwhile, or the
        bundle cannot be written.
        """
        if not self._saving.acquire(blocking=False):
            raise InputError("another page is saving; try again")
        try:
            one = self._calibration(name or time.strftime("live-%Y%m%d-%H%M%S"), threshold)
            in_bundle.add(self._bundle(), one, log.info, self._detector.info)
            self._detector.judge_by(one.verdict, one)
        except InputError as error:  # names an option of ssn-calibrate
            raise InputError(str(error).replace("--name", "name", 1)) from None
        finally:
            self._saving.release()
        log.info("saved the slider's position as the calibration %s of %s", one.name, self._bundle())
        return one.name

    def _calibration(self, name: str, threshold: float) -> Calibration:
        known, verdict = self.known, self._detector.info.verdict
        if known is None or self._unsaved():
            raise InputError(self._unsaved())
        if not_below(threshold) != not_below(verdict.image_threshold):
            raise InputError(f"the slider was moved to {verdict.image_threshold:.4g} meanwhile; save again")
        if _same(verdict, self.own):
            raise InputError(f"this is where {known.name} stands already; move the slider first")
        return by_hand.saved(known, verdict, name, self._detector.view)

    def _bundle(self) -> Path:
        """Only a bundle has calibrations, and its files lie in it."""
        return self._detector.path.parent

    def _unsaved(self) -> str:
        if self.known is None:
            return "nothing to save: no promise is known here"
        return "" if self._token else NO_TOKEN

    def _is_own(self, threshold: float) -> bool:
        return not_below(threshold) == not_below(self.own.image_threshold)

    def _verdict(self, threshold: float) -> Verdict:
        """What the slider stands for there."""
        if self._is_own(threshold):
            return self.own
        if self.known is None:
            return dataclasses.replace(self._detector.info.verdict, image_threshold=threshold)
        return by_hand.moved(self.known, threshold)

    def _position(self, verdict: Verdict) -> Dict[str, Any]:
        """Of a verdict: ``threshold``, ``map_threshold`` (None: there is but one), ``promise``, the words
        that hold there, ``estimate``, the share of sound parts in them (None: it is none), and ``at_own``,
        whether this is the mark."""
        known, at_own = self.known, _same(verdict, self.own)
        share: Optional[float] = None
        if known is None:
            words = self._unknown(at_own)
        elif at_own:
            words = verdict.method
        else:
            limit = by_hand.limit_of_verdict(known, verdict)
            share = known.estimate(limit)
            words = f"{by_hand.words(known, limit)}; {promise.GUARANTEE}"
        return {
            "threshold": verdict.image_threshold, "map_threshold": verdict.map_threshold, "promise": words,
            "estimate": share, "at_own": at_own,
        }

    def _unknown(self, at_own: bool) -> str:
        said = self.own.method
        if said.startswith("no promise"):
            return said
        told = at_own and said != BY_HAND
        return f"no promise is known; the file says of its threshold: {said}" if told else NO_NUMBERS


def _same(one: Verdict, other: Verdict) -> bool:
    return (one.thresholds, one.pixel_threshold) == (other.thresholds, other.pixel_threshold)
