"""Folders that are watched, pipes, shared memory and network streams, each with its faults."""

import http.server
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import PATIENCE_S, until

from ssn_edge import Detector, InputError, barrier, pixels, shared_memory, sources, stream
from ssn_edge.errors import without_password
from ssn_edge.pixels import FORMATS, Layout
from ssn_edge.sinks import stem_of

FRAME = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def detector(tmp_path):
    with Detector.open(tiny.write_model(tmp_path / "m.onnx"), "onnxruntime") as opened:
        yield opened


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(list(FORMATS)), half=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    extra=st.integers(0, 9), seed=st.integers(0, 99),
)
def test_strides_do_not_matter(name, half, extra, seed):
    """A frame with gaps between its rows is the frame without them."""
    height, width = 2 * half[0], 2 * half[1]
    packed = pixels.checked(name, height, width)
    rows = np.random.default_rng(seed).integers(0, 256, (packed.rows, packed.row), np.uint8)
    apart = pixels.checked(name, height, width, packed.row + extra)
    data = np.full((packed.rows, apart.row), 255 - rows[0, 0], np.uint8)
    data[:, : packed.row] = rows
    memory = data.tobytes()[: apart.size]  # the last row ends with its pixels
    one = pixels.to_bgr(pixels.view(rows.tobytes(), packed), packed)
    two = pixels.to_bgr(pixels.view(memory, apart), apart)
    np.testing.assert_array_equal(one, two)
    assert one.shape[:2] == (height, width)
    with pytest.raises(InputError, match="bytes"):
        pixels.view(memory[:-1], apart)


def test_yuv_is_bt601():
    """Grey and the primaries by the standard's equations (limited range)."""
    for y, u, v in ((16, 128, 128), (235, 128, 128), (81, 90, 240), (145, 54, 34), (41, 240, 110)):
        planes = np.concatenate([np.full((4, 4), y, np.uint8), np.tile(np.array([u, v], np.uint8), (2, 2))])
        yuyv = np.tile(np.array([[[y, u], [y, v]]], np.uint8), (4, 2, 1))
        red = 1.164 * (y - 16) + 1.596 * (v - 128)
        green = 1.164 * (y - 16) - 0.813 * (v - 128) - 0.391 * (u - 128)
        blue = 1.164 * (y - 16) + 2.018 * (u - 128)
        truth = np.clip([blue, green, red], 0, 255)
        for name, data in (("NV12", planes), ("YUYV", yuyv)):
            layout = Layout(name, 4, 4)
            shown = pixels.to_bgr(pixels.view(data.tobytes(), layout), layout)
            assert np.abs(shown - truth).max() <= 2


@pytest.fixture
def looks(monkeypatch):
    """What watched folders were seen to hold, look by look, and which files were tried."""
    listings, tried = [], []
    listed, read = sources._listed, sources._read

    def noted(folder):
        found = listed(folder)
        listings.append({path.name for path in found})
        return found

    monkeypatch.setattr(sources, "_listed", noted)
    monkeypatch.setattr(sources, "_read", lambda path, name: (read(path, name), tried.append(name))[0])
    return listings, tried


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_watched_folder(detector, tmp_path, looks, monkeypatch):
    listings, tried = looks
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "old.png"), FRAME)
    whole = cv2.imencode(".jpg", FRAME)[1].tobytes()
    stop, seen, summary = threading.Event(), [], stream.Summary()
    monkeypatch.setattr(sources, "SETTLE_S", PATIENCE_S)

    def writer():
        (folder / "a.jpg").write_bytes(whole)
        with open(folder / "b.jpg", "wb") as file:  # a camera that takes its time
            file.write(whole[:300])
            file.flush()
            until(lambda: "b.jpg" in tried)
            file.write(whole[300:])
        until(lambda: {"a.jpg", "b.jpg"} <= set(seen))
        os.unlink(folder / "a.jpg")
        until(lambda: "a.jpg" not in listings[-1])
        (folder / "a.jpg").write_bytes(whole)  # the same name again is another part
        until(lambda: seen.count("a.jpg") == 2)
        monkeypatch.setattr(sources, "SETTLE_S", 0.1)
        (folder / "torn.jpg").write_bytes(whole[:300])
        until(lambda: summary.broken)
        stop.set()

    source = sources.find(f"watch:{folder}")
    thread = in_thread(writer)
    stream.run(source, detector, on_result=lambda r: seen.append(r.frame.name), stop=stop, summary=summary)
    thread.join()
    assert sorted(seen) == ["a.jpg", "a.jpg", "b.jpg"]
    assert summary.broken == 1  # torn.jpg, once it has stopped growing


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


@pytest.fixture
def shared():
    """A name in shared memory that nobody has, gone afterwards."""
    name = f"ssn-test-{uuid.uuid4().hex}"
    yield name
    shared_memory.path_of(name).unlink(missing_ok=True)


@pytest.fixture
def readers(monkeypatch):
    """The readers that were opened."""
    opened, real = [], shared_memory.Reader
    monkeypatch.setattr(shared_memory, "Reader", lambda name: opened.append(real(name)) or opened[-1])
    return opened


def test_shared_memory(detector, monkeypatch, caplog, shared, readers):
    monkeypatch.setattr(shared_memory, "SILENCE_S", PATIENCE_S)
    writer = shared_memory.Writer(shared, pixels.checked("BGR", 40, 60))
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
    writer = shared_memory.Writer(shared, pixels.checked("BGR", 40, 60))
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
    first = shared_memory.Writer(shared, pixels.checked("BGR", 40, 60))

    def write():
        until(lambda: readers)
        until(lambda: first.write(frame_of(10)) or scores)
        if way == "unlinked":
            first.close()
        else:
            os.truncate(first.path, 20)
            until(lambda: "source lost" in caplog.text)
        second = shared_memory.Writer(shared, pixels.checked("GRAY8", 80, 90))
        until(lambda: second.write(bytes([20]) * 7200) or scores[-1] == 20)
        stop.set()

    thread = in_thread(write)
    summary = stream.run(
        f"shm:{shared}", detector, stop=stop, retry_s=(0.01, 0.02),
        on_result=lambda r: scores.append(round(255 * r.detection.score)),
    )
    thread.join()
    assert set(scores) == {10, 20} and scores == sorted(scores)
    assert summary.gaps[0].reason.count("no new frame" if way == "unlinked" else "changed its size") == 1


def frame_of(level):
    return bytes([level]) * FRAME.size


def newest(reader):
    """The level of what the reader finds; None where there is nothing new."""
    found = reader._new()
    return None if found is None else int(found[2][0, 0, 0])


def test_a_restarted_writers_stale_frame_is_no_frame(shared):
    """A new writer finds the old one's pixels: they are not judged, and its first frame is, whatever number
    it comes to."""
    layout = pixels.checked("BGR", 40, 60)
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
    writer = shared_memory.Writer(shared, pixels.checked("BGR", 40, 60))
    reader = shared_memory.Reader(shared)
    writer.write(frame_of(10))
    assert newest(reader) == 10
    for layout in (pixels.checked("GRAY8", 20, 30), pixels.checked("BGR", 80, 90)):
        other = shared_memory.Writer(shared, layout)
        assert newest(reader) is None
        other.write(bytes([20]) * layout.size)
        found = reader._new()
        assert found[2].shape[:2] == (layout.height, layout.width) and (found[2] == 20).all()
    reader.close()


def test_a_restarted_writer_does_not_shrink_its_file(shared):
    """A reader of someone else's may have mapped it, and would die of it."""
    large = shared_memory.Writer(shared, pixels.checked("BGR", 80, 90))
    size = os.stat(large.path).st_size
    shared_memory.Writer(shared, pixels.checked("BGR", 40, 60))
    assert os.stat(large.path).st_size == size


def test_a_restart_in_the_middle_of_a_copy(shared):
    """Half of the old writer's frame and half of the new one's, under one sequence: no frame."""
    layout = pixels.checked("BGR", 40, 60)
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
    layout = pixels.checked("BGR", 40, 60)
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
from ssn_edge import pixels, shared_memory
from ssn_edge.errors import InputError
writer = shared_memory.Writer(sys.argv[1], pixels.checked("BGR", 1080, 1920))
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
    env = {**os.environ, "PYTHONPATH": str(Path(stream.__file__).parents[1])}
    words = [sys.executable, "-c", SHRUNK, shared, str(left)]
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=PATIENCE_S)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert shared in done.stdout and len(done.stdout.splitlines()) == 1


class Recorded:
    """The writer's numbers or memory, telling what is stored."""

    def __init__(self, real, told, name):
        self._real, self._told, self._name = real, told, name

    def __getitem__(self, key):
        return self._real[key]

    def __setitem__(self, key, value):
        self._told.append(f"{self._name} {key}" if isinstance(key, int) else self._name)
        self._real[key] = value


def test_loads_and_stores_are_kept_in_order_by_fences(shared, monkeypatch):
    """Sequence, barrier, frame, barrier, sequence: on both sides."""
    told = []
    monkeypatch.setattr(barrier, "fence", lambda: lambda: told.append("fence"))
    writer = shared_memory.Writer(shared, pixels.checked("BGR", 40, 60))
    reader = shared_memory.Reader(shared)
    writer._numbers = Recorded(writer._numbers, told, "number")
    writer._memory = Recorded(writer._memory, told, "pixels")
    del told[:]
    writer.write(frame_of(10))
    assert told == ["number 0", "fence", "number 1", "pixels", "fence", "number 0"]
    preadv = os.preadv
    where = {32: "sequence", 0: "header", 64: "pixels"}
    monkeypatch.setattr(os, "preadv", lambda f, into, at: (told.append(where[at]), preadv(f, into, at))[1])
    del told[:]
    assert newest(reader) == 10
    assert told == ["sequence", "fence", "header", "pixels", "fence", "sequence"]
    reader.close()


def test_the_barrier_of_processors_that_need_one(monkeypatch, shared):
    """The real system call, with this machine's number; refused where there is none."""
    number = barrier.SYSCALLS.get(os.uname().machine)
    if sys.platform != "linux" or number is None:
        pytest.skip("membarrier is Linux's")
    try:
        made = barrier._membarrier(number)
    except InputError as error:
        pytest.skip(f"this kernel or container refuses it: {error}")
    for _ in range(1000):
        made()
    assert barrier.fence_of("x86_64")() is None
    with pytest.raises(InputError, match="membarrier is refused"):
        barrier._membarrier(100_000)  # no such system call: an old kernel
    writer = shared_memory.Writer(shared, pixels.checked("BGR", 40, 60))
    monkeypatch.setattr(barrier.platform, "machine", lambda: "sparc64")
    for opens in (shared_memory.Reader, lambda name: shared_memory.Writer(name, writer._layout)):
        with pytest.raises(InputError, match="no barrier is known for sparc64"):
            opens(shared)


def alive():
    return [thread for thread in threading.enumerate() if thread.name == "ssn-capture"]


@pytest.mark.parametrize("kind", ["watch", "fifo", "fifo with an idle writer", "stdin", "shm"])
def test_a_stop_ends_every_wait(detector, tmp_path, monkeypatch, kind, shared):
    """No thread is left behind by a source that nothing comes from."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    held = []
    if kind == "watch":
        spec = f"watch:{tmp_path}"
    elif kind == "shm":
        held.append(shared_memory.Writer(shared, pixels.checked("BGR", 40, 60)))
        spec = f"shm:{shared}"
    elif kind == "stdin":
        reads, writes = os.pipe()
        held += [os.fdopen(reads, "rb"), os.fdopen(writes, "wb")]
        monkeypatch.setattr(sys, "stdin", held[0])
        spec = "raw:40x60xBGR:-"
    else:
        spec = f"raw:40x60xBGR:{fifo}"
        if kind.endswith("writer"):  # that gave half a frame
            held.append(os.fdopen(os.open(fifo, os.O_RDWR), "wb", buffering=0))
            held[0].write(FRAME.tobytes()[:99])
    stop, summary = threading.Event(), stream.Summary()
    thread = in_thread(lambda: stream.run(spec, detector, stop=stop, summary=summary))
    until(alive)
    stop.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive() and summary.captured == 0
    until(lambda: not alive(), 10)
    for one in held:
        one.close()


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


def test_watched_folder_that_goes_away(detector, tmp_path, caplog, looks):
    """A share that is gone for a moment: what came meanwhile is judged, what was judged is not again."""
    listings, _ = looks
    folder, away = tmp_path / "in", tmp_path / "away"
    folder.mkdir()
    stop, seen = threading.Event(), []

    def share():
        cv2.imwrite(str(folder / "a.png"), FRAME)
        until(lambda: seen == ["a.png"])
        folder.rename(away)
        until(lambda: "source lost" in caplog.text)
        cv2.imwrite(str(away / "b.png"), FRAME)
        away.rename(folder)
        until(lambda: "b.png" in seen)
        count = len(listings)
        until(lambda: len(listings) > count + 3)
        stop.set()

    source = sources.find(f"watch:{folder}")
    thread = in_thread(share)
    stream.run(
        source, detector, on_result=lambda r: seen.append(r.frame.name), stop=stop, retry_s=(0.02, 0.05)
    )
    thread.join()
    assert seen == ["a.png", "b.png"]


def test_passwords_stay_inside(caplog):
    address = "rtsp://admin:secret@127.0.0.1:9/stream"
    assert "secret" not in sources.find(address).name
    with pytest.raises(InputError) as caught:
        sources.open_source(address)
    assert "secret" not in str(caught.value) and "rtsp://127.0.0.1:9/stream" in str(caught.value)
    assert without_password("rtsp://a:p@ss@host/x") == "rtsp://host/x"
    assert without_password("/dev/video0") == "/dev/video0"


def test_frames_of_one_name_are_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "1.png"), FRAME)
    names = [frame.name for frame in sources.open_source(str(tmp_path / "**" / "*.png"))]
    assert len({stem_of(name) for name in names}) == 2
    assert [stem_of(name) for name in ("a.png", "line.v2-000001", "cam.1-000002")] == [
        "a", "line.v2-000001", "cam.1-000002",
    ]


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


class Camera(http.server.BaseHTTPRequestHandler):
    """A network camera: 20 frames of MJPEG, then the connection breaks."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        data = cv2.imencode(".jpg", FRAME)[1].tobytes()
        for _ in range(20):
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")

    def log_message(self, *_):
        pass


def test_network_camera_that_breaks_off(detector):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/video.mjpg"
    try:
        probe = cv2.VideoCapture(address)
        if not probe.isOpened():
            pytest.skip("this OpenCV reads no network streams")
        probe.release()
        summary = stream.run(address, detector, policy="every", max_frames=30, retry_s=(0.05, 0.2))
    finally:
        server.shutdown()
        server.server_close()
    assert summary.judged == 30 and summary.gap_count >= 1
    assert "no more frames" in summary.gaps[0].reason


@pytest.mark.parametrize("spec, text", [
    ("raw:40xBGR:x", "give raw:HEIGHT"), ("raw:40x60xRGB:x", "pixel format 'RGB'"),
    ("watch:none", "no such folder"), ("raw:41x60xNV12:x", "even sizes"),
    ("raw:40x60xBGR:none", "mkfifo"), ("shm:none-there", "start its writer"),
    ("²", "no such file or folder"), ("raw:4²x60xBGR:x", "give raw:HEIGHT"), ("٣", "no such file or folder"),
    ("9999999999", "no such file"), ("raw:4x" + "9" * 5000 + "xBGR:x", "give raw:HEIGHT"),
    ("raw:40x60xBGR:/", "no such pipe or file"), ("shm:a\0b", "plain name"),
])
def test_wrong_addresses(spec, text):
    with pytest.raises(InputError, match=text):
        sources.open_source(spec)
