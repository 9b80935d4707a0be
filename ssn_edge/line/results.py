"""What a stream reports of one frame and of all, and what takes it."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Deque, Dict, Protocol

from ssn_edge.errors import BackendError
from ssn_edge.files import finite
from ssn_edge.line.queues import Percentiles
from ssn_edge.sources import Frame
from ssn_edge.verdict.detection import Detection

GAPS_KEPT = 1000


@dataclass(frozen=True)
class Result:
    """One judged frame. ``number`` counts what the source gave, ``arrived`` is monotonic seconds,
    ``latency_ms`` from there to the verdict, waiting included."""

    number: int
    frame: Frame
    detection: Detection
    arrived: float
    latency_ms: float


@dataclass(frozen=True)
class Gap:
    """The source was lost at ``start`` (seconds since 1970) for ``seconds``."""

    start: float
    seconds: float
    reason: str


@dataclass
class Summary:
    """What became of the frames: ``captured == judged + dropped + broken`` once the stream has ended.

    ``problem``: the last broken frame's. By sink: results it was too slow for, ``late``, and results it could
    not write, ``failed``. Of the judged frames: ``doubted`` ones, those of files that hold ``several``
    pictures, and by format those that it cannot tell to be whole, ``untold``.
    """

    captured: int = 0
    judged: int = 0
    defects: int = 0
    dropped: int = 0
    broken: int = 0
    problem: str = ""
    stalls: int = 0
    gap_count: int = 0
    gaps: Deque[Gap] = field(default_factory=lambda: deque(maxlen=GAPS_KEPT))
    late: Dict[str, int] = field(default_factory=dict)
    failed: Dict[str, int] = field(default_factory=dict)
    doubted: int = 0
    several: int = 0
    untold: Dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    latency_ms: Percentiles = field(default_factory=Percentiles)
    detect_ms: Percentiles = field(default_factory=Percentiles)

    @property
    def complete(self) -> bool:
        """Nothing was lost: every frame judged, every result written."""
        lost = self.dropped + self.broken + self.stalls + sum(self.late.values()) + sum(self.failed.values())
        return lost == 0


def record(result: Result) -> Dict[str, Any]:
    """What is told of a frame, as JSON: times in seconds since 1970 and in ms, regions in its pixels."""
    frame, detection = result.frame, result.detection
    return {
        "frame": frame.name, "number": result.number, "time": frame.time, "score": detection.score,
        "map_max": detection.map_max, "is_defect": detection.is_defect,
        "regions": [vars(region) for region in detection.regions], "region_count": detection.region_count,
        "ms": round(detection.latency.total_ms, 3), "latency_ms": round(result.latency_ms, 3),
    }


NAME_LIMIT, NAME_KEPT = 8000, 600
"""A frame's name whose JSON has more bytes is cut to its last characters: 12 bytes each at most."""


def message(result: Result) -> str:
    """:func:`record` as one line of JSON: with null for what is not finite, since JSON has no NaN, and below
    16 kB whatever the frame's name."""
    document = record(result)
    if len(json.dumps(document["frame"])) > NAME_LIMIT:
        document["frame"] = "..." + document["frame"][-NAME_KEPT:]
    return json.dumps(finite(document), allow_nan=False)


class Lost(BackendError):
    """``count`` results that a sink had taken did not get to where they belong."""

    def __init__(self, text: str, count: int):
        super().__init__(text)
        self.count = count


class Sink(Protocol):
    """Where results go: ``write`` is called for every one of them in a thread of the sink's own, ``close``
    always. Both may take their time, and may raise: that is counted, and the line goes on."""

    name: str

    def write(self, result: Result) -> None:
        """Take one result."""
        ...

    def close(self) -> None:
        """Write what is left, and give everything back."""
        ...
