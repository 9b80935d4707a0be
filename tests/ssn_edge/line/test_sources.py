"""Folders that are watched, pipes and network streams, each with its faults; stops that end every wait."""

import http.server
import os
import sys
import threading

import cv2
import numpy as np
import pytest
from waiting import PATIENCE_S, in_thread, until

from ssn_edge import InputError
from ssn_edge.frames import pixel_formats
from ssn_edge.line import shared_memory, sources, stream
from ssn_edge.line.sinks import stem_of
from ssn_edge.text import without_password

FRAME = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


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
        held.append(shared_memory.Writer(shared, pixel_formats.checked("BGR", 40, 60)))
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
