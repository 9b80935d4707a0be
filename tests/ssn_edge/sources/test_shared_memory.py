"""Frames in shared memory: restarts, torn frames, files that shrink, and the order that barriers keep."""

import os
import re
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from waiting import PATIENCE_S, in_thread, until

from ssn_edge import InputError, sources
from ssn_edge.frames import pixel_formats
from ssn_edge.line import stream
from ssn_edge.sources import shared_memory

FRAME = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def readers(monkeypatch):
    """The readers that were opened."""
    opened, real = [], shared_memory.Reader
    monkeypatch.setattr(shared_memory, "Reader", lambda name: opened.append(real(name)) or opened[-1])
    return opened


def test_shared_memory(detector, monkeypatch, caplog, shared, readers):
    monkeypatch.setattr(shared_memory, "SILENCE_S", PATIENCE_S)
    writer = shared_memory.Writer(shared, pixel_formats.checked("BGR", 40, 60))
    scores, stop = [], threading.Event()

    def write():
        until(lambda: readers)
        for level in range(10, 250, 10):
            writer.write(frame_of(level))
            until(lambda level=level: scores and scores[-1] == level)
        monkeypatch.setattr(shared_memory, "SILENCE_S", 0.1)
        until(lambda: "source lost" in caplog.text)  # silent for longer than allowed
        until(lambda: writer.write(frame_of(250)) or scores[-1] == 250)
        stop.set()

    thread = in_thread(write)
    summary = stream.run(
        f"shm:{shared}", detector, policy="every", stop=stop, retry_s=(0.01, 0.05),
        on_result=lambda r: scores.append(round(255 * r.detection.score)),
    )
    thread.join()
    writer.close()
    assert scores[:24] == [*range(10, 250, 10)] and set(scores[24:]) == {250}  # none torn, none repeated
    assert summary.gap_count >= 1 and "no new frame" in summary.gaps[0].reason
    with pytest.raises(InputError, match="start its writer"):
        sources.open_source(f"shm:{shared}")


def test_shared_memory_does_not_repeat_what_lay_there(detector, monkeypatch, shared, readers):
    """The program behind it is dead: its last frame is judged once, not at every try to find it again."""
    monkeypatch.setattr(shared_memory, "SILENCE_S", PATIENCE_S)
    writer = shared_memory.Writer(shared, pixel_formats.checked("BGR", 40, 60))
    writer.write(FRAME.tobytes())  # before anyone looks
    stop, seen = threading.Event(), []

    def write():
        until(lambda: readers)
        writer.write(FRAME.tobytes())
        until(lambda: seen)
        monkeypatch.setattr(shared_memory, "SILENCE_S", 0.1)
        until(lambda: len(readers) >= 4)
        stop.set()

    thread = in_thread(write)
    summary = stream.run(f"shm:{shared}", detector, on_result=seen.append, stop=stop, retry_s=(0.01, 0.02))
    thread.join()
    writer.close()
    assert len(seen) == summary.captured == 1


@pytest.mark.parametrize("way", ["unlinked", "shrunk"])
def test_a_writer_that_starts_on_another_file_is_found_again(
    detector, monkeypatch, caplog, shared, readers, way
):
    """Unlinked, its old file stays silent; shrunk, it is no frame. Both are gaps, with frames after them."""
    monkeypatch.setattr(shared_memory, "SILENCE_S", PATIENCE_S if way == "shrunk" else 1.0)
    stop, scores = threading.Event(), []
    first = shared_memory.Writer(shared, pixel_formats.checked("BGR", 40, 60))

    def write():
        until(lambda: readers)
        until(lambda: first.write(frame_of(10)) or scores)
        if way == "unlinked":
            first.close()
        else:
            os.truncate(first.path, 20)
            until(lambda: "source lost" in caplog.text)
        second = shared_memory.Writer(shared, pixel_formats.checked("GRAY8", 80, 90))
        until(lambda: second.write(bytes([20]) * 7200) or scores[-1] == 20)
        stop.set()

    thread = in_thread(write)
    summary = stream.run(
        f"shm:{shared}", detector, stop=stop, retry_s=(0.01, 0.02),
        on_result=lambda r: scores.append(round(255 * r.detection.score)),
    )
    thread.join()
    assert set(scores) == {10, 20} and scores == sorted(scores)
    reasons = {"unlinked": "no new frame", "shrunk": "changed its size|not a shared frame"}  # size or header
    assert re.search(reasons[way], summary.gaps[0].reason)


def frame_of(level):
    return bytes([level]) * FRAME.size


def newest(reader):
    """The level of what the reader finds; None where there is nothing new."""
    found = reader._new()
    return None if found is None else int(found[2][0, 0, 0])


def test_a_restarted_writers_stale_frame_is_no_frame(shared):
    """A new writer finds the old one's pixels: they are not judged, and its first frame is, whatever number
    it comes to."""
    layout = pixel_formats.checked("BGR", 40, 60)
    writer = shared_memory.Writer(shared, layout)
    reader = shared_memory.Reader(shared)
    for level in (10, 20, 30):
        writer.write(frame_of(level))
        assert newest(reader) == level
    again = shared_memory.Writer(shared, layout)
    assert newest(reader) is None  # not 30 again, of 1970
    for level in (40, 50, 60):  # at the third it is where the one before it was
        again.write(frame_of(level))
        if level != 50:  # and this one nobody sees
            assert newest(reader) == level
    late = shared_memory.Reader(shared)
    assert newest(late) is None
    again.write(frame_of(70))
    assert newest(late) == newest(reader) == 70
    reader.close()
    late.close()


def test_a_restarted_writer_of_other_frames(shared):
    """Smaller or larger ones, of another format: the reader takes the new layout."""
    writer = shared_memory.Writer(shared, pixel_formats.checked("BGR", 40, 60))
    reader = shared_memory.Reader(shared)
    writer.write(frame_of(10))
    assert newest(reader) == 10
    for layout in (pixel_formats.checked("GRAY8", 20, 30), pixel_formats.checked("BGR", 80, 90)):
        other = shared_memory.Writer(shared, layout)
        assert newest(reader) is None
        other.write(bytes([20]) * layout.size)
        found = reader._new()
        assert found[2].shape[:2] == (layout.height, layout.width) and (found[2] == 20).all()
    reader.close()


def test_a_restarted_writer_does_not_shrink_its_file(shared):
    """A reader of someone else's may have mapped it, and would die of it."""
    large = shared_memory.Writer(shared, pixel_formats.checked("BGR", 80, 90))
    size = os.stat(large.path).st_size
    shared_memory.Writer(shared, pixel_formats.checked("BGR", 40, 60))
    assert os.stat(large.path).st_size == size


def test_a_restart_in_the_middle_of_a_copy(shared):
    """Half of the old writer's frame and half of the new one's, under one sequence: no frame."""
    layout = pixel_formats.checked("BGR", 40, 60)
    writer, reader = shared_memory.Writer(shared, layout), shared_memory.Reader(shared)
    writer.write(frame_of(10))
    read = reader._read

    def interrupted(count, start):
        data = read(count, start)
        if start == shared_memory.PIXELS_AT:
            reader._read = read
            shared_memory.Writer(shared, layout).write(frame_of(20))  # its first, as 10 was
            data[count // 2 :] = read(count, start)[count // 2 :]
        return data

    reader._read = interrupted
    assert newest(reader) is None
    assert (reader._new()[2] == 20).all()
    reader.close()


def test_a_writer_without_a_clock(shared, monkeypatch):
    """An SDK that states no capture time: its frames are of when they came. Started anew it is told from
    what it was, where the reader saw it start."""
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    layout = pixel_formats.checked("BGR", 40, 60)
    reader = None
    for level in (10, 20):
        writer = shared_memory.Writer(shared, layout)
        reader = reader or shared_memory.Reader(shared)
        assert newest(reader) is None
        writer.write(frame_of(level))
        stamp, _, image = reader._new()
        assert abs(stamp - time.time()) < PATIENCE_S and image[0, 0, 0] == level
    reader.close()


SHRUNK = """
import os, sys, threading
from ssn_edge.frames import pixel_formats
from ssn_edge.sources import shared_memory
from ssn_edge.errors import InputError
writer = shared_memory.Writer(sys.argv[1], pixel_formats.checked("BGR", 1080, 1920))
reader = shared_memory.Reader(sys.argv[1])
writer.write(bytes(writer._layout.size))
os.truncate(writer.path, int(sys.argv[2]))
try:
    reader.next(threading.Event())
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("left", [0, 40, 64, 5000])
def test_a_writer_that_shrinks_its_file_does_not_end_the_reader(shared, left):
    """A mapping would: SIGBUS cannot be caught. In a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(Path(stream.__file__).parents[2])}
    arguments = [sys.executable, "-c", SHRUNK, shared, str(left)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=env, timeout=PATIENCE_S)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert shared in done.stdout and len(done.stdout.splitlines()) == 1


def test_shared_memory_that_is_something_else():
    path = shared_memory.path_of(f"ssn-test-{uuid.uuid4().hex}")
    path.write_bytes(b"\0" * 100)
    try:
        with pytest.raises(InputError, match="not a shared frame"):
            shared_memory.Reader(path.name)
        header = shared_memory.HEADER.pack(b"SSNFRAME", 1, 0, 9999, 9999, 0, 2, 0)
        path.write_bytes(header + b"\0" * 100)
        with pytest.raises(InputError, match="148 bytes"):
            shared_memory.Reader(path.name)
    finally:
        path.unlink()
    with pytest.raises(InputError, match="plain name"):
        shared_memory.path_of("../etc/passwd")
