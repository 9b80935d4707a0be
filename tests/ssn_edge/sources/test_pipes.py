"""Raw frames through pipes and standard input."""

import os
import sys
import threading

import numpy as np
from waiting import in_thread, until

from ssn_edge import sources
from ssn_edge.line import stream

FRAME = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def test_raw_file_and_pipe(detector, tmp_path, caplog):
    raw = tmp_path / "frames.raw"
    raw.write_bytes(FRAME.tobytes() * 3 + b"half")
    summary = stream.run(f"raw:40x60xBGR:{raw}", detector)
    assert (summary.judged, summary.broken) == (3, 1)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def writer():
        for _ in range(2):  # the program behind the pipe dies and comes back
            with open(fifo, "wb") as file:
                file.write(FRAME.tobytes() * 2)
            until(lambda: "source lost" in caplog.text)

    thread = in_thread(writer)
    summary = stream.run(
        f"raw:40x60xBGR:{fifo}", detector, policy="every", max_frames=4, retry_s=(0.02, 0.1)
    )
    thread.join()
    assert summary.judged == 4 and summary.gap_count == 1


def alive():
    return [thread for thread in threading.enumerate() if thread.name == "ssn-capture"]


def test_a_writer_may_come_late_to_its_pipe(detector, tmp_path):
    fifo, stop = tmp_path / "fifo", threading.Event()
    os.mkfifo(fifo)

    def write():
        until(alive)
        fifo.write_bytes(FRAME.tobytes())

    thread = in_thread(write)
    summary = stream.run(f"raw:40x60xBGR:{fifo}", detector, stop=stop, on_result=lambda r: stop.set())
    thread.join()
    assert summary.judged == 1 and summary.gap_count == 0


def test_standard_input_keeps_its_flags(monkeypatch):
    """Others read from it too: it is polled, not made non-blocking."""
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb") as there, os.fdopen(writes, "wb", buffering=0) as program:
        monkeypatch.setattr(sys, "stdin", there)
        program.write(FRAME.tobytes())
        frame = next(sources.open_source("raw:40x60xBGR:-"))
        assert os.get_blocking(reads)
    np.testing.assert_array_equal(frame.image, FRAME)
