"""A sink that fails, is slow or gets stuck holds up itself, and what it loses is counted."""

import sys
import threading

import numpy as np
from kept import Kept
from waiting import PATIENCE_S, until

from ssn_edge import BackendError
from ssn_edge.line import sink_threads, stream
from ssn_edge.line.queues import BoundedQueue

DARK, BRIGHT = np.full((32, 48, 3), 20, np.uint8), np.full((32, 48, 3), 250, np.uint8)


def test_latest_drops_a_slow_sinks_results_and_counts_them(detector):
    free = threading.Event()
    slow = Kept(lambda result: free.wait(PATIENCE_S))
    summary = stream.Summary()

    def camera():
        for number in range(20):
            yield DARK
            until(lambda number=number: summary.judged > number)
        free.set()

    stream.run(camera(), detector, [slow], policy="latest", queue=2, summary=summary)
    assert summary.captured == summary.judged == 20
    assert summary.late["kept"] == 20 - len(slow.numbers) >= 20 - 2 - 2
    assert slow.numbers == sorted(slow.numbers) and not summary.complete


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
    monkeypatch.setattr(sink_threads, "FLUSH_S", 0.0)
    ended, given = threading.Event(), threading.Event()

    def slow(result):
        assert given.wait(PATIENCE_S)  # nothing is written before the source has ended

    def frames():
        yield from [DARK] * 6
        given.set()
        ended.set()

    sink = Kept(slow)
    assert stream.run(frames(), detector, [sink], queue=8).complete and ended.is_set()
    assert sink.numbers == list(range(6)) and sink.closed == 1


def test_what_a_stuck_sink_did_not_write_is_counted(detector, monkeypatch):
    """And it holds up the end once, not for each result."""
    monkeypatch.setattr(sink_threads, "FLUSH_S", 1.0)
    free, stop, summary, waits = threading.Event(), threading.Event(), stream.Summary(), []
    put = BoundedQueue.put

    def noted(box, item, stop=None, patience_s=0.0):
        dropped = put(box, item, stop, patience_s)
        waits.extend([patience_s] * (dropped and stop is not None))
        return dropped

    class Stuck(Kept):
        name = "stuck"

        def write(self, result):
            free.wait(PATIENCE_S)

    def end():  # one result is being written, two wait, the fourth finds no room; two frames are to come
        until(lambda: summary.judged == 4 and summary.captured >= 6)
        stop.set()

    monkeypatch.setattr(BoundedQueue, "put", noted)
    threading.Thread(target=end).start()
    kept = Kept()
    stream.run([DARK] * 50, detector, [kept, Stuck()], queue=2, stop=stop, summary=summary)
    free.set()
    assert waits == [1.0, 0.0, 0.0]
    assert summary.late["stuck"] == summary.judged == 6 and not summary.complete
    assert kept.numbers == list(range(6)) and summary.late["kept"] == 0


def test_a_sink_that_exits_is_one_that_failed(detector):
    from ssn_edge.line.sinks import Callback

    kept = Kept()
    summary = stream.run([DARK] * 3, detector, [Callback(lambda result: sys.exit(1)), kept])
    assert summary.failed == {"callback": 3, "kept": 0} and kept.numbers == [0, 1, 2]


def test_a_sink_that_loses_several_at_once_is_counted_so(detector):
    class Broker(Kept):
        name = "broker"

        def close(self):
            error = BackendError("the last 30 messages did not arrive")
            error.count = 30
            raise error

    assert stream.run([DARK] * 3, detector, [Broker()]).failed == {"broker": 30}
