"""The stream on made-up cameras: what each policy promises, and every fault it has to survive."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny

from ssn_edge import BackendError, Detector, InputError, outlets, stream
from ssn_edge.queues import KEPT, Box, Percentiles
from ssn_edge.sources import Frame, Source

DARK, BRIGHT = np.full((32, 48, 3), 20, np.uint8), np.full((32, 48, 3), 250, np.uint8)


@pytest.fixture
def detector(tmp_path):
    with Detector.open(tiny.write_model(tmp_path / "m.onnx"), "onnxruntime") as opened:
        yield opened


class Kept:
    """A sink that remembers; ``pause`` before each result."""

    name = "kept"

    def __init__(self, pause=0.0):
        self.numbers, self.closed, self._pause = [], 0, pause

    def write(self, result):
        time.sleep(self._pause)
        self.numbers.append(result.number)

    def close(self):
        self.closed += 1


def test_every_frame_reaches_every_sink_in_order(detector):
    slow, fast = Kept(0.002), Kept()
    summary = stream.run((BRIGHT if n % 5 == 0 else DARK for n in range(100)), detector, [slow, fast])
    assert slow.numbers == fast.numbers == list(range(100))
    assert (summary.captured, summary.judged, summary.defects) == (100, 100, 20)
    assert summary.complete and slow.closed == fast.closed == 1
    assert set(summary.failed) == {"kept", "kept-2"}
    assert summary.latency_ms.at(50) >= summary.detect_ms.at(0) > 0


def test_latest_drops_and_counts_while_frames_come(detector):
    def camera():
        for _ in range(200):
            time.sleep(0.001)
            yield DARK

    slow = Kept(0.02)
    summary = stream.run(camera(), detector, [slow], policy="latest", queue=2)
    assert summary.captured == 200 == summary.judged + summary.dropped + summary.broken
    assert summary.late["kept"] == summary.judged - len(slow.numbers) > 0
    assert slow.numbers == sorted(slow.numbers)
    assert not summary.complete


def test_a_frame_waits_no_longer_than_the_one_before_it(detector, monkeypatch):
    """latest: when the detector is slow, the frame it takes next is the newest."""
    ages = []
    detect = detector.detect
    monkeypatch.setattr(detector, "detect", lambda frame: (time.sleep(0.05), detect(frame))[1])

    def camera():
        for _ in range(60):
            time.sleep(0.005)
            yield DARK

    stream.run(camera(), detector, policy="latest", on_result=lambda r: ages.append(r.latency_ms))
    assert len(ages) < 20 and np.median(ages) < 50 + 15


def test_broken_frames_are_counted(detector):
    torn = Frame("torn", None, 0.0, "torn: half a frame")
    frames = [DARK, torn, np.zeros((4, 4, 2), np.uint8), DARK.astype(float), BRIGHT]
    summary = stream.run(frames, detector)
    assert (summary.judged, summary.broken, summary.defects) == (2, 3, 1)


def test_lost_source_is_opened_again_with_growing_pauses(detector, caplog):
    opened = []

    def open_camera():
        opened.append(time.monotonic())
        if len(opened) in (2, 3, 4):
            raise InputError("camera: does not open")

        def frames():
            for _ in range(5):
                time.sleep(0.002)
                yield Frame("x", DARK, time.time())
            if len(opened) == 1:
                raise OSError("cable pulled")

        return frames()

    source = Source("camera", open_camera, live=True, policy="every")
    stop, kept = threading.Event(), Kept()
    summary = stream.run(
        source, detector, [kept], retry_s=(0.02, 0.05), stop=stop, max_frames=10,
    )
    assert kept.numbers == list(range(10)) and summary.captured == 10
    assert summary.gap_count == 1 and "cable pulled" in summary.gaps[0].reason
    assert 0.02 + 0.04 + 0.05 + 0.05 <= summary.gaps[0].seconds + 0.01
    pauses = np.diff(opened)[:4]
    assert (pauses >= [0.02, 0.04, 0.05, 0.05]).all()
    assert "source lost (OSError('cable pulled'))" in caplog.text and "back after" in caplog.text


def test_failing_sinks_do_not_stop_the_line(detector, caplog):
    class Full(Kept):
        name = "full"

        def write(self, result):
            if 3 <= result.number < 7:
                raise OSError(28, "No space left on device")
            super().write(result)

    full, kept = Full(), Kept()
    summary = stream.run([DARK] * 10, detector, [full, kept])
    assert kept.numbers == list(range(10)) and full.numbers == [0, 1, 2, 7, 8, 9]
    assert summary.failed == {"full": 4, "kept": 0} and not summary.complete
    assert caplog.text.count("No space left") == 1  # the first; like ones at most every ten seconds


def test_every_result_is_written_however_long_it_takes(detector, monkeypatch):
    monkeypatch.setattr(outlets, "FLUSH_S", 0.05)
    slow = Kept(0.1)
    assert stream.run([DARK] * 6, detector, [slow]).complete
    assert slow.numbers == list(range(6)) and slow.closed == 1


def test_what_a_stuck_sink_did_not_write_is_counted(detector, monkeypatch):
    monkeypatch.setattr(outlets, "FLUSH_S", 0.3)
    free, stop = threading.Event(), threading.Event()

    class Stuck(Kept):
        name = "stuck"

        def write(self, result):
            free.wait(20)

    kept = Kept()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    summary = stream.run([DARK] * 50, detector, [Stuck(), kept], queue=2, stop=stop)
    free.set()
    assert time.monotonic() - began < 5
    assert summary.late["stuck"] == summary.judged and not summary.complete
    assert kept.numbers == list(range(summary.judged)) and summary.late["kept"] == 0


def test_a_sink_that_exits_is_one_that_failed(detector):
    from ssn_edge.sinks import Callback

    kept = Kept()
    summary = stream.run([DARK] * 3, detector, [Callback(lambda result: sys.exit(1)), kept])
    assert summary.failed == {"callback": 3, "kept": 0} and kept.numbers == [0, 1, 2]


def test_wrong_addresses_and_ends(detector):
    with pytest.raises(InputError, match="does not open"):
        stream.run("97", detector)
    with pytest.raises(InputError, match="policy"):
        stream.run([DARK], detector, policy="newest")

    def torn():
        yield DARK
        raise InputError("tape ran out")

    kept = Kept()
    with pytest.raises(InputError, match="tape"):
        stream.run(torn(), detector, [kept])
    assert kept.numbers == [0] and kept.closed == 1


def test_library_that_keeps_failing_ends_the_stream(detector, monkeypatch):
    calls = itertools.count()
    detect = detector.detect

    def sometimes(frame):
        if next(calls) < 5:
            raise BackendError("GPU fell off the bus")
        return detect(frame)

    monkeypatch.setattr(detector, "detect", sometimes)
    assert stream.run([DARK] * 9, detector).broken == 5
    calls = itertools.repeat(0)
    with pytest.raises(BackendError, match="bus"):
        stream.run([DARK] * 99, detector)


def test_stalled_inference_is_noticed(detector, monkeypatch, caplog):
    detect = detector.detect

    def hangs(frame):
        time.sleep(0.2 * (frame[0, 0, 0] > 99))
        return detect(frame)

    monkeypatch.setattr(detector, "detect", hangs)
    summary = stream.run([DARK, BRIGHT, DARK], detector, stall_s=0.1)
    assert summary.stalls == 1 and summary.judged == 3
    assert "has not come back" in caplog.text


def test_max_frames_are_exact(detector):
    for policy in stream.POLICIES:
        summary = stream.run(itertools.repeat(DARK), detector, policy=policy, max_frames=7)
        assert summary.judged == 7 and summary.captured == 7 + summary.dropped


PROGRAM = """
import itertools, sys, time
import numpy as np
from ssn_edge import Detector, sinks, stream
def camera():
    for n in itertools.count():
        time.sleep(0.002)
        yield np.full((32, 48, 3), n % 256, np.uint8)
def detect(frame, real):
    {slow}
    return real(frame)
detector = Detector.open(sys.argv[1], "onnxruntime")
real = detector.detect
detector.detect = lambda frame: detect(frame, real)
print("ready", flush=True)
lines = sinks.JsonLines(sys.argv[2])
summary = stream.run(camera(), detector, [lines], policy="every", stall_s=0.3, stall_exit=3, queue={queue})
print(summary.judged)
"""


def started(tmp_path, slow, program=PROGRAM, queue=4):
    model, lines = tiny.write_model(tmp_path / "m.onnx"), tmp_path / "lines.jsonl"
    words = [sys.executable, "-c", program.format(slow=slow, queue=queue), str(model), str(lines)]
    env = {**os.environ, "PYTHONPATH": str(Path(stream.__file__).parents[1])}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stdout.readline() == "ready\n"
    return process, lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_flush_everything(tmp_path, number):
    process, lines = started(tmp_path, "time.sleep(0.005)")
    time.sleep(0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    written = lines.read_bytes()
    assert written.endswith(b"\n") and written.count(b"\n") == int(out) > 10


def test_signal_while_the_last_results_are_written(tmp_path):
    program = PROGRAM.replace("itertools.count()", "range(30)").replace(
        "lines = sinks", "real_write = sinks.JsonLines.write; sinks.JsonLines.write = "
        "lambda self, r: (time.sleep(0.05), real_write(self, r))\nlines = sinks"
    )
    process, lines = started(tmp_path, "pass", program, queue=64)
    while not lines.exists() or lines.read_bytes().count(b"\n") < 8:
        time.sleep(0.02)  # all frames are judged by now, the sink is behind
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert lines.read_bytes().count(b"\n") == int(out) == 30


def test_stall_can_end_the_process_with_everything_written(tmp_path):
    process, lines = started(tmp_path, "time.sleep(60 * (frame[0, 0, 0] == 20))")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 3 and "not come back" in err
    assert lines.read_bytes().count(b"\n") == 20


def test_box():
    box = Box(2, lossless=False)
    assert [box.put(n) for n in range(4)] == [0, 0, 1, 1]
    assert [box.get(), box.get(), box.get(0.01)] == [2, 3, None]
    waiting = Box(1, lossless=True)
    taken = []
    thread = threading.Thread(target=lambda: taken.extend(waiting.put(n) for n in range(50)))
    thread.start()
    assert [waiting.get(1) for _ in range(50)] == list(range(50))
    thread.join()
    assert taken == [0] * 50
    waiting.end()
    assert waiting.done and waiting.get() is None and waiting.put(1) == 1


def test_percentiles_keep_the_newest():
    values = Percentiles()
    assert values.at(50) is None
    for value in range(KEPT + 1000):
        values.add(value)
    assert values.at(0) == 1000 and values.at(100) == KEPT + 999
