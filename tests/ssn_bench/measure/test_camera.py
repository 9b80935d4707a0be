"""The camera protocol, on a clock of the test's own."""

import pytest

from ssn_bench.measure import camera


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(camera.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(camera.time, "sleep", lambda s: now.__setitem__(0, now[0] + s + 1e-9))
    return now


def test_a_fast_detector_sees_every_frame(clock):
    def judge(index):
        clock[0] += 0.010

    latencies, dropped = camera.loop(judge, 30, 90, lambda share: None)
    assert (len(latencies), dropped) == (90, 0)
    assert max(latencies) == pytest.approx(10, abs=0.1)


def test_a_slow_detector_drops_and_latency_counts_the_waiting(clock):
    """100 ms a frame at 30 fps: each verdict is about the newest frame then; two of three go."""
    seen = []

    def judge(index):
        seen.append(index)
        clock[0] += 0.100

    latencies, dropped = camera.loop(judge, 30, 90, lambda share: None)
    assert len(latencies) + dropped == 90 and dropped == pytest.approx(60, abs=2)
    assert seen == sorted(set(seen))
    assert all(100 <= ms <= 134 for ms in latencies)


def test_a_percentile_needs_frames_beyond_it():
    assert camera.percentile([1.0] * 999, 99.9) is None
    assert camera.percentile([1.0] * 1000, 99.9) == 1
