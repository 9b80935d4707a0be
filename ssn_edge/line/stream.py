"""A detector on a stream of frames, for weeks: capture, inference and sinks side by side.

    capture thread ──> frames, bounded ──> detector (the caller's thread) ──> one queue and thread a sink

``latest`` serves a live line: the newest frame is judged, older ones are dropped and counted, and a sink
that is too slow loses results, never the line its time. ``every`` serves files: each frame is judged and
written, and whoever is slow makes the others wait. Durations come from the monotonic clock, so that the
wall clock may jump.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from typing import Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from ssn_edge import sources
from ssn_edge.detector import Detector
from ssn_edge.errors import BackendError, InputError, SsnEdgeError
from ssn_edge.line.queues import BoundedQueue, RateLimitedLog
from ssn_edge.line.results import Gap, Result, Sink, Summary
from ssn_edge.line.sink_threads import SinkThread, close, flush
from ssn_edge.signals import stop_on_signals
from ssn_edge.sources import Frame, Source

log = logging.getLogger("ssn_edge.stream")

POLICIES = ("latest", "every")
MAX_FAILURES = 10
"""So many frames in a row that the inference library fails on end the stream."""


def run(
    source: Union[str, Source, Iterable[Union[Frame, np.ndarray]]],
    detector: Detector,
    sinks: Sequence[Sink] = (),
    *,
    policy: Optional[str] = None,
    queue: int = 4,
    retry_s: Tuple[float, float] = (0.5, 10.0),
    stall_s: float = 30.0,
    stall_exit: Optional[int] = None,
    on_result: Optional[Callable[[Result], object]] = None,
    max_frames: Optional[int] = None,
    stop: Optional[threading.Event] = None,
    summary: Optional[Summary] = None,
) -> Summary:
    """Judge the frames of ``source`` and hand every result to every sink, until the source ends, ``stop``
    is set, or SIGINT or SIGTERM comes (if this is the main thread); then write out what is under way.

    ``source``: what :func:`ssn_edge.sources.find` takes, a Source, or an iterable of frames or arrays.
    ``policy``: "latest" or "every"; default the source's own. ``queue``: results that may wait
    for a sink. ``retry_s``: first and longest pause before a lost live source is opened again. ``stall_s``:
    inference that takes longer is logged and counted, and with ``stall_exit`` the process ends with that exit
    code after the sinks have written what they have, so that a supervisor starts it again.
    ``on_result`` runs between frames in this thread. ``summary`` may be read meanwhile. A sink has ``name``,
    ``write(result)``, called in a thread of its own, and ``close()``, called always; what it raises is
    counted and logged. Raises InputError where the source does not open at the start or a source that is
    not live ends with one; BackendError after 10 frames in a row that the inference library failed on.

    >>> from ssn_edge.line import sinks
    >>> from ssn_edge.testing import fake_detector
    >>> detector, alarms = fake_detector(lambda image: (image.max() / 255, 0.0)), []
    >>> relay = sinks.Callback(lambda result: alarms.append(result.detection.is_defect), changes=True)
    >>> frames = [np.full((48, 64), value, np.uint8) for value in (0, 0, 255, 255, 0)]
    >>> summary = run(frames, detector, [relay])
    >>> summary.judged, summary.defects, summary.complete, alarms
    (5, 2, True, [False, True, False])
    """
    summary, stop = summary or Summary(), stop or threading.Event()
    sink_threads: List[SinkThread] = []
    start, limited = time.monotonic(), True
    with stop_on_signals(stop):
        try:
            if isinstance(source, str):
                source = sources.find(source, detector.reading)
            source = source if isinstance(source, Source) else sources.of(source)
            lossless = _lossless(policy or source.policy)
            limited = not lossless
            for sink in sinks:
                sink_threads.append(SinkThread(sink, queue, lossless, summary, stop))
            stream = _Stream(detector, summary, stop, on_result, max_frames)
            frames: BoundedQueue[Captured] = BoundedQueue(queue if lossless else 1, lossless)

            def leave() -> None:
                flush(sink_threads, stop, limited=True)
                os._exit(stall_exit or 0)

            with _watchdog(stream, stall_s, leave if stall_exit else None):
                capture = _Capture(source, frames, retry_s, stream, max_frames if lossless else None)
                try:
                    stream.judge_all(frames, sink_threads)
                finally:
                    capture.finish()
                capture.complain()
        finally:
            flush(sink_threads, stop, limited)
            close(sinks[len(sink_threads):])  # those without a thread
            summary.seconds = time.monotonic() - start
    return summary


def _lossless(policy: str) -> bool:
    if policy not in POLICIES:
        raise InputError(f"policy {policy!r}; give latest or every")
    return policy == "every"


class Captured(NamedTuple):
    """A frame with its number and the monotonic seconds of its arrival."""

    number: int
    arrived: float
    frame: Frame


class _Stream:
    """The loop in the middle: frames in, results out."""

    def __init__(
        self, detector: Detector, summary: Summary, stop: threading.Event,
        on_result: Optional[Callable[[Result], object]], max_frames: Optional[int],
    ):
        self.summary, self.stop = summary, stop
        self.busy_since: Optional[float] = None
        self._detector, self._on_result, self._max_frames = detector, on_result, max_frames
        self._failures, self._log = 0, RateLimitedLog()
        self._doubts, self._further = RateLimitedLog(), RateLimitedLog()

    def judge_all(self, frames: BoundedQueue[Captured], sink_threads: List[SinkThread]) -> None:
        while not frames.done:
            item = frames.get(timeout=0.2)  # so that a signal's handler gets its turn
            if item is None:
                if self.stop.is_set():
                    frames.end()
                continue
            result = self._judge(*item)
            if result is not None:
                for sink_thread in sink_threads:
                    sink_thread.put(result)
                if self._on_result:
                    self._on_result(result)
            if self._max_frames and self.summary.judged + self.summary.broken >= self._max_frames:
                break
            if self.stop.is_set():
                frames.end()

    def _judge(self, number: int, arrived: float, frame: Frame) -> Optional[Result]:
        if frame.image is None:
            self._broken(frame.problem)
            return None
        self.busy_since = time.monotonic()
        try:
            detection = self._detector.detect(frame.image)
        except InputError as error:
            self._broken(f"{frame.name}: {error}")
            return None
        except BackendError as error:
            self._failures += 1
            self._broken(f"{frame.name}: {error}")
            if self._failures >= MAX_FAILURES:
                raise
            return None
        except BaseException:
            self.summary.broken += 1
            raise
        finally:
            self.busy_since = None
        self._failures = 0
        self._note(frame)
        latency_ms = 1e3 * (time.monotonic() - arrived)
        self.summary.judged += 1
        self.summary.defects += detection.is_defect
        self.summary.latency_ms.add(latency_ms)
        self.summary.detect_ms.add(detection.latency.total_ms)
        return Result(number, frame, detection, arrived, latency_ms)

    def _note(self, frame: Frame) -> None:
        """What a judged frame says of its own wholeness."""
        summary = self.summary
        if not frame.told:
            summary.untold[frame.kind] = summary.untold.get(frame.kind, 0) + 1
        summary.doubted += bool(frame.doubt)
        summary.several += frame.several
        if frame.doubt:
            self._doubts.warn(f"{frame.name}: {frame.doubt}")
        if frame.several:
            self._further.warn(f"{frame.name}: holds several pictures; only the first is judged")

    def _broken(self, problem: str) -> None:
        self.summary.broken += 1
        self.summary.problem = problem
        self._log.warn(f"skipped: {problem}")


class _Capture:
    """The thread that reads the source, and opens a live one again when it is lost."""

    def __init__(
        self, source: Source, frames: BoundedQueue[Captured], retry_s: Tuple[float, float],
        stream: _Stream, limit: Optional[int],
    ):
        self._source, self._queue, self._retry_s, self._stream = source, frames, retry_s, stream
        self._limit, self._reason = limit, ""
        self._ended = threading.Event()
        self._error: Optional[BaseException] = None
        self._opened = source.open(self._ended)  # here, so that a wrong address is the caller's error
        self._thread = threading.Thread(target=self._run, name="ssn-capture", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Ends the thread, and counts the frames that nobody took."""
        self._ended.set()
        self._queue.end()
        self._thread.join(timeout=1)  # a camera's driver may hang; the thread is a daemon
        while self._queue.get(timeout=0) is not None:  # beyond max_frames, or after an error
            self._stream.summary.dropped += 1

    def complain(self) -> None:
        """Raises what ended a source that is not live."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._read(self._opened)
            while self._source.live and not self._over():
                self._reopen()
        except BaseException as error:
            self._error = error
        finally:
            self._queue.end()

    def _over(self) -> bool:
        return self._ended.is_set() or self._stream.stop.is_set()

    def _read(self, frames: Iterator[Frame]) -> None:
        """Frames until the source ends."""
        summary = self._stream.summary
        try:
            for frame in frames:
                if self._over():
                    break
                number = summary.captured
                summary.captured += 1
                arrived = time.monotonic() if frame.arrived is None else frame.arrived
                dropped = self._queue.put(Captured(number, arrived, frame))
                summary.dropped += dropped  # in two steps: put() waits, and the count may change meanwhile
                if summary.captured == self._limit:
                    self._ended.set()
                    break
            self._reason = "no more frames"
        except Exception as error:
            if not self._source.live:
                raise
            self._reason = str(error) if isinstance(error, SsnEdgeError) else repr(error)
        finally:
            getattr(frames, "close", lambda: None)()

    def _reopen(self) -> None:
        """Try again and again, with longer and longer pauses; then read on."""
        summary = self._stream.summary
        lost, wall = time.monotonic(), time.time()
        log.warning("%s: source lost (%s); trying to open it again", self._source.name, self._reason)
        pause, longest = self._retry_s
        while self._waited(pause):
            frames: Iterator[Frame] = iter(())
            try:
                frames = iter(self._source.open(self._ended))
                first = next(frames, None)
            except Exception as error:
                log.info("%s: %s", self._source.name, error)
                first = None
            if first is not None:
                gap = Gap(wall, time.monotonic() - lost, self._reason)
                summary.gaps.append(gap)
                summary.gap_count += 1
                log.warning("%s: back after %.1f s without frames", self._source.name, gap.seconds)
                self._read(_chained(first, frames))
                return
            pause = min(2 * pause, longest)

    def _waited(self, pause: float) -> bool:
        """False where the stream has ended meanwhile."""
        until = time.monotonic() + pause
        while not self._over() and time.monotonic() < until:
            self._ended.wait(min(0.1, max(0.0, until - time.monotonic())))
        return not self._over()


def _chained(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    try:
        yield from itertools.chain([first], rest)
    finally:
        getattr(rest, "close", lambda: None)()


@contextlib.contextmanager
def _watchdog(
    stream: _Stream, stall_s: float, on_stall: Optional[Callable[[], object]]
) -> Iterator[None]:
    """Looks whether a frame has been under way for too long."""
    ended = threading.Event()

    def watch() -> None:
        reported: Optional[float] = None
        while not ended.wait(min(stall_s / 4, 1.0)):
            since = stream.busy_since
            if since is None or since == reported or time.monotonic() - since < stall_s:
                continue
            reported = since
            stream.summary.stalls += 1
            log.error("inference has not come back for %.1f s", time.monotonic() - since)
            if on_stall:
                on_stall()

    thread = threading.Thread(target=watch, name="ssn-watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
