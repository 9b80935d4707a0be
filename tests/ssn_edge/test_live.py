"""The live view: what a browser gets, who gets in, and the page itself in headless Chromium."""

import json
import shutil
import threading
import time
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest
import tiny

from ssn_edge import Detector, InputError, sinks, stream
from ssn_edge.live import LiveView, is_loopback

DARK = np.full((120, 160, 3), 30, np.uint8)
SPOT = DARK.copy()
cv2.circle(SPOT, (110, 60), 20, (250, 250, 250), -1)


@pytest.fixture
def detector(tmp_path):
    with Detector.open(tiny.write_model(tmp_path / "m.onnx"), "onnxruntime") as opened:
        yield opened


class Line:
    """A stream that runs until the test has seen enough."""

    def __init__(self, detector, **options):
        self.stop, self.summary = threading.Event(), stream.Summary()
        self.view = LiveView(detector, self.summary, port=0, **options)
        self.address = self.view.address
        words = {"policy": "latest", "stop": self.stop, "summary": self.summary}
        args = (self._frames(), detector, [self.view])
        self._thread = threading.Thread(target=stream.run, args=args, kwargs=words)

    def _frames(self):
        while not self.stop.is_set():
            for frame in [DARK] * 9 + [SPOT]:
                time.sleep(0.02)
                yield frame

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self._thread.join()

    def get(self, path, data=None, **headers):
        request = urllib.request.Request(self.address.split("?")[0] + path, data, headers)
        return urllib.request.urlopen(request, timeout=5)


def status(call, *words, **headers):
    try:
        with call(*words, **headers) as response:
            return response.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def until(page, condition):
    """playwright's own waiting needs eval, which the page forbids."""
    deadline = time.monotonic() + 10
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def event(line):
    with line.get("events") as response:
        while True:
            text = response.readline().decode()
            if text.startswith("data: ") and "number" in (news := json.loads(text[6:])):
                return news


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
        assert news["judged"] > 0 and 5 < news["rate"] < 60
        deadline = time.monotonic() + 5
        while not event(line)["gallery"]:
            assert time.monotonic() < deadline
        shot = event(line)["gallery"][0]
        with line.get(f"ng/{shot['number']}") as response:
            assert response.headers["Content-Type"] == "image/jpeg" and response.read(2) == b"\xff\xd8"
        assert status(line.get, "threshold", b"0.05") == 204
        time.sleep(0.2)
        assert event(line)["is_defect"] and event(line)["threshold"] == 0.05
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
        assert status(line.get, "threshold", b"0.1", Cookie="ssn_token=wrong") == 403


def test_a_camera_that_is_silent_is_seen(detector):
    line = Line(detector)
    with line:
        time.sleep(0.3)
        assert event(line)["silent_s"] < 1 and len(event(line)["values"]) > 5
    view = LiveView(detector, stream.Summary(), port=0)
    try:
        stream_of_one = stream.run([DARK], detector, [sinks.Callback(view.write)])
        time.sleep(0.5)
        figures = view.figures(-1)
        assert stream_of_one.complete and figures["silent_s"] > 0.4 and len(figures["values"]) == 1
        assert view.figures(0)["values"] == []
    finally:
        view.close()


def test_ipv6(detector):
    try:
        view = LiveView(detector, stream.Summary(), host="::1", port=0)
    except InputError:
        pytest.skip("no IPv6 here")
    with urllib.request.urlopen(view.address, timeout=5) as response:
        assert view.address.startswith("http://[::1]:") and response.status == 200
    view.close()


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
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with Line(detector) as line, playwright.sync_playwright() as play:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = play.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        problems = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
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
        browser.close()
    assert (tmp_path / "live.png").stat().st_size > 10_000
