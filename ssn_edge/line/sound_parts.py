"""Parts watched for a calibration: what the model says of each shot, and pictures of those that stand out."""

from __future__ import annotations

import heapq
import threading
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Pattern, Tuple

import cv2
import numpy as np

from ssn_edge.detector import Detector
from ssn_edge.frames.pixels import to_bgr8
from ssn_edge.line import stream
from ssn_edge.line.results import Result, Summary
from ssn_edge.model.schema import Verdict
from ssn_edge.part_names import part_of
from ssn_edge.sources import Source
from ssn_edge.verdict import calibrating
from ssn_edge.verdict.drawing import heatmap

KEPT = 12
"""Pictures of those that stand out."""

THUMBNAIL = 170
"""Their height, in pixels."""


@dataclass
class Observed:
    """Shots in their order: ``names``, ``scores``, ``map_max``, and the ``parts`` that they show ("": one of
    its own). ``unit``: what a part is. ``pictures``: (number, name, BGR) of the KEPT shots that stand out,
    the most telling first."""

    names: List[str] = field(default_factory=list)
    scores: List[float] = field(default_factory=list)
    map_max: List[float] = field(default_factory=list)
    parts: List[str] = field(default_factory=list)
    unit: str = "parts"
    pictures: List[Tuple[float, str, np.ndarray]] = field(default_factory=list)

    def arrays(self) -> Tuple[np.ndarray, np.ndarray]:
        """``scores`` and ``map_max``, float32 [N]."""
        return np.array(self.scores, np.float32), np.array(self.map_max, np.float32)

    def numbers(self, verdict: Verdict) -> np.ndarray:
        """One number a part, as the verdict compares them, float64 [n]."""
        shots = calibrating.numbers(verdict.source, verdict.scales, *self.arrays())
        return calibrating.by_part(shots, self.parts)


class Watch:
    """Takes the stream's results until ``most`` parts were seen whole (None: all that come)."""

    def __init__(
        self, detector: Detector, expression: Optional[Pattern[str]], most: Optional[int],
        stop: threading.Event, on_shot: Callable[[int, int], object], lowest: bool = False,
    ):
        self.observed, self.enough = Observed(), False
        self._detector, self._expression, self._most, self._stop = detector, expression, most, stop
        self._on_shot, self._sign = on_shot, -1.0 if lowest else 1.0
        self._seen: Dict[str, int] = {}
        self._count = 0
        self._heap: List[Tuple[float, int, str, np.ndarray]] = []

    def __call__(self, result: Result) -> None:
        """After each judged frame. InputError for a name that tells no part."""
        if self.enough:
            return
        part = part_of(self._expression, result.frame.name) if self._expression else ""
        if not part or part not in self._seen:
            if self._most is not None and self._count >= self._most:
                self.enough = True
                self._stop.set()
                return
            self._count += 1
            self._seen[part] = self._count
        seen, said = self.observed, result.detection
        seen.names.append(result.frame.name)
        seen.scores.append(said.score)
        seen.map_max.append(said.map_max)
        seen.parts.append(part)
        self._picture(result)
        self._on_shot(self._count, len(seen.names))
        if not self._expression and self._count == self._most:
            self.enough = True
            self._stop.set()

    def _picture(self, result: Result) -> None:
        verdict, said = self._detector.info.verdict, result.detection
        (number,) = calibrating.numbers(
            verdict.source, verdict.scales, np.array([said.score]), np.array([said.map_max])
        )
        rank = (self._sign * float(number), -len(self.observed.names))
        if len(self._heap) < KEPT or rank > self._heap[0][:2]:
            item = (*rank, result.frame.name, _thumbnail(result, verdict.pixel_threshold))
            (heapq.heappush if len(self._heap) < KEPT else heapq.heapreplace)(self._heap, item)

    def done(self, unit: str) -> Observed:
        """What was seen, with its pictures in order."""
        self.observed.unit = unit
        self.observed.pictures = [
            (self._sign * number, name, picture) for number, _, name, picture in sorted(self._heap,
            reverse=True)
        ]
        return self.observed


def _thumbnail(result: Result, pixel_threshold: float) -> np.ndarray:
    """The frame beside its map, BGR [THUMBNAIL, W, 3]; the mask's threshold is the middle of the colours."""
    image, said = result.frame.image, result.detection
    assert image is not None
    photo = to_bgr8(image, bits=said.placement.bits)
    low = float(np.median(said.anomaly_map))
    anomaly_map = said.placement.to_frame(said.anomaly_map, outside=low)
    width = max(1, round(photo.shape[1] * THUMBNAIL / photo.shape[0]))
    size = (min(width, 3 * THUMBNAIL), THUMBNAIL)
    shown = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    return np.hstack([shown, cv2.resize(heatmap(anomaly_map, low, 2 * pixel_threshold - low), size)])


def watch(
    source: Source, detector: Detector, expression: Optional[Pattern[str]] = None,
    most: Optional[int] = None, on_shot: Callable[[int, int], object] = lambda parts, shots: None,
    lowest: bool = False, summary: Optional[Summary] = None,
) -> Tuple[Observed, bool]:
    """What the model says of the source's parts, and whether it was seen to its end, or ``most`` parts were,
    rather than stopped by a signal.

    ``expression``: which part a frame's name tells (:mod:`ssn_edge.part_names`); ``most``: end after so many
    parts; ``on_shot(parts, shots)`` is told how many there are. Pictures are kept of the shots with the
    highest numbers, or the lowest. Errors as of :func:`ssn_edge.line.stream.run`.
    """
    stop, kinds = threading.Event(), set()
    taker = Watch(detector, expression, most, stop, on_shot, lowest)

    def on_result(result: Result) -> None:
        kinds.add(result.frame.kind)
        taker(result)

    stream.run(source, detector, on_result=on_result, stop=stop, summary=summary)
    still = (source.files or source.name.startswith("watch:")) and "video" not in kinds
    unit = "parts" if expression else "photos" if still else "frames"
    return taker.done(unit), taker.enough or not stop.is_set()
