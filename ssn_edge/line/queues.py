"""What stands between the threads of a stream: bounded queues, counters that do not grow, few messages."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Deque, Generic, Optional, TypeVar

import numpy as np

log = logging.getLogger("ssn_edge.stream")

KEPT = 1 << 16
"""Values that percentiles are taken over, the newest: a fixed array, however long the stream."""

Item = TypeVar("Item")


class BoundedQueue(Generic[Item]):
    """A bounded queue. A lossless one makes its writer wait; another one drops its oldest item."""

    def __init__(self, size: int, lossless: bool):
        self._items: Deque[Item] = deque()
        self._size, self._lossless = size, lossless
        self._changed = threading.Condition()
        self._ended = False

    def put(self, item: Item, stop: Optional[threading.Event] = None, patience_s: float = 0.0) -> int:
        """How many items were dropped for it; 1 too once :meth:`end` was called, or when there is still no
        room ``patience_s`` after ``stop`` was set."""
        with self._changed:
            while self._lossless and len(self._items) >= self._size and not self._ended:
                self._changed.wait(0.2 if stop else None)
                if stop and stop.is_set():
                    self._changed.wait_for(lambda: len(self._items) < self._size or self._ended, patience_s)
                    break
            if self._ended or self._lossless and len(self._items) >= self._size:
                return 1
            dropped = len(self._items) >= self._size
            if dropped:
                self._items.popleft()
            self._items.append(item)
            self._changed.notify_all()
            return int(dropped)

    def get(self, timeout: Optional[float] = None) -> Optional[Item]:
        """None when there was nothing in time, or never will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended, timeout)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self) -> None:
        """No more items; those inside can still be had."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def done(self) -> bool:
        """Whether nothing is inside and nothing will come."""
        with self._changed:
            return self._ended and not self._items


class RateLimitedLog:
    """Logs the first of many like messages, then one in ten seconds with how many there were."""

    def __init__(self) -> None:
        self._next, self._unsaid = 0.0, 0

    def warn(self, text: str) -> None:
        """Log the text, or count it."""
        self._unsaid += 1
        if time.monotonic() >= self._next:
            log.warning("%s%s", text, f" ({self._unsaid} like it)" if self._unsaid > 1 else "")
            self._next, self._unsaid = time.monotonic() + 10, 0


class Percentiles:
    """Of the newest KEPT values, in memory that does not grow."""

    def __init__(self) -> None:
        self._values, self._count = np.zeros(KEPT), 0

    def add(self, value: float) -> None:
        """One more value; beyond KEPT the oldest goes."""
        self._values[self._count % KEPT] = value
        self._count += 1

    def at(self, share: float) -> Optional[float]:
        """None before the first value."""
        known = self._values[: min(self._count, KEPT)]
        return float(np.percentile(known, share)) if len(known) else None
