"""Parts watched for a calibration: what the model says of each shot, and pictures of those that stand out."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Callable, Iterator, List, Mapping, Optional, Pattern, Set, Tuple

import cv2
import numpy as np

from ssn_edge.detector import Detector
from ssn_edge.errors import InputError
from ssn_edge.frames.pixels import to_bgr8
from ssn_edge.line import stream
from ssn_edge.line.results import Result, Summary
from ssn_edge.model.schema import Verdict
from ssn_edge.part_names import part_of
from ssn_edge.sources import Frame, Source
from ssn_edge.verdict import calibrating
from ssn_edge.verdict.drawing import heatmap

KEPT = 12
"""Pictures of those that stand out."""

THUMBNAIL = 170
"""Their height, in pixels."""


@dataclass
class Observed:
    """Shots in their order: ``names``, ``scores``, ``map_max``, and the ``parts`` that they show ("": one of
    its own). ``unit``: what a part is. ``incomplete``: parts left out since not all of their shots could be
    judged. ``pictures``: (number, name, BGR) of the KEPT shots that stand out,
    the most telling first."""

    names: List[str] = field(default_factory=list)
    scores: List[float] = field(default_factory=list)
    map_max: List[float] = field(default_factory=list)
    parts: List[str] = field(default_factory=list)
    unit: str = "parts"
    incomplete: int = 0
    pictures: List[Tuple[float, str, np.ndarray]] = field(default_factory=list)

    def arrays(self) -> Tuple[np.ndarray, np.ndarray]:
        """``scores`` and ``map_max``, float32 [N]."""
        return np.array(self.scores, np.float32), np.array(self.map_max, np.float32)

    def numbers(self, verdict: Verdict) -> np.ndarray:
        """One number a part, as the verdict compares them, float64 [n]."""
        shots = calibrating.numbers(verdict.source, verdict.scales, *self.arrays())
        return calibrating.by_part(shots, self.parts)


class Watch:
    """Takes the stream's results of up to ``most`` parts (None: all that come). Of a source that ends all
    shots of these parts are taken, wherever they come; of a ``live`` one it stops behind them, and a part's
    shots must come one behind the other, since what is missing of a part would lower its number."""

    def __init__(
        self, detector: Detector, expression: Optional[Pattern[str]], most: Optional[int],
        stop: threading.Event, on_shot: Callable[[int, int], object], lowest: bool = False,
        live: bool = False,
    ):
        self.observed, self.enough = Observed(), False
        self._detector, self._expression, self._most, self._stop = detector, expression, most, stop
        self._on_shot, self._sign, self._live = on_shot, -1.0 if lowest else 1.0, live
        self._seen: Set[str] = set()
        self._last: str = ""
        self._count = 0
        self._heap: List[Tuple[float, int, str, np.ndarray]] = []

    def __call__(self, result: Result) -> None:
        """After each judged frame. InputError for a name that tells no part."""
        part = part_of(self._expression, result.frame.name) if self._expression else ""
        if self.enough or not self._wanted(part):
            return
        seen, said = self.observed, result.detection
        seen.names.append(result.frame.name)
        seen.scores.append(said.score)
        seen.map_max.append(said.map_max)
        seen.parts.append(part)
        self._picture(result)
        self._on_shot(self._count, len(seen.names))
        if not self._expression and self._count == self._most:
            self._end()

    def _wanted(self, part: str) -> bool:
        """Whether a shot of ``part`` counts; ends the stream where it is the first of one too many."""
        known, again = part in self._seen, part != self._last
        if known and again and self._live:
            raise InputError(
                f"part {part}: a photo of it came after those of others; let a part's photos come one behind "
                "the other, or calibrate on a folder of them"
            )
        if not known and self._most is not None and self._count >= self._most:
            if self._live or not self._expression:
                self._end()
            return False
        self._last = part
        self._count += not known
        if part:
            self._seen.add(part)
        return True

    def _end(self) -> None:
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

    def done(self, unit: str, taken: Mapping[str, int]) -> Observed:
        """What was seen, with its pictures in order, but for parts of which not all shots were judged:
        ``taken`` counts those that came."""
        seen = self.observed
        seen.unit = unit
        judged = Counter(seen.parts)
        short = {part for part in judged if part and judged[part] < taken.get(part, 0)}
        if short:
            kept = [i for i, part in enumerate(seen.parts) if part not in short]
            for name in ("names", "scores", "map_max", "parts"):
                values = getattr(seen, name)
                setattr(seen, name, [values[i] for i in kept])
        seen.incomplete = len(short)
        names = set(seen.names)
        seen.pictures = [
            (self._sign * number, name, picture)
            for number, _, name, picture in sorted(self._heap, reverse=True) if name in names
        ]
        return seen


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
    stop = threading.Event()
    kinds: Set[str] = set()
    taken: Counter[str] = Counter()
    taker = Watch(detector, expression, most, stop, on_shot, lowest, source.live)

    def counted(ended: threading.Event) -> Iterator[Frame]:
        for frame in source.open(ended):
            if expression is not None:
                with contextlib.suppress(InputError):  # said when it is judged
                    taken[part_of(expression, frame.name)] += 1
            yield frame

    def on_result(result: Result) -> None:
        kinds.add(result.frame.kind)
        taker(result)

    frames = dataclasses.replace(source, open=counted)
    stream.run(frames, detector, on_result=on_result, stop=stop, summary=summary)
    still = (source.files or source.name.startswith("watch:")) and "video" not in kinds
    unit = "parts" if expression else "photos" if still else "frames"
    return taker.done(unit, taken), taker.enough or not stop.is_set()
