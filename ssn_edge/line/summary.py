"""What a stream tells: of one frame, and of all."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Deque, Dict

from ssn_edge.line.queues import Percentiles
from ssn_edge.line.sources import Frame
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
    not write, ``failed``.
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
    seconds: float = 0.0
    latency_ms: Percentiles = field(default_factory=Percentiles)
    detect_ms: Percentiles = field(default_factory=Percentiles)

    @property
    def complete(self) -> bool:
        """Nothing was lost: every frame judged, every result written."""
        lost = self.dropped + self.broken + self.stalls + sum(self.late.values()) + sum(self.failed.values())
        return lost == 0
