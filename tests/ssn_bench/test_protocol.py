"""The protocol's counting and arithmetic on a clock of our own, and the claim's sentence."""

import itertools

import pytest

from ssn_bench import protocol, report


@pytest.fixture
def clock(monkeypatch):
    """Time passes only inside the measured call: 2 ms, every hundredth call 52 ms."""
    now = {"ns": 0, "calls": itertools.count(1)}

    def call():
        now["ns"] += 52_000_000 if next(now["calls"]) % 100 == 0 else 2_000_000

    monkeypatch.setattr(protocol.time, "perf_counter_ns", lambda: now["ns"])
    monkeypatch.setattr(protocol.time, "perf_counter", lambda: now["ns"] / 1e9)
    return call


def test_the_whole_protocol(clock):
    timing = protocol.measure(clock, batch=16)
    assert (timing.warm_up, timing.repetitions, timing.shortened) == (1000, 1000, False)
    assert timing.median_ms == 2 and timing.min_ms == 2
    assert timing.mean_ms == pytest.approx(2.5)
    assert timing.images_per_second == pytest.approx(16 / 2.5e-3)
    assert timing.p99_ms == pytest.approx(2, abs=1)
    assert timing.deviation_ms == pytest.approx(50 * (0.01 * 0.99) ** 0.5)


def test_a_budget_shortens_and_says_so(clock):
    timing = protocol.measure(clock, batch=1, budget_s=0.4)
    assert timing.shortened and 60 <= timing.repetitions <= 110
    tiny = protocol.measure(clock, batch=1, budget_s=1e-9)
    assert tiny.repetitions == tiny.warm_up == protocol.MIN_REPETITIONS


def test_comparability_names_every_difference():
    same = report.comparability("wide_resnet50_2", [256, 256], "float16", "NVIDIA Tesla V100S-PCIE")
    assert same.startswith("Comparable")
    other = report.comparability("resnet18", [128, 256], "float32", "Some CPU")
    for word in ("Some CPU", "float32", "resnet18", "128x256"):
        assert word in other
