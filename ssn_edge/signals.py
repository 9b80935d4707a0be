"""SIGINT and SIGTERM as a request to stop, so that no frame and no training step is left half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Iterator, Sequence

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_on_signals(
    stop: threading.Event, numbers: Sequence[int] = STOPPING, once: bool = True
) -> Iterator[threading.Event]:
    """Within the block a signal sets ``stop``; with ``once`` a second one does what it did before.

    Outside the main thread signals cannot be caught: nothing happens then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, _: object) -> None:
        stop.set()
        if once:
            restore()

    for number in numbers:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
