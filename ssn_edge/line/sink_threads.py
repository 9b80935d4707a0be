"""Between a stream and its sinks: each sink has a queue and a thread, so that a slow one holds up itself."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import Callable, Dict, List, Sequence

from ssn_edge.line.queues import BoundedQueue, RateLimitedLog
from ssn_edge.line.results import Result, Sink, Summary

log = logging.getLogger("ssn_edge.stream")

FLUSH_S = 10.0
"""How long sinks may take to write what is left when the stream ends."""


class SinkThread:
    """A sink with its queue and thread."""

    def __init__(self, sink: Sink, size: int, lossless: bool, summary: Summary, stop: threading.Event):
        self._sink, self._summary, self._stop = sink, summary, stop
        self.name = _unused(sink.name, self._summary.late)
        self._summary.late[self.name] = self._summary.failed[self.name] = 0
        self._queue: BoundedQueue[Result] = BoundedQueue(size, lossless)
        self._log = RateLimitedLog()
        self._under_way, self._patience_s = False, FLUSH_S
        self._thread = threading.Thread(target=self._run, name=f"ssn-sink-{self.name}", daemon=True)
        self._thread.start()

    def put(self, result: Result) -> None:
        """Queue a result; what has no room is counted as late."""
        late = self._queue.put(result, self._stop, self._patience_s)
        self._summary.late[self.name] += late
        if late and self._stop.is_set():  # a sink that is stuck holds up the end once
            self._patience_s = 0.0

    def end(self) -> None:
        """No more results: the sink is closed after what is queued."""
        self._queue.end()

    def join(self, until: Callable[[], bool]) -> bool:
        """Whether everything is written; gives up when ``until()``, and counts what was left."""
        while self._thread.is_alive() and not until():
            self._thread.join(0.1)
        if self._thread.is_alive():
            self._summary.late[self.name] += len(self._queue) + self._under_way
            return False
        return True

    def _run(self) -> None:
        while not self._queue.done:
            result = self._queue.get()
            if result is not None:
                self._under_way = True
                self._attempt(lambda result=result: self._sink.write(result))  # type: ignore[misc]
                self._under_way = False
        self._attempt(self._sink.close)

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BaseException as error:  # whatever a sink does, sys.exit too: the line goes on
            count = getattr(error, "count", 1)  # of results, where several are lost at once
            self._summary.failed[self.name] += count if isinstance(count, int) else 1
            self._log.warn(f"{self.name}: {error or type(error).__name__}")


def close(sinks: Sequence[Sink]) -> None:
    """Sinks that have no thread, since the stream did not start; what one raises is logged."""
    for sink in sinks:
        try:
            sink.close()
        except BaseException as error:
            log.warning("%s: %s", getattr(sink, "name", "sink"), error or type(error).__name__)


def _unused(name: str, taken: Dict[str, int]) -> str:
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(unused for unused in names if unused not in taken)


def flush(sink_threads: List[SinkThread], stop: threading.Event, limited: bool) -> None:
    """Let the sinks write what they have: at most FLUSH_S, where that is limited or once ``stop`` is set."""
    began: List[float] = []

    def over() -> bool:
        if (limited or stop.is_set()) and not began:
            began.append(time.monotonic())
        return bool(began) and time.monotonic() - began[0] > FLUSH_S

    for sink_thread in sink_threads:
        sink_thread.end()
    for sink_thread in sink_threads:
        if not sink_thread.join(over):
            log.error("%s: not everything was written within %g s", sink_thread.name, FLUSH_S)
