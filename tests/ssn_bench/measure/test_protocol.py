"""Counting, order and arithmetic of the protocols on a clock of our own; sleeps on the real one."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from ssn_bench.measure import protocol
from ssn_bench.measure.protocol import PROTOCOLS, Call

EFFICIENTAD, SUPERSIMPLENET = PROTOCOLS["efficientad"], PROTOCOLS["supersimplenet"]


@pytest.fixture
def clock(monkeypatch):
    """Time passes only inside calls; ``call(ms)`` makes one. ``log`` is who was called."""
    now, log = {"ns": 0}, []

    def call(ms, name="a", device=None):
        def run():
            log.append(name)
            now["ns"] += int(1e6 * (next(ms) if hasattr(ms, "__next__") else ms))

        return Call(run, device)

    monkeypatch.setattr(protocol.time, "perf_counter_ns", lambda: now["ns"])
    monkeypatch.setattr(protocol.time, "perf_counter", lambda: now["ns"] / 1e9)
    monkeypatch.setattr(protocol, "yardstick", lambda: 1.0)
    return SimpleNamespace(call=call, log=log)


def test_efficientads_protocol(clock):
    slow_first = itertools.chain(itertools.repeat(9.0, 1000), itertools.cycle([2.0] * 99 + [52.0]))
    found = protocol.measure({"a": clock.call(slow_first)}, EFFICIENTAD)
    assert (found.warm_up, len(found.wall["a"]), found.shortened) == (1000, 1000, False)
    assert found.wall["a"].max() == 52  # nothing of the warm-up
    figures = protocol.summary(found.wall["a"], found.cycles, batch=16)
    assert figures["median_ms"] == figures["min_ms"] == 2
    assert figures["mean_ms"] == pytest.approx(2.5, abs=0.06)
    assert figures["images_per_second"] == pytest.approx(16e3 / figures["mean_ms"])
    assert figures["cycle_deviation_ms"] is None


def test_the_first_of_six_cycles_is_dropped(clock):
    ms = itertools.chain(itertools.repeat(50.0, 2000), itertools.repeat(2.0))
    found = protocol.measure({"a": clock.call(ms)}, SUPERSIMPLENET)
    assert len(found.wall["a"]) == 5000 and set(found.cycles) == {1, 2, 3, 4, 5}
    figures = protocol.summary(found.wall["a"], found.cycles, 1)
    assert figures["mean_ms"] == pytest.approx(2, abs=0.3)
    assert figures["cycle_deviation_ms"] >= 0


def test_contenders_alternate_in_random_order_and_are_primed(clock, monkeypatch):
    monkeypatch.setattr(protocol, "CHECKS", 1)  # one, before the first round
    calls = {name: clock.call(1.0, name) for name in "abc"}
    found = protocol.measure(calls, protocol.Protocol("short", 0, 40, 1, None, ""))
    rounds = clock.log[3:]
    assert {name: len(ms) for name, ms in found.wall.items()} == dict.fromkeys("abc", 40)
    assert rounds[::2] == rounds[1::2] and len(rounds) == 240  # each is called twice running
    orders = {tuple(rounds[i:i + 6:2]) for i in range(0, 240, 6)}
    assert len(orders) == 6 and all(set(order) == set("abc") for order in orders)


def test_a_budget_shortens_and_says_so(clock):
    found = protocol.measure({"a": clock.call(2.0)}, SUPERSIMPLENET, budget_s=0.4)
    assert found.shortened and 100 <= len(found.wall["a"]) <= 160 and set(found.cycles) == {0}
    least = protocol.measure({"a": clock.call(2.0)}, EFFICIENTAD, budget_s=1e-9)
    assert (len(least.wall["a"]), least.warm_up) == (protocol.MIN_ROUNDS, protocol.MIN_WARM_UP)


def test_the_gpus_own_clock_is_asked_after_each_call(clock):
    ticks = itertools.count()
    short = protocol.Protocol("short", 5, 20, 1, None, "")
    found = protocol.measure({"a": clock.call(1.0, device=lambda: float(next(ticks)))}, short)
    np.testing.assert_array_equal(found.device["a"], np.arange(20.0))


def test_progress_grows_to_one(clock):
    shares = []
    short = protocol.Protocol("short", 5, 20, 2, None, "")
    protocol.measure({"a": clock.call(1.0)}, short, on_progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1


def test_sleeps_of_known_length(monkeypatch):
    """On a clock of our own, whose sleeps are late by half now and then, as on a busy machine."""
    now, calls = [0.0], itertools.count()

    def sleep(seconds):
        now[0] += seconds * (2.0 if next(calls) % 5 == 0 else 1.0)

    def read():
        now[0] += 1e-6  # a call takes its time, so that who waits awake gets there
        return now[0]

    monkeypatch.setattr(protocol, "time", SimpleNamespace(
        sleep=sleep, perf_counter=read, perf_counter_ns=lambda: round(1e9 * read()),
    ))
    for ratio in protocol.self_test((10.0, 50.0), rounds=11).values():
        assert ratio == pytest.approx(1, abs=1e-3)


def test_no_sleep_is_shorter_than_asked():
    """By the real clock; longer it may be on a busy machine, and ssn-bench --self-test says how much."""
    assert min(protocol.self_test((10.0, 50.0), rounds=5).values()) > 0.98
