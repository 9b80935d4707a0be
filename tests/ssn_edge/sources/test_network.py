"""Network cameras, clips and pictures over HTTP, from a server in this process."""

import base64
import contextlib
import hashlib
import http.server
import re
import threading

import pytest
from clips import LEVELS, STRICT, clip, jpeg
from waiting import PATIENCE_S, in_thread, until

from ssn_edge import InputError, sources
from ssn_edge.frames.decoding import Reading
from ssn_edge.line import stream
from ssn_edge.sources import network

WHOLE = jpeg(100)
PARTS = {"type": "multipart/x-mixed-replace; boundary=next"}


class Handler(http.server.BaseHTTPRequestHandler):
    """Does what the server's ``answer`` says."""

    def do_GET(self):
        with contextlib.suppress(ConnectionError):
            self.server.answer(self)

    def start(self, code=200, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header({"type": "Content-Type", "length": "Content-Length"}.get(name, name), value)
        self.end_headers()

    def part(self, data, length=None):
        said = len(data) if length is None else length
        head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {said}\r\n\r\n"
        self.wfile.write(head.encode() + data + b"\r\n")

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Starts a server that answers by a function; its address, without the scheme."""
    servers = []

    def start(answer):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.answer, server.daemon_threads = answer, True
        server.block_on_close = False
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_network_camera_that_breaks_off(detector, serve):
    def answer(request):
        request.start(**PARTS)
        for _ in range(20):
            request.part(WHOLE)

    source = sources.find(f"http://{serve(answer)}/video.mjpg")
    assert source.live and source.policy == "latest"
    summary = stream.run(source, detector, policy="every", max_frames=30, retry_s=(0.05, 0.2))
    assert summary.judged == 30 and summary.gap_count >= 1
    assert "no more frames" in summary.gaps[0].reason


@pytest.mark.parametrize("cut, length", [
    (WHOLE[: len(WHOLE) // 2], None), (WHOLE[: len(WHOLE) // 2], len(WHOLE)),
    pytest.param(WHOLE[: len(WHOLE) // 2] + b"\xff\xd9", None, marks=pytest.mark.skipif(
        not STRICT, reason="the [strict-decode] extra is not installed")),
    (b"no picture", None),
])
def test_a_cut_part_is_a_broken_frame_and_the_next_is_judged(detector, serve, caplog, cut, length):
    def answer(request):
        request.start(**PARTS)
        for number in range(15):
            request.part(*((cut, length) if number == 6 else (WHOLE,)))

    summary = stream.run(f"http://{serve(answer)}/x", detector, policy="every", max_frames=15)
    assert (summary.judged, summary.broken) == (14, 1) and (STRICT or summary.untold == {"JPEG": 14})
    assert "skipped: 127.0.0.1-" in caplog.text and "not a complete image" in caplog.text


def test_parts_without_a_boundary(detector, serve):
    def answer(request):
        request.start(type="multipart/x-mixed-replace")
        request.wfile.write(b"".join([WHOLE, WHOLE[:900], WHOLE]))

    summary = stream.run(f"http://{serve(answer)}/x", detector, policy="every", max_frames=3)
    assert (summary.judged, summary.broken) == (2, 1)


def test_a_single_picture_ends_by_itself(detector, serve):
    def answer(request):
        data = WHOLE if request.path == "/snap.jpg" else WHOLE[:500]
        request.start(type="image/jpeg", length=len(data))
        request.wfile.write(data)

    address = serve(answer)
    source = sources.find(f"http://{address}/snap.jpg")
    assert not source.live and source.policy == "every"
    assert stream.run(source, detector).judged == 1
    with pytest.raises(InputError, match="/cut.jpg: not a complete image"):
        sources.find(f"http://{address}/cut.jpg")


def test_a_clip_ends_by_itself_and_is_counted(detector, serve, tmp_path):
    data = clip(tmp_path / "v.avi").read_bytes()

    def answer(request):
        found = data if request.path == "/v.avi" else data[: len(data) // 2]
        request.start(type="video/x-msvideo", length=len(found))
        request.wfile.write(found)

    address = serve(answer)
    try:
        source = sources.find(f"http://{address}/v.avi")
    except InputError:
        pytest.skip("this OpenCV reads no network streams")
    assert not source.live and source.policy == "every"
    assert stream.run(source, detector).judged == len(LEVELS)
    summary = stream.run(f"http://{address}/cut.avi", detector)
    assert summary.broken and summary.judged + summary.broken == len(LEVELS)


def asks(scheme):
    """A camera that wants admin and "p@ss word"."""

    def md5(text):
        return hashlib.md5(text.encode()).hexdigest()

    def allowed(request):
        given = request.headers.get("Authorization", "")
        if scheme == "Basic":
            return given == "Basic " + base64.b64encode(b"admin:p@ss word").decode()
        said = dict(re.findall(r'(\w+)="?([^",]*)"?', given))
        if not given.startswith("Digest "):
            return False
        expected = md5(":".join([
            md5("admin:camera:p@ss word"), said["nonce"], said["nc"], said["cnonce"], said["qop"],
            md5(f"GET:{request.path}"),
        ]))
        return said["response"] == expected

    def answer(request):
        if not allowed(request):
            wanted = 'realm="camera"' + (', nonce="abc", qop="auth"' if scheme == "Digest" else "")
            request.start(401, length=0, **{"WWW-Authenticate": f"{scheme} {wanted}"})
            return
        request.start(**PARTS)
        request.part(WHOLE)

    return answer


@pytest.mark.parametrize("scheme", ["Basic", "Digest"])
def test_passwords(detector, serve, scheme):
    address = serve(asks(scheme))
    good = f"http://admin:p%40ss%20word@{address}/x?a=1"
    source = sources.find(good)
    assert "p%40" not in source.name and stream.run(source, detector, max_frames=1).judged == 1
    for wrong in (f"http://admin:secret@{address}/x", f"http://{address}/x"):
        with pytest.raises(InputError, match=r"does not open \(status 401\); give") as caught:
            sources.find(wrong)
        assert "secret" not in str(caught.value) and address in str(caught.value)


def test_wrong_addresses_never_show_a_password(serve, tmp_path):
    (tmp_path / "x.jpg").write_bytes(WHOLE)

    def answer(request):
        to = {"/file": f"file://{tmp_path}/x.jpg", "/ftp": "ftp://127.0.0.1/x", "/tls": "https://127.0.0.1:9/"}
        if request.path in to:
            request.start(302, Location=to[request.path], length=0)
        elif request.path == "/junk":
            request.wfile.write(b"junk\r\n\r\n")
        else:
            request.start(404, length=0)

    address = serve(answer)
    for path, text in (
        ("/none", "status 404"), ("/file", "does not open"), ("/ftp", "ftp://, which is not followed"),
        ("/tls", "https://, which is not followed"), ("/junk", "does not open"),
    ):
        with pytest.raises(InputError, match=text) as caught:
            sources.find(f"http://u:secret@{address}{path}")
        assert "secret" not in str(caught.value)
    for spec in ("http://u:secret@127.0.0.1:9/x", "http://u:secret@host:port/x", "https://u:secret@/x",
                 f"https://u:secret@{address}/x", "http://u:secret@[/x"):
        with pytest.raises(InputError, match="does not open") as caught:
            sources.find(spec)
        assert "secret" not in str(caught.value), spec


def test_redirects_within_http_are_followed(detector, serve):
    def answer(request):
        if request.path == "/old":
            request.start(302, Location="/new", length=0)
        else:
            request.start(**PARTS)
            request.part(WHOLE)

    assert stream.run(f"http://{serve(answer)}/old", detector, max_frames=1).judged == 1


def test_a_silent_camera_is_lost_and_a_stop_ends_the_wait(detector, serve, monkeypatch, caplog):
    monkeypatch.setattr(network, "TIMEOUT_MS", 200)
    closed = threading.Event()

    def answer(request):
        request.start(**PARTS)
        request.part(WHOLE)
        request.wfile.flush()
        closed.wait(PATIENCE_S)

    spec, stop, seen = f"http://{serve(answer)}/x", threading.Event(), []
    thread = in_thread(lambda: stream.run(
        spec, detector, stop=stop, retry_s=(0.01, 0.02), policy="every", on_result=seen.append
    ))
    until(lambda: len(seen) >= 2)
    assert "breaks off" in caplog.text and "timed out" in caplog.text
    stop.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    closed.set()


def test_bytes_without_a_picture_are_a_warning(serve, monkeypatch, caplog):
    """One, however long it goes on."""
    monkeypatch.setattr(network, "TIMEOUT_MS", 300)
    stop, noted, note = threading.Event(), [], network._Fruitless.note
    monkeypatch.setattr(network._Fruitless, "note", lambda self: (note(self), noted.append(self)))

    def answer(request):
        request.start(**PARTS)
        while not stop.wait(0.01):
            request.wfile.write(b"no picture ")

    frames = sources.find(f"http://u:secret@{serve(answer)}/x").open(stop)
    found = []
    thread = in_thread(lambda: found.extend(frames))
    until(lambda: "sends data, but no picture" in caplog.text)
    monkeypatch.setattr(network, "TIMEOUT_MS", -1)  # from now on every read is late
    count = len(noted)
    until(lambda: len(noted) > count + 3)
    stop.set()
    thread.join(PATIENCE_S)
    assert len(caplog.records) == 1 and not found and "secret" not in caplog.text


def test_a_stop_between_trickling_bytes(serve):
    """A camera that is not silent, but never ends its part."""
    ended, stop, sent = threading.Event(), threading.Event(), []

    def answer(request):
        request.start(**PARTS)
        request.wfile.write(b"--next\r\n\r\n")
        while not ended.wait(0.01):
            request.wfile.write(b"x")
            sent.append(1)

    frames = sources.find(f"http://{serve(answer)}/x").open(stop)
    found = []
    thread = in_thread(lambda: found.extend(frames))
    until(lambda: len(sent) > 3)
    stop.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive() and not found
    ended.set()


def test_bits_and_orientation_reach_the_parts(serve):
    def answer(request):
        request.start(**PARTS)
        request.part(WHOLE)

    source = sources.find(f"http://{serve(answer)}/x", Reading(12, "ignored"))
    (frame,) = source.open(threading.Event())
    assert frame.told == STRICT and frame.kind == "JPEG" and abs(float(frame.image.mean()) - 100) < 12
