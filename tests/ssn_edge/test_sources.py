"""Folders that are watched, pipes, shared memory and network streams, each with its faults."""

import http.server
import os
import threading
import time
import uuid

import cv2
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge import Detector, InputError, pixels, shared_memory, sources, stream
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


def test_watched_folder(detector, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "old.png"), FRAME)
    whole = cv2.imencode(".jpg", FRAME)[1].tobytes()
    stop, seen = threading.Event(), []

    def writer():
        time.sleep(0.3)
        (folder / "a.jpg").write_bytes(whole)
        with open(folder / "b.jpg", "wb") as file:  # a camera that takes its time
            file.write(whole[:300])
            file.flush()
            time.sleep(0.5)
            file.write(whole[300:])
        (folder / "torn.jpg").write_bytes(whole[:300])
        os.unlink(folder / "a.jpg")
        time.sleep(0.3)
        (folder / "a.jpg").write_bytes(whole)  # the same name again is another part

    thread = threading.Thread(target=writer)
    thread.start()

    def note(result):
        seen.append(result.frame.name)
        if len(seen) == 3:
            threading.Timer(sources.SETTLE_S + 0.5, stop.set).start()

    summary = stream.run(f"watch:{folder}", detector, on_result=note, stop=stop)
    thread.join()
    assert sorted(seen) == ["a.jpg", "a.jpg", "b.jpg"]
    assert summary.broken == 1  # torn.jpg, once it has stopped growing


def test_raw_file_and_pipe(detector, tmp_path):
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
            time.sleep(0.1)

    thread = threading.Thread(target=writer)
    thread.start()
    summary = stream.run(
        f"raw:40x60xBGR:{fifo}", detector, policy="every", max_frames=4, retry_s=(0.02, 0.1)
    )
    thread.join()
    assert summary.judged == 4 and summary.gap_count == 1


def test_shared_memory(detector, monkeypatch):
    monkeypatch.setattr(shared_memory, "SILENCE_S", 0.3)
    name = f"ssn-test-{uuid.uuid4().hex}"
    writer = shared_memory.Writer(name, pixels.checked("BGR", 40, 60))
    scores, stop = [], threading.Event()

    def write():
        for level in range(0, 250, 10):
            writer.write(bytes([level]) * FRAME.size)
            time.sleep(0.01)
        time.sleep(0.6)  # silent for longer than allowed: lost
        writer.write(bytes([250]) * FRAME.size)

    def note(result):
        scores.append(round(255 * result.detection.score))
        if scores[-1] == 250:
            stop.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        summary = stream.run(
            f"shm:{name}", detector, policy="every", on_result=note, stop=stop, retry_s=(0.05, 0.1)
        )
    finally:
        thread.join()
        writer.close()
    assert scores[-1] == 250 and len(scores) > 20 and scores == sorted(scores)  # none torn: levels are whole
    assert set(scores) <= set(range(0, 251, 10))
    assert summary.gap_count >= 1 and "no new frame" in summary.gaps[0].reason
    with pytest.raises(InputError, match="start its writer"):
        sources.open_source(f"shm:{name}")


def test_shared_memory_does_not_repeat_what_lay_there(detector, monkeypatch):
    """The program behind it is dead: its last frame is judged once, not at every try to find it again."""
    monkeypatch.setattr(shared_memory, "SILENCE_S", 0.2)
    name = f"ssn-test-{uuid.uuid4().hex}"
    writer = shared_memory.Writer(name, pixels.checked("BGR", 40, 60))
    writer.write(FRAME.tobytes())  # before anyone looks
    stop, seen = threading.Event(), []
    threading.Timer(0.1, writer.write, [FRAME.tobytes()]).start()
    threading.Timer(1.5, stop.set).start()
    try:
        summary = stream.run(
            f"shm:{name}", detector, on_result=lambda r: seen.append(r), stop=stop, retry_s=(0.05, 0.1)
        )
    finally:
        writer.close()
    assert len(seen) == summary.captured == 1


def test_watched_folder_that_goes_away(detector, tmp_path):
    """A share that is gone for a moment: what came meanwhile is judged, what was judged is not again."""
    folder, away = tmp_path / "in", tmp_path / "away"
    folder.mkdir()
    stop, seen = threading.Event(), []

    def share():
        time.sleep(0.3)
        cv2.imwrite(str(folder / "a.png"), FRAME)
        time.sleep(0.4)
        folder.rename(away)
        time.sleep(0.4)
        cv2.imwrite(str(away / "b.png"), FRAME)
        away.rename(folder)
        time.sleep(0.8)
        stop.set()

    thread = threading.Thread(target=share)
    thread.start()
    stream.run(
        f"watch:{folder}", detector, on_result=lambda r: seen.append(r.frame.name), stop=stop,
        retry_s=(0.05, 0.1),
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
            time.sleep(0.01)

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
])
def test_wrong_addresses(spec, text):
    with pytest.raises(InputError, match=text):
        sources.open_source(spec)
