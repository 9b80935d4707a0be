"""The stream on made-up cameras: what each policy promises, and every fault it has to survive."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from kept import Kept
from waiting import PATIENCE_S, until

from ssn_edge import BackendError, InputError, ModelError
from ssn_edge.line import stream
from ssn_edge.sources import Frame, Source

DARK, BRIGHT = np.full((32, 48, 3), 20, np.uint8), np.full((32, 48, 3), 250, np.uint8)


def test_every_frame_reaches_every_sink_in_order(detector):
    fast = Kept()
    slow = Kept(lambda result: until(lambda: result.number in fast.numbers))  # always behind
    summary = stream.run((BRIGHT if n % 5 == 0 else DARK for n in range(100)), detector, [slow, fast])
    assert slow.numbers == fast.numbers == list(range(100))
    assert (summary.captured, summary.judged, summary.defects) == (100, 100, 20)
    assert summary.complete and slow.closed == fast.closed == 1
    assert set(summary.failed) == {"kept", "kept-2"}
    assert summary.latency_ms.at(50) >= summary.detect_ms.at(0) > 0


@pytest.fixture
def gate(detector, monkeypatch):
    """A detector that waits before each frame: ``taken`` tells that it has one, ``go`` lets it judge."""
    detect = detector.detect
    taken, go = threading.Semaphore(0), threading.Semaphore(0)

    def waits(frame):
        taken.release()
        assert go.acquire(timeout=PATIENCE_S)
        return detect(frame)

    monkeypatch.setattr(detector, "detect", waits)
    return SimpleNamespace(taken=taken, go=go)


def groups_of_ten(gate, groups):
    """A camera that gives ten frames while one is judged."""
    yield DARK
    for _ in range(groups):
        assert gate.taken.acquire(timeout=PATIENCE_S)
        for _ in range(10):
            yield DARK
        gate.go.release()  # asked for the next: the ten have been put
    gate.go.release()


def test_latest_takes_the_newest_and_counts_what_it_replaced(detector, gate):
    numbers = []
    summary = stream.run(
        groups_of_ten(gate, 6), detector, policy="latest", on_result=lambda r: numbers.append(r.number)
    )
    assert numbers == [0, 10, 20, 30, 40, 50, 60]
    assert (summary.captured, summary.judged, summary.dropped, summary.broken) == (61, 7, 54, 0)
    assert not summary.complete


def test_broken_frames_are_counted(detector):
    torn = Frame("torn", None, 0.0, "torn: half a frame")
    frames = [DARK, torn, np.zeros((4, 4, 2), np.uint8), DARK.astype(float), BRIGHT]
    summary = stream.run(frames, detector)
    assert (summary.judged, summary.broken, summary.defects) == (2, 3, 1)


def test_lost_source_is_opened_again_with_growing_pauses(detector, caplog):
    opened = []

    def open_camera(_):
        opened.append(time.monotonic())
        if len(opened) in (2, 3, 4):
            raise InputError("camera: does not open")

        def frames():
            for _ in range(5):
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


def fails_with(error, at):
    """A detector's detect() that raises at its ``at``-th frame and from then on."""
    calls = itertools.count()

    def fails(detect, frame):
        if next(calls) >= at:
            raise error
        return detect(frame)

    return fails


@pytest.mark.parametrize("policy", stream.POLICIES)
@pytest.mark.parametrize("error", [BackendError("GPU fell off the bus"), MemoryError(), ModelError("closed")])
def test_every_frame_is_accounted_for_when_the_detector_ends_the_stream(detector, monkeypatch, policy, error):
    detect, fails = detector.detect, fails_with(error, 3)
    monkeypatch.setattr(detector, "detect", lambda frame: fails(detect, frame))
    summary = stream.Summary()

    def camera():
        for number in itertools.count():
            yield DARK
            seen = min(number, 12)
            until(lambda seen=seen: policy == "every" or summary.judged + summary.broken >= seen)

    with pytest.raises(type(error)):
        stream.run(camera(), detector, policy=policy, summary=summary)
    assert summary.judged == 3 and summary.broken == (10 if isinstance(error, BackendError) else 1)
    assert summary.captured == summary.judged + summary.dropped + summary.broken


@pytest.mark.parametrize("policy", stream.POLICIES)
@pytest.mark.parametrize("way", ["on_result", "stop", "max_frames", "source"])
def test_every_frame_is_accounted_for_however_the_stream_ends(detector, policy, way):
    stop, summary = threading.Event(), stream.Summary()

    def frames():
        for number in itertools.count():
            if way == "source" and number == 9:
                raise InputError("tape ran out")
            yield DARK

    def note(result):
        if way == "on_result" and summary.judged == 4:
            raise ValueError("the caller's own")
        if way == "stop" and summary.judged == 4:
            stop.set()

    arguments = {"policy": policy, "stop": stop, "summary": summary, "on_result": note}
    if way == "max_frames":
        arguments["max_frames"] = 6
    if way in ("on_result", "source"):
        with pytest.raises((ValueError, InputError)):
            stream.run(frames(), detector, **arguments)
    else:
        stream.run(frames(), detector, **arguments)
    assert summary.captured == summary.judged + summary.dropped + summary.broken > 0


def test_sinks_are_closed_where_the_stream_does_not_start(detector, tmp_path):
    """Wrong policy, no such source, one that does not open, a sink that is none: once, no thread left."""
    def broken(_):
        raise InputError("camera: does not open")

    class Nameless:
        closed = 0

        def close(self):
            self.closed += 1

    attempts = [
        (dict(source=[DARK], policy="newest"), InputError),
        (dict(source=str(tmp_path / "none.png")), InputError),
        (dict(source=Source("camera", broken, live=True)), InputError), (dict(source=[DARK]), AttributeError),
    ]
    for arguments, error in attempts:
        one, two = Kept(), Nameless() if error is AttributeError else Kept()
        with pytest.raises(error):
            stream.run(arguments.pop("source"), detector, [one, two], **arguments)
        assert (one.closed, two.closed) == (1, 1)
    until(lambda: not alive("ssn-sink"))


def alive(prefix):
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]


def test_a_stop_ends_the_wait_for_a_lost_source(detector):
    """Not only after the pause before the next try."""
    tries = []

    def open_camera(_):
        tries.append(1)
        if len(tries) > 1:
            raise InputError("still dead")
        return iter([Frame("x", DARK, 0.0)])

    stop = threading.Event()
    source = Source("camera", open_camera, live=True, policy="every")
    stream.run(source, detector, stop=stop, retry_s=(600, 600), on_result=lambda r: stop.set())
    until(lambda: not alive("ssn-capture"))


def test_stalled_inference_is_noticed(detector, monkeypatch, caplog):
    detect, summary = detector.detect, stream.Summary()

    def hangs(frame):
        if frame[0, 0, 0] > 99:
            until(lambda: summary.stalls)
        return detect(frame)

    monkeypatch.setattr(detector, "detect", hangs)
    stream.run([DARK, BRIGHT, DARK], detector, stall_s=1.5, summary=summary)
    assert summary.stalls == 1 and summary.judged == 3
    assert "has not come back" in caplog.text


def test_max_frames_are_exact(detector):
    for policy in stream.POLICIES:
        summary = stream.run(itertools.repeat(DARK), detector, policy=policy, max_frames=7)
        assert summary.judged == 7 and summary.captured == 7 + summary.dropped


PROGRAM = """
import itertools, sys, threading
import numpy as np
from ssn_edge import Detector, sinks, stream
pause = threading.Event().wait
def camera():
    for n in itertools.count():
        pause(0.002)
        yield np.full((32, 48, 3), n % 256, np.uint8)
def detect(frame, real):
    {slow}
    return real(frame)
detector = Detector.open(sys.argv[1], "onnxruntime")
real = detector.detect
detector.detect = lambda frame: detect(frame, real)
print("ready", flush=True)
lines = sinks.JsonLines(sys.argv[2])
summary = stream.run(camera(), detector, [lines], policy="every", stall_s=2, stall_exit=3, queue={queue})
print(summary.judged)
"""


def started(tmp_path, slow, program=PROGRAM, queue=4):
    model, lines = tiny.write_model(tmp_path / "m.onnx"), tmp_path / "lines.jsonl"
    arguments = [sys.executable, "-c", program.format(slow=slow, queue=queue), str(model), str(lines)]
    env = {**os.environ, "PYTHONPATH": str(Path(stream.__file__).parents[2])}
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stdout.readline() == "ready\n"
    return process, lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_flush_everything(tmp_path, number):
    process, lines = started(tmp_path, "pause(0.005)")
    until(lambda: lines.exists() and lines.read_bytes().count(b"\n") > 10)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    written = lines.read_bytes()
    assert written.endswith(b"\n") and written.count(b"\n") == int(out) > 10


def test_signal_while_the_last_results_are_written(tmp_path):
    program = PROGRAM.replace("itertools.count()", "range(30)").replace(
        "lines = sinks", "real_write = sinks.JsonLines.write; sinks.JsonLines.write = "
        "lambda self, r: (pause(0.05), real_write(self, r))\nlines = sinks"
    )
    process, lines = started(tmp_path, "pass", program, queue=64)
    until(lambda: lines.exists() and lines.read_bytes().count(b"\n") >= 8)  # the sink is behind
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert lines.read_bytes().count(b"\n") == int(out) == 30


def test_stall_can_end_the_process_with_everything_written(tmp_path):
    process, lines = started(tmp_path, "pause(600 * int(frame[0, 0, 0] == 20))")
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3 and "not come back" in err
    assert lines.read_bytes().count(b"\n") == 20
