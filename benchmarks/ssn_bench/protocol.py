"""EfficientAD's timing protocol, as SuperSimpleNet's published code runs it (supplement A.1).

One frame at a time: warm-up repetitions apart, then timed ones, each from the image in host
memory to map and score back in host memory. Throughput the same way in batches of 16.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional

import numpy as np

REPETITIONS = 1000
THROUGHPUT_BATCH = 16
MIN_REPETITIONS = 10
WARM_UP_SHARE = 0.5  # of a shortened run's time


@dataclass(frozen=True)
class Timing:
    """Milliseconds of ``repetitions`` calls after ``warm_up`` ones; ``shortened`` by a budget."""

    batch: int
    repetitions: int
    warm_up: int
    shortened: bool
    median_ms: float
    mean_ms: float
    deviation_ms: float
    p99_ms: float
    min_ms: float
    images_per_second: float

    def to_dict(self) -> Dict[str, Any]:
        return dataclasses.asdict(self)


def measure(
    call: Callable[[], object],
    batch: int,
    budget_s: Optional[float] = None,
    repetitions: int = REPETITIONS,
    tick: Callable[[], object] = lambda: None,
) -> Timing:
    """Time ``call``, which must not return before its results are in host memory.

    The protocol's 1000 warm-up and 1000 timed calls; with ``budget_s`` fewer, so that both phases
    together take about that long (at least 10 timed calls), and marked as shortened.
    """
    clock = time.perf_counter_ns
    warm_up = _repeat(call, repetitions, budget_s and WARM_UP_SHARE * budget_s, tick)
    times: List[int] = []

    def timed() -> None:
        start = clock()
        call()
        times.append(clock() - start)

    _repeat(timed, repetitions, budget_s and (1 - WARM_UP_SHARE) * budget_s, tick)
    ms = np.asarray(times) / 1e6
    return Timing(
        batch=batch,
        repetitions=len(ms),
        warm_up=warm_up,
        shortened=len(ms) < REPETITIONS or warm_up < REPETITIONS,
        median_ms=float(np.median(ms)),
        mean_ms=float(ms.mean()),
        deviation_ms=float(ms.std()),
        p99_ms=float(np.quantile(ms, 0.99)),
        min_ms=float(ms.min()),
        images_per_second=float(1e3 * batch / ms.mean()),
    )


def _repeat(
    call: Callable[[], object], count: int, budget_s: Optional[float], tick: Callable[[], object]
) -> int:
    """Call up to ``count`` times, or until the budget is spent; returns how often."""
    end = None if budget_s is None else time.perf_counter() + budget_s
    for done in range(count):
        if end is not None and done >= MIN_REPETITIONS and time.perf_counter() > end:
            return done
        call()
        tick()
    return count
