"""The published timing protocols, for one contender or for several in turn.

One call after the other, each from images in host memory to map and score in host memory.
Absolute times on a shared machine mean little, so several contenders alternate: every round calls
all of them in a new random order, and comparisons are made within rounds (:mod:`.comparison.ratios`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

MIN_WARM_UP, MIN_ROUNDS = 3, 10
"""However short the budget."""

WARM_UP_SHARE = 0.25
"""Of a shortened run's time."""

CHECKS = 40
"""How often in a run the machine itself is timed (:func:`yardstick`)."""


@dataclass(frozen=True)
class Protocol:
    """``warm_up`` and then ``timed`` calls, ``cycles`` times over; the first of several cycles is
    dropped. ``throughput_batch``: images a call in a second phase, None for no such phase."""

    name: str
    warm_up: int
    timed: int
    cycles: int
    throughput_batch: Optional[int]
    source: str


PROTOCOLS: Dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            "efficientad", 1000, 1000, 1, None,
            "EfficientAD (WACV 2024): 2000 calls, the last 1000 averaged, one frame at a time",
        ),
        Protocol(
            "supersimplenet", 1000, 1000, 6, 16,
            "SuperSimpleNet's published code (supplement A.1): 1000 warm-up and 1000 timed calls, six "
            "cycles, the first dropped; throughput in batches of 16",
        ),
    )
}


class Call(NamedTuple):
    """What is timed: ``run`` returns when its results are in host memory; ``device_ms`` asks the GPU's
    own clock how long the last one took, where there is one."""

    run: Callable[[], object]
    device_ms: Optional[Callable[[], float]] = None


class Samples(NamedTuple):
    """Milliseconds of the kept calls, ``wall`` [rounds] by contender and ``device`` likewise where a GPU
    told; ``cycles`` [number] says which cycle a round belongs to. ``machine`` [checks]: see
    :func:`yardstick`."""

    wall: Dict[str, np.ndarray]
    device: Dict[str, np.ndarray]
    cycles: np.ndarray
    machine: np.ndarray
    warm_up: int
    shortened: bool


def measure(
    calls: Mapping[str, Call],
    protocol: Protocol,
    budget_s: Optional[float] = None,
    seed: int = 0,
    on_progress: Callable[[float], object] = lambda share: None,
) -> Samples:
    """Time every call by the protocol, alternating in random order.

    Among several, each is called twice and the second call timed: worker threads of the library
    before it go on spinning for a while, and the caches are the other's. ``budget_s`` makes it one
    cycle of about that length, never more than the protocol's counts; ``on_progress`` gets the share done.
    """
    rounds = _Alternating(calls, np.random.default_rng(seed))
    cycles = 1 if budget_s else protocol.cycles
    first = 1 if cycles > 1 else 0
    warm_share = WARM_UP_SHARE if budget_s else 0.5
    warmed = done = 0
    for cycle in range(cycles):
        def progress(share: float, cycle: int = cycle) -> None:
            on_progress((cycle + share) / cycles)

        warmed = _rounds(
            rounds.untimed, protocol.warm_up, MIN_WARM_UP, budget_s and warm_share * budget_s,
            lambda share: progress(warm_share * share),
        )
        done = _rounds(
            partial(rounds.timed, cycle) if cycle >= first else rounds.untimed,
            protocol.timed, MIN_ROUNDS, budget_s and (1 - warm_share) * budget_s,
            lambda share: progress(warm_share + share * (1 - warm_share)), rounds.check,
        )
    return Samples(
        wall={name: np.array(ms) for name, ms in rounds.wall.items()},
        device={name: np.array(ms) for name, ms in rounds.device.items()},
        cycles=np.array(rounds.cycles),
        machine=np.array(rounds.machine),
        warm_up=warmed,
        shortened=done < protocol.timed or warmed < protocol.warm_up or cycles < protocol.cycles,
    )


class _Alternating:
    """Rounds in which every call has its turn, and what the timed ones took."""

    def __init__(self, calls: Mapping[str, Call], rng: np.random.Generator) -> None:
        self._calls, self._rng = calls, rng
        self.wall: Dict[str, List[float]] = {name: [] for name in calls}
        self.device: Dict[str, List[float]] = {name: [] for name in calls if calls[name].device_ms}
        self.cycles: List[int] = []
        self.machine: List[float] = []

    def _turns(self) -> Iterator[Tuple[str, Call, float]]:
        names = list(self._calls)
        for index in self._rng.permutation(len(names)):
            call = self._calls[names[index]]
            if len(names) > 1:
                call.run()
            start = time.perf_counter_ns()
            call.run()
            yield names[index], call, (time.perf_counter_ns() - start) / 1e6

    def untimed(self) -> None:
        for _ in self._turns():
            pass

    def timed(self, cycle: int) -> None:
        for name, call, elapsed_ms in self._turns():
            self.wall[name].append(elapsed_ms)
            if call.device_ms:
                self.device[name].append(call.device_ms())
        self.cycles.append(cycle)

    def check(self) -> None:
        """Time the machine itself, then let everything settle again."""
        self.machine.append(yardstick())
        for call in self._calls.values():
            call.run()


def _rounds(
    one_round: Callable[[], object], count: int, least: int, budget_s: Optional[float],
    on_progress: Callable[[float], object], check: Callable[[], object] = lambda: None,
) -> int:
    """``count`` rounds, or at least ``least`` until the budget is spent; returns how many.

    ``check`` is called about :data:`CHECKS` times, between rounds.
    """
    start = time.perf_counter()
    checked = -1
    for done in range(count):
        spent = 0.0 if not budget_s else (time.perf_counter() - start) / budget_s
        if done >= least and spent >= 1:
            return done
        share = max(done / count, min(spent, 1.0))
        on_progress(share)
        if int(share * CHECKS) > checked:
            checked = int(share * CHECKS)
            check()
        one_round()
    on_progress(1.0)
    return count


_SQUARE = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)


def yardstick() -> float:
    """Milliseconds of a fixed matrix product [256, 256]^2 in NumPy, the best of five.

    Tells how fast the CPU is at this moment, so that two runs at different moments can be
    compared (``ssn-bench --compare``).
    """
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter_ns()
        _SQUARE @ _SQUARE
        best = min(best, (time.perf_counter_ns() - start) / 1e6)
    return best


def summary(ms: np.ndarray, cycles: np.ndarray, batch: int) -> Dict[str, Any]:
    """Median, mean (what the papers report) and spread of one contender's milliseconds.

    ``deviation_ms`` is over calls, ``cycle_deviation_ms`` over the cycles' means as published.
    """
    means = [float(ms[cycles == cycle].mean()) for cycle in np.unique(cycles)]
    low, high = np.quantile(ms, (0.25, 0.75))
    return {
        "batch": batch,
        "repetitions": len(ms),
        "median_ms": float(np.median(ms)),
        "lower_quartile_ms": float(low),
        "upper_quartile_ms": float(high),
        "mean_ms": float(ms.mean()),
        "deviation_ms": float(ms.std()),
        "cycle_deviation_ms": float(np.std(means)) if len(means) > 1 else None,
        "p99_ms": float(np.quantile(ms, 0.99)),
        "min_ms": float(ms.min()),
        "images_per_second": float(1e3 * batch / ms.mean()),
    }


SELF_TEST_LIMIT = 0.02


def self_test(lengths_ms: Tuple[float, ...] = (2.0, 10.0, 50.0), rounds: int = 20) -> Dict[str, float]:
    """The harness on sleeps of known length, all in one interleaved run: median over length, by length."""
    calls = {f"{ms:g} ms": Call(partial(sleep_exactly, ms)) for ms in lengths_ms}
    protocol = Protocol("self-test", 2, rounds, 1, None, "sleeps of known length")
    found = measure(calls, protocol).wall
    return {f"{ms:g} ms": float(np.median(found[f"{ms:g} ms"])) / ms for ms in lengths_ms}


WAKE_MS = 3.0
"""A system may wake a sleeper so much too late."""


def sleep_exactly(ms: float) -> None:
    """So long by another clock than the harness's, where there is one: the last part is waited for awake,
    since systems wake sleepers late, by 6 % of 2 ms on one machine."""
    other = getattr(time, "CLOCK_MONOTONIC_RAW", None)
    clock = time.perf_counter if other is None else partial(time.clock_gettime, other)
    end = clock() + ms / 1e3
    time.sleep(max(0.0, ms - WAKE_MS) / 1e3)
    while clock() < end:
        pass
