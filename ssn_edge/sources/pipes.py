"""Raw frames through a pipe, standard input or a file."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import sys
import threading
import time
from pathlib import Path
from typing import Iterator

from ssn_edge.errors import InputError
from ssn_edge.frames import pixel_formats
from ssn_edge.frames.pixel_formats import MemoryLayout
from ssn_edge.sources.source import POLL_S, Frame, Source
from ssn_edge.values import size_hw


def find(spec: str) -> Source:
    """``raw:HxWxFORMAT:PATH``: frames as they are in memory, one behind the other."""
    text, _, path = spec[4:].partition(":")
    size, _, pixel_format = text.rpartition("x")
    try:
        height, width = size_hw(spec, size if path else "")
    except InputError:
        raise InputError(
            f"{spec}: give raw:HEIGHTxWIDTHxFORMAT:PATH, as in raw:1080x1920xBGR:/run/camera"
        ) from None
    layout = pixel_formats.checked(pixel_format, height, width)
    if path != "-" and (not os.path.exists(path) or os.path.isdir(path)):
        raise InputError(f"{path}: no such pipe or file; make it with mkfifo, or check the path")
    fifo = path != "-" and Path(path).is_fifo()
    live = fifo or path == "-" and not os.path.isfile("/dev/stdin")
    counter = itertools.count()
    return Source(spec, lambda stop: _raw(layout, path, counter, stop), fifo, "latest" if live else "every")


def _raw(layout: MemoryLayout, path: str, counter: Iterator[int], stop: threading.Event) -> Iterator[Frame]:
    with _opened(path) as handle:
        for number in counter:
            data = bytearray(layout.size)
            got = _fill(handle, memoryview(data), stop)
            if not got or stop.is_set():
                return
            name = f"raw-{number:06d}"
            if got < layout.size:
                problem = f"{path}: ends after {got} of the {layout.size} bytes of {name}"
                yield Frame(name, None, time.time(), problem)
                return
            stamp, arrived = time.time(), time.monotonic()
            image = pixel_formats.to_bgr(pixel_formats.view(data, layout), layout)
            yield Frame(name, image, stamp, "", arrived)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """A descriptor to read from. A pipe opens at once, whether or not its writer is there."""
    if path == "-":
        yield sys.stdin.fileno()
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    try:
        yield handle
    finally:
        os.close(handle)


def _fill(handle: int, into: memoryview, stop: threading.Event) -> int:
    """Bytes read until the buffer is full, the writer has gone or ``stop`` is set; a writer is waited for."""
    poll, got = select.poll(), 0
    poll.register(handle, select.POLLIN)
    while got < len(into) and not stop.is_set():
        if not poll.poll(1000 * POLL_S):
            continue
        try:
            count = os.readv(handle, [into[got:]])
        except BlockingIOError:
            continue
        if not count:
            break
        got += count
    return got
