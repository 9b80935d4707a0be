"""The published timing protocols, for one contender or for several in turn.

One call after the other, each from images in host memory to map and score in host memory.
Absolute times on a shared machine mean little, so several contenders alternate: every round calls
all of them in a new random order, and comparisons are made within rounds (:mod:`ssn_bench.ratios`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

MIN_ROUNDS = 10
"""However short the budget."""

WARM_UP_SHARE = 0.25
"""Of a shortened run's time."""

CHECKS = 40
"""How often in a run the machine itself is timed (:data:`Yardstick`)."""


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
    tick: Callable[[float], object] = lambda share: None,
) -> Samples:
    """Time every call by the protocol, alternating in random order.

    Among several, each is called twice and the second call timed: worker threads of the library
    before it go on spinning for a while, and the caches are the other's. ``budget_s`` makes it one
    cycle of about that length, never more than the protocol's counts; ``tick`` gets the share done.
    """
    rng = np.random.default_rng(seed)
    names = list(calls)
    wall: Dict[str, List[float]] = {name: [] for name in names}
    device: Dict[str, List[float]] = {name: [] for name in names if calls[name].device_ms}
    machine: List[float] = []
    cycle_of: List[int] = []
    cycles = 1 if budget_s else protocol.cycles
    dropped = 1 if cycles > 1 else 0
    primes = len(names) > 1
    warmed = 0

    def one_round(cycle: Optional[int]) -> None:
        for index in rng.permutation(len(names)):
            name, call = names[index], calls[names[index]]
            if primes:
                call.run()
            start = time.perf_counter_ns()
            call.run()
            elapsed = time.perf_counter_ns() - start
            if cycle is not None:
                wall[name].append(elapsed / 1e6)
                if call.device_ms:
                    device[name].append(call.device_ms())
        if cycle is not None:
            cycle_of.append(cycle)

    def settle() -> None:
        for call in calls.values():
            call.run()

    for cycle in range(cycles):
        def progress(share: float, cycle: int = cycle) -> None:
            tick((cycle + share) / cycles)

        warmed = _rounds(
            lambda: one_round(None), protocol.warm_up, budget_s and WARM_UP_SHARE * budget_s,
            lambda share: progress(share * (WARM_UP_SHARE if budget_s else 0.5)),
        )
        kept = None if cycle < dropped else cycle

        def timed(share: float, progress: Callable[[float], None] = progress) -> None:
            first = WARM_UP_SHARE if budget_s else 0.5
            progress(first + share * (1 - first))

        done = _rounds(
            lambda kept=kept: one_round(kept), protocol.timed,
            budget_s and (1 - WARM_UP_SHARE) * budget_s, timed,
            lambda: (machine.append(yardstick()), settle()),
        )
    return Samples(
        wall={name: np.array(ms) for name, ms in wall.items()},
        device={name: np.array(ms) for name, ms in device.items()},
        cycles=np.array(cycle_of),
        machine=np.array(machine),
        warm_up=warmed,
        shortened=done < protocol.timed or warmed < protocol.warm_up or cycles < protocol.cycles,
    )


def _rounds(
    one_round: Callable[[], object], count: int, budget_s: Optional[float],
    tick: Callable[[float], object], check: Callable[[], object] = lambda: None,
) -> int:
    """Up to ``count`` rounds, or until the budget is spent; returns how many. ``check`` is called about
    :data:`CHECKS` times, between rounds."""
    start = time.perf_counter()
    checked = -1
    for done in range(count):
        spent = 0.0 if not budget_s else (time.perf_counter() - start) / budget_s
        if done >= MIN_ROUNDS and spent >= 1:
            return done
        share = max(done / count, min(spent, 1.0))
        tick(share)
        if int(share * CHECKS) > checked:
            checked = int(share * CHECKS)
            check()
        one_round()
    tick(1.0)
    return count


_SQUARE = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)


def yardstick() -> float:
    """Milliseconds of a fixed matrix product [256, 256]^2 in NumPy, the best of five.

    Tells how fast the processor is at this moment, so that two runs at different moments can be
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
    """The harness on sleeps of known length, all in one interleaved run: median over length, by length.

    A sleep lasts a little longer than asked; what it did last is not known to the harness.
    """
    calls = {f"{ms:g} ms": Call(lambda ms=ms: time.sleep(ms / 1e3)) for ms in lengths_ms}
    protocol = Protocol("self-test", 2, rounds, 1, None, "sleeps of known length")
    found = measure(calls, protocol).wall
    return {f"{ms:g} ms": float(np.median(found[f"{ms:g} ms"])) / ms for ms in lengths_ms}
