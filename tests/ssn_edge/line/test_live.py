"""The live view: what a browser gets, who gets in, and the page itself in headless Chromium."""

import contextlib
import dataclasses
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request

import browser
import cv2
import numpy as np
import pytest
import tiny
import waiting

from ssn_edge import Detector, InputError, Verdict
from ssn_edge.line import live_server, sinks, stream
from ssn_edge.line.live import LiveView, Rate, is_loopback
from ssn_edge.sources import Frame

DARK = np.full((120, 160, 3), 30, np.uint8)
SPOT = DARK.copy()
cv2.circle(SPOT, (110, 60), 20, (250, 250, 250), -1)


@pytest.fixture
def view(detector):
    """A live view without a stream."""
    opened = LiveView(detector, stream.Summary(), port=0)
    yield opened
    opened.close()


def judged(detector, number=0, **changes):
    detection = dataclasses.replace(detector.detect(DARK), **changes)
    return stream.Result(number, Frame(f"{number}.png", DARK, 0.0), detection, 0.0, 1.0)


class Line:
    """A stream that runs until the test has seen enough."""

    def __init__(self, detector, **options):
        self.stop, self.summary = threading.Event(), stream.Summary()
        self.view = LiveView(detector, self.summary, port=0, **options)
        self.address = self.view.address
        arguments = {"policy": "latest", "stop": self.stop, "summary": self.summary}
        args = (self._frames(), detector, [self.view])
        self._thread = threading.Thread(target=stream.run, args=args, kwargs=arguments)

    def _frames(self):
        while not self.stop.is_set():
            for frame in [DARK] * 9 + [SPOT]:
                self.stop.wait(0.02)  # a camera of 50 frames a second
                yield frame

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self._thread.join()

    def get(self, path, data=None, **headers):
        request = urllib.request.Request(self.address.split("?")[0] + path, data, headers)
        return urllib.request.urlopen(request, timeout=waiting.PATIENCE_S)


def talk(address, text):
    """What comes back for exactly these bytes, until the other side ends."""
    with connected(address) as client:
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answer:
            return answer.read()


def connected(address):
    host, port = address.split("/")[2].split(":")
    return socket.create_connection((host, int(port)), timeout=waiting.PATIENCE_S)


def heard(client):
    """What has come so far: None for nothing yet, b"" where the other side has ended."""
    client.setblocking(False)
    try:
        return client.recv(4096, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def status(call, *arguments, **headers):
    try:
        with call(*arguments, **headers) as response:
            return response.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def until(page, condition):
    """playwright's own waiting needs eval, which the page forbids."""
    waiting.until(lambda: page.evaluate(condition))


def no_constant(word):
    raise AssertionError(f"{word} is not JSON")


def read_event(response):
    while True:
        text = response.readline().decode()
        assert text, "the stream has ended"
        if text.startswith("data: ") and "number" in (
            news := json.loads(text[6:], parse_constant=no_constant)
        ):
            return news


def event(line):
    with line.get("events") as response:
        return read_event(response)


def test_pictures_figures_and_threshold(detector):
    with Line(detector) as line:
        with line.get("stream") as response:
            assert response.readline() == b"--frame\r\n"
            response.readline()
            size = int(response.readline().split()[1])
            response.readline()
            picture = cv2.imdecode(np.frombuffer(response.read(size), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[1] == 160 and picture.shape[0] > 120
        news = event(line)
        assert news["source"] == "score" and news["threshold"] == news["own"] == 0.5
        assert news["judged"] > 0
        waiting.until(lambda: event(line)["rate"] > 0)
        shot = waiting.until(lambda: event(line)["gallery"])[0]
        with line.get(f"ng/{shot['number']}") as response:
            assert response.headers["Content-Type"] == "image/jpeg" and response.read(2) == b"\xff\xd8"
        assert status(line.get, "threshold", b"0.05") == 204
        waiting.until(lambda: (news := event(line))["is_defect"] and news["threshold"] == 0.05)
        for wrong in (b"nan", b"high", b"inf"):
            assert status(line.get, "threshold", wrong) == 400
        assert status(line.get, "threshold", b"0" * 1000) == 404
        assert status(line.get, "ng/999999") == status(line.get, "../../etc/passwd") == 404
    assert detector.info.verdict.image_threshold == 0.05
    with pytest.raises(OSError):
        status(line.get, "")


def test_only_this_machine_by_its_own_name(detector):
    with Line(detector) as line:
        assert "token" not in line.address
        assert status(line.get, "", Host="localhost:1234") == 200
        assert status(line.get, "", Host="evil.example") == 403  # DNS rebinding
        assert status(line.get, "threshold", b"0.1", Origin="http://evil.example") == 403
        host = line.address.split("/")[2]
        assert status(line.get, "threshold", b"0.1", Origin=f"http://{host}") == 204
        with line.get("") as response:
            policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "nonce-" in policy


def test_other_addresses_need_the_token(detector):
    with Line(detector, host="0.0.0.0") as line:
        token = line.address.split("token=")[1]
        assert len(token) >= 20
        line.address = line.address.replace("0.0.0.0", "127.0.0.1")
        for path in ("", "stream", "events", "ng/1", "?token=wrong", "?token="):
            assert status(line.get, path) == 403
        assert status(line.get, "threshold", b"0.1") == 403
        with line.get(f"?token={token}") as response:
            cookie = response.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert status(line.get, "threshold", b"0.1", Cookie=cookie.split(";")[0]) == 204
        assert status(line.get, f"threshold?token={token}", b"0.2") == 204
        assert detector.info.verdict.image_threshold == 0.2
        assert status(line.get, "threshold?token=wrong", b"0.1") == 403
        assert status(line.get, "threshold", b"0.1", Cookie="ssn_token=wrong") == 403


def test_a_token_that_no_address_can_carry_is_refused(detector):
    with pytest.raises(InputError, match="token: ") as caught:
        LiveView(detector, stream.Summary(), host="0.0.0.0", port=0, token="a+b c;")
    assert "a+b" not in str(caught.value)


def test_bodies_that_are_no_whole_number_change_nothing(detector, view):
    host = f"Host: {view.address.split('/')[2]}".encode()
    for length, body, code in ((b"\xb2", b"0.1", 404), (b"9" * 5000, b"0.1", 404), (b"4", b"0.", 400)):
        head = b"\r\n".join([b"POST /threshold HTTP/1.0", host, b"Content-Length: " + length, b"", body])
        assert talk(view.address, head).split()[1] == str(code).encode(), length
    assert detector.info.verdict.image_threshold == 0.5


def test_idle_connections_get_few_threads_and_little_time(view, monkeypatch):
    monkeypatch.setattr(live_server, "REQUEST_S", 1000.0)
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(view.address)) for _ in range(300)]
        waiting.until(lambda: threading.active_count() > before + 64 or heard(idle[-1]) is not None)
        assert threading.active_count() <= before + 64
        assert heard(idle[-1]).startswith(b"HTTP/1.0 503") and heard(idle[0]) is None

        def served():
            with contextlib.suppress(OSError, http.client.HTTPException):
                return status(urllib.request.urlopen, view.address) == 200

        assert not served()
        monkeypatch.setattr(live_server, "REQUEST_S", 0.5)
        waiting.until(served)
        waiting.until(lambda: threading.active_count() <= before)


def test_a_connection_that_dribbles_is_ended_and_a_stream_is_not(detector, monkeypatch):
    monkeypatch.setattr(live_server, "REQUEST_S", 0.3)
    with Line(detector) as line, waiting_stream(line) as events, connected(line.address) as client:

        def ended():
            with contextlib.suppress(OSError):
                client.send(b"G")
            return heard(client) == b""

        waiting.until(ended)
        first = read_event(events)["number"]
        waiting.until(lambda: read_event(events)["number"] > first + 20)


@contextlib.contextmanager
def waiting_stream(line):
    """The events, opened although the line may be slow to."""

    def opened():
        with contextlib.suppress(OSError, http.client.HTTPException):
            return line.get("events")

    with waiting.until(opened) as response:
        yield response


def test_events_are_json_whatever_the_figures(detector, view):
    view.write(judged(detector, score=float("nan"), map_max=float("inf")))
    with urllib.request.urlopen(view.address + "events", timeout=waiting.PATIENCE_S) as response:
        news = read_event(response)
    assert news["value"] is None and news["values"] == [None]


def test_a_camera_that_is_silent_is_seen(detector, view):
    view.write(judged(detector))
    waiting.until(lambda: view.figures(-1)["silent_s"] > 0.4)
    assert len(view.figures(-1)["values"]) == 1 and view.figures(0)["values"] == []
    waiting.until(lambda: view.write(judged(detector)) or view.figures(-1)["silent_s"] < 0.4)


def test_rate_of_the_last_frames():
    rate = Rate()
    assert rate.value() == 0
    for number in range(200):
        rate.add(number * (1.0 if number < 100 else 0.5))
    assert rate.value() == pytest.approx(2)


def test_ipv6(detector):
    try:
        view = LiveView(detector, stream.Summary(), host="::1", port=0)
    except InputError:
        pytest.skip("no IPv6 here")
    with urllib.request.urlopen(view.address, timeout=waiting.PATIENCE_S) as response:
        assert view.address.startswith("http://[::1]:") and response.status == 200
    view.close()


def test_a_model_that_judges_by_either_shows_both(tmp_path):
    """The score is drawn and its threshold moved; a frame that the map alone made NG is red all the same."""
    verdict = Verdict("either", 1.0, 100.0, "chosen", 1, 200.0)
    path = tiny.write_model(tmp_path / "e.onnx", tiny.info(verdict=verdict).to_json())
    with Detector.open(path) as detector:
        view = LiveView(detector, stream.Summary(), port=0)
        try:
            stream.run([DARK, SPOT], detector, [sinks.Callback(view.write)])
            figures = view.figures(-1)
        finally:
            view.close()
    assert figures["alarms"] == [False, True] and figures["threshold"] == 1.0 > max(figures["values"])
    assert (figures["map_threshold"], figures["map_max"] >= 200) == (200.0, True)


def test_names_of_this_machine():
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "192.168.0.1", "localhost.evil.example", "10.0.0.1"]))


def test_pictures_are_made_only_while_someone_looks(detector, monkeypatch):
    made = []
    real = LiveView._overlay
    monkeypatch.setattr(LiveView, "_overlay", lambda self, result: made.append(1) or real(self, result))
    view = LiveView(detector, stream.Summary(), port=0)
    stream.run([DARK] * 20, detector, [view])
    assert not made


def test_the_page_in_a_browser(detector, tmp_path):
    with browser.page() as (page, problems), Line(detector) as line:
        page.goto(line.address, wait_until="commit")
        page.wait_for_selector("#gallery img")
        until(page, "document.querySelector('#picture').naturalWidth > 0")
        assert page.inner_text("#verdict") in ("OK", "NG") and page.inner_text("#state") == "live"
        ok, defects = int(page.inner_text("#ok")), int(page.inner_text("#ng"))
        assert ok > 0 and defects > 0
        page.locator("#threshold").fill("0.05")
        page.locator("#threshold").dispatch_event("change")
        until(page, f"Number(document.querySelector('#ng').textContent) > {defects + 10}")
        assert detector.info.verdict.image_threshold == pytest.approx(0.05)
        page.locator("#reset").click()
        page.wait_for_selector("#reset", state="hidden")
        assert detector.info.verdict.image_threshold == 0.5
        until(page, """() => {
            const chart = document.querySelector("#chart");
            return chart.getContext("2d").getImageData(0, 0, chart.width, chart.height).data.some(v => v > 0);
        }""")
        page.screenshot(path=str(tmp_path / "live.png"))
        assert not problems
    assert (tmp_path / "live.png").stat().st_size > 10_000
