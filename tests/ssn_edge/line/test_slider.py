"""The live page's slider on a calibrated bundle: the mark, the estimate elsewhere, saving, and who may."""

import contextlib
import json
import math
import shutil
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import browser
import numpy as np
import pytest
import tiny
import waiting

from ssn_edge import Detector, InputError, Verdict
from ssn_edge.line import stream
from ssn_edge.line.live import LiveView
from ssn_edge.line.slider import Slider
from ssn_edge.model import bundle, bundle_writer
from ssn_edge.sources import Frame
from ssn_edge.verdict import calibrating, calibration, in_bundle

N = 240
RNG = np.random.default_rng(8)
LEVELS = RNG.normal(60, 12, N).astype(np.float32)
EPSILON = math.sqrt(math.log(20) / (2 * N))
VERDICTS = {
    "score": Verdict("score", 0.5, 128.0, "chosen", 1),
    "map_max": Verdict("map_max", 128.0, 128.0, "chosen", 1),
    "either": Verdict("either", 0.5, 128.0, "chosen", 1, 128.0),
}


def calibrated(folder, source="score", name="line-3", **fields):
    """A bundle calibrated on LEVELS, what the model says of sound parts: the map's maximum, and over 255."""
    path = tiny.write_bundle(folder / "m.ssn", verdict=VERDICTS[source])
    scores = LEVELS / np.float32(255)
    scales = calibrating.scales_of(scores[:60], LEVELS[:60]) if source == "either" else None
    found = calibrating.calibrate(scores, LEVELS, [""] * N, source, scales)
    in_bundle.add(path, calibration.made_of(found, name, **fields), lambda line: None)
    return path


@contextlib.contextmanager
def live(path, token=None, judged=1, **how):
    """A view of a detector that has judged a frame; no stream."""
    with Detector.open(path, "onnxruntime", **how) as detector:
        view = LiveView(detector, stream.Summary(), port=0, token=token)
        try:
            frame = np.full((32, 48, 3), 50, np.uint8)
            for number in range(judged):
                one = stream.Result(number, Frame("f.png", frame, 0.0), detector.detect(frame), 0.0, 1.0)
                view.write(one)
            yield view
        finally:
            view.close()


def ask(view, path, body=None, token="secret", **headers):
    """Status and text of the answer."""
    address = view.address.split("?")[0] + path
    if view.token and token:
        address += ("&" if "?" in path else "?") + f"token={token}"
    try:
        request = urllib.request.Request(address, body, headers)
        with urllib.request.urlopen(request, timeout=waiting.PATIENCE_S) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def save(view, name, threshold, **headers):
    return ask(view, "save", json.dumps({"name": name, "threshold": threshold}).encode(), **headers)


@pytest.mark.parametrize("source", ["score", "map_max", "either"])
def test_the_mark_has_the_promise_and_other_positions_an_estimate(tmp_path, source):
    with live(calibrated(tmp_path, source)) as view:
        own = view.detector.info.verdict
        at_mark = view.figures(-1)
        assert (at_mark["calibration"], at_mark["mark"]) == ("line-3", "promise")
        assert (at_mark["promise"], at_mark["at_own"], at_mark["estimate"]) == (own.method, True, None)
        assert at_mark["promise"].startswith("on average at most 0.83 of 100 sound parts; with 95 % conf")
        assert at_mark["own"] == at_mark["threshold"] == own.image_threshold
        for level in (10.0, float(LEVELS[3]), 75.0, 200.0):
            threshold = level if source == "map_max" else float(np.float32(level) / np.float32(255))
            before = view.detector.info.verdict
            status, text = ask(view, f"promise?threshold={threshold!r}")
            shown = json.loads(text)
            expected = min(1.0, np.mean(LEVELS >= np.float32(level)) + EPSILON)
            # With "either" the map's threshold follows by scales, from logits: where it lies decides.
            if source == "either":
                reached = LEVELS / np.float32(255) >= shown["threshold"]
                expected = min(1.0, np.mean(reached | (LEVELS >= shown["map_threshold"])) + EPSILON)
            assert status == 200 and shown["estimate"] == pytest.approx(expected)
            percent = math.ceil(1000 * expected - 1e-6) / 10
            assert shown["promise"].startswith(
                f"at most {percent} % of sound parts (estimate: 95 % confidence for every position at once, "
                "by the inequality of Dvoretzky, Kiefer and Wolfowitz; 240 parts)"
            )
            assert view.detector.info.verdict == before  # it was only asked
            assert ask(view, "threshold", repr(threshold).encode())[0] == 204
            now = view.figures(-1)
            assert {key: now[key] for key in shown} == shown and not now["at_own"]
            assert view.detector.info.verdict.method.startswith(f"set by hand: at most {percent} %")
        assert ask(view, "threshold", repr(at_mark["own"]).encode())[0] == 204
        assert view.detector.info.verdict == own and view.figures(-1)["promise"] == own.method


def test_one_slider_moves_both(tmp_path):
    """By one number: both thresholds are as many spreads from their middles."""
    with live(calibrated(tmp_path, "either")) as view:
        assert ask(view, "threshold", b"0.4")[0] == 204
        verdict = view.detector.info.verdict
        middle, spread, map_middle, map_spread = verdict.scales
        assert verdict.map_threshold == pytest.approx(
            map_middle + map_spread * (math.log(0.4 / 0.6) - middle) / spread, rel=1e-6
        )
        assert verdict.pixel_threshold == verdict.map_threshold
        assert view.figures(-1)["map_threshold"] == verdict.map_threshold
        assert view.detector.judge.verdict is verdict


def test_thresholds_from_the_start_have_their_estimate(tmp_path):
    with live(calibrated(tmp_path), threshold=0.3) as view:
        shown = view.figures(-1)
    assert shown["estimate"] == pytest.approx(np.mean(LEVELS / np.float32(255) >= 0.3) + EPSILON)
    assert not shown["at_own"] and shown["own"] != 0.3


def test_where_nothing_is_known_it_says_so(tmp_path):
    plain = tiny.write_model(tmp_path / "m.onnx")
    with live(plain, token="secret") as view:
        shown = view.figures(-1)
        assert shown["promise"] == "no promise is known; the file says of its threshold: chosen for the test"
        assert ask(view, "threshold", b"0.25")[0] == 204
        shown = view.figures(-1)
        assert shown["promise"].startswith("no promise is known: ") and shown["threshold"] == 0.25
        assert (shown["mark"], shown["calibration"], shown["estimate"], shown["own"]) == ("", "", None, 0.5)
        assert save(view, "x", 0.25) == (409, "nothing to save: no promise is known here")
        assert view.detector.info.verdict.method == "set by the caller: no promise holds"
    path = calibrated(tmp_path)
    with live(path, precision="float16") as view:
        shown = view.figures(-1)
        assert shown["promise"] == "no promise: calibrated on float32, this is float16; run ssn-calibrate"
        view.slider.move(0.2)
        assert view.figures(-1)["promise"] == shown["promise"] and view.figures(-1)["mark"] == ""
        view.slider.move(shown["own"])
        assert view.figures(-1) ["at_own"] and view.detector.info.verdict.method == shown["promise"]


def test_numbers_of_photos_that_were_trained_on_promise_nothing(tmp_path):
    with live(calibrated(tmp_path, kind="none"), token="secret") as view:
        assert view.figures(-1)["promise"] == "no promise: the model was trained on these photos"
        view.slider.move(0.2)
        assert view.figures(-1)["promise"] == "no promise: the model was trained on these photos"
        assert save(view, "x", 0.2)[0] == 409


@pytest.mark.parametrize("source", ["score", "map_max", "either"])
def test_what_is_saved_is_what_opens_next(tmp_path, source):
    path = calibrated(tmp_path, source)
    threshold = 75.0 if source == "map_max" else 0.28
    with live(path, token="secret") as view:
        assert ask(view, "threshold", repr(threshold).encode())[0] == 204
        position = view.detector.info.verdict
        status, name = save(view, "", view.figures(-1)["threshold"])
        assert status == 200
        assert abs(time.mktime(time.strptime(name, "live-%Y%m%d-%H%M%S")) - time.time()) < 60
        shown = view.figures(-1)
        assert (shown["calibration"], shown["mark"], shown["at_own"]) == (name, "by hand", True)
        assert shown["promise"].startswith("set by hand: at most ") and view.detector.info.verdict == position
    with Detector.open(path, "onnxruntime") as detector:
        assert detector.info.verdict == position and detector.info.calibration == name
        (saved, misfit) = detector.calibration
    first = in_bundle.read_all(bundle.read(path), "line-3")[0]
    assert (saved.kind, misfit, saved.values) == ("by hand", "", first.values)
    assert saved.verdict.scales == first.verdict.scales and saved.promise.n == N
    assert in_bundle.undo(path).name == "line-3"


def test_a_name_of_ones_own_and_errors_of_one_line(tmp_path):
    path = calibrated(tmp_path)
    before = (path / bundle.MANIFEST).read_bytes()
    with live(path, token="secret") as view:
        own = view.figures(-1)["own"]
        assert save(view, "x", own) == (409, "this is where line-3 stands already; move the slider first")
        view.slider.move(0.3)
        at = view.figures(-1)["threshold"]
        status, text = save(view, "line-3", at)
        assert (status, text.count("\n")) == (409, 0)
        assert text.startswith("name line-3: ") and text.endswith("give another")
        status, text = save(view, "../x", at)
        assert status == 409 and "letters, digits" in text
        status, text = save(view, "x", 0.2)
        assert (status, text) == (409, "the slider was moved to 0.3 meanwhile; save again")
        for body in (b"", b"[]", b"{", b'{"name": "x"}', b'{"name": "x", "threshold": "high"}', b"[" * 900):
            assert ask(view, "save", body)[0] == 400, body
        assert ask(view, "save", b" " * 1001)[0] == 404
        assert save(view, "x", math.nan)[0] == 409
        with bundle_writer.writing(path, lambda line: None):
            status, text = save(view, "x", at)
        assert (status, text.count("\n")) == (409, 0) and "is writing it; wait" in text
        assert (path / bundle.MANIFEST).read_bytes() == before
        assert view.figures(-1)["calibration"] == "line-3"
        assert save(view, "night-shift", at) == (200, "night-shift")
    with Detector.open(path, "onnxruntime") as detector:
        assert detector.info.calibration == "night-shift"


def test_a_bundle_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    path = calibrated(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with live(path, token="secret") as view:
        view.slider.move(0.3)
        monkeypatch.setattr(bundle_writer, "_sync", full)
        status, text = save(view, "x", view.figures(-1)["threshold"])
        assert status == 409 and "No space left on device" in text and "as it was" in text
        monkeypatch.undo()
        shutil.rmtree(path)
        status, text = save(view, "x", view.figures(-1)["threshold"])
        assert status == 409 and "no such model" in text and not path.exists()
        assert view.figures(-1)["calibration"] == "line-3"


def test_without_a_token_nothing_is_saved_and_the_page_says_how(tmp_path):
    path = calibrated(tmp_path)
    before = (path / bundle.MANIFEST).read_bytes()
    with live(path) as view:
        view.slider.move(0.3)
        shown = view.figures(-1)
        assert shown["unsaved"] == "to save this position into the bundle, start ssn-run with --token"
        assert save(view, "x", shown["threshold"]) == (409, shown["unsaved"])
    assert (path / bundle.MANIFEST).read_bytes() == before


def test_only_who_has_the_token_saves_and_no_other_site(tmp_path):
    path = calibrated(tmp_path)
    before = (path / bundle.MANIFEST).read_bytes()
    with live(path, token="secret") as view:
        assert view.figures(-1)["unsaved"] == ""
        view.slider.move(0.3)
        at = view.figures(-1)["threshold"]
        for token in ("", "wrong"):
            assert save(view, "x", at, token=token)[0] == 403
            assert ask(view, "promise?threshold=0.1", token=token)[0] == 403
        assert save(view, "x", at, Origin="http://evil.example")[0] == 403
        assert (path / bundle.MANIFEST).read_bytes() == before
        host = view.address.split("/")[2]
        assert save(view, "x", at, Origin=f"http://{host}") == (200, "x")


def test_a_slow_write_holds_nobody_up(tmp_path, monkeypatch):
    """Frames are taken and pages served meanwhile; a second page's save is told to wait."""
    path, begun, done = calibrated(tmp_path), threading.Event(), threading.Event()
    real = in_bundle.add

    def slow(*arguments):
        begun.set()
        assert done.wait(waiting.PATIENCE_S)
        real(*arguments)

    monkeypatch.setattr(in_bundle, "add", slow)
    monkeypatch.setattr("ssn_edge.line.live_server.REQUEST_S", 0.5)
    with live(path, token="secret") as view:
        view.slider.move(0.3)
        at, answers = view.figures(-1)["threshold"], []
        thread = waiting.in_thread(lambda: answers.append(save(view, "x", at)))
        assert begun.wait(waiting.PATIENCE_S)
        frame = np.full((32, 48, 3), 50, np.uint8)
        one = stream.Result(7, Frame("f.png", frame, 0.0), view.detector.detect(frame), 0.0, 1.0)
        view.write(one)
        assert view.figures(-1)["number"] == 7 and ask(view, "promise?threshold=0.1")[0] == 200
        assert save(view, "y", at) == (409, "another page is saving; try again")
        host, port = view.address.split("/")[2].split(":")
        with socket.create_connection((host, int(port)), timeout=waiting.PATIENCE_S) as idle:
            assert idle.recv(1) == b""  # a later one has had its time
        done.set()
        thread.join()
        assert answers == [(200, "x")] and view.figures(-1)["calibration"] == "x"


def test_positions_that_are_none(tmp_path):
    for source in VERDICTS:
        (tmp_path / source).mkdir()
        with live(calibrated(tmp_path / source, source)) as view:
            before = view.detector.info.verdict
            wrong = ["nan", "inf", "", "high"] + ["1.5", "-0.1"] * (source != "map_max")
            for word in wrong:
                assert ask(view, f"promise?threshold={word}")[0] == 400, (source, word)
                assert ask(view, "threshold", word.encode())[0] == 400, (source, word)
            assert ask(view, "promise")[0] == 400 and view.detector.info.verdict == before
            for end in ("0", "1"):
                assert ask(view, "threshold", end.encode())[0] == 204


def test_a_view_of_the_frames_goes_with_what_is_saved(tmp_path):
    from ssn_edge import View

    view = View(rotate=180)
    path = calibrated(tmp_path, view=view)
    with Detector.open(path, "onnxruntime", view=view) as detector:
        slider = Slider(detector, True)
        slider.move(0.3)
        slider.save("turned", detector.info.verdict.image_threshold)
    with Detector.open(path, "onnxruntime", view=view) as detector:
        assert detector.calibration.misfit == "" and detector.info.calibration == "turned"
    with pytest.raises(InputError, match="a verdict by map_max"):
        detector.judge_by(VERDICTS["map_max"])


def test_the_page_in_a_browser(tmp_path):
    path = calibrated(tmp_path, "either")
    with browser.page() as (page, problems), live(path, token="secret") as view:
        page.goto(view.address, wait_until="commit")

        def shows(element, words):
            waiting.until(lambda: words in page.inner_text(element))

        own = view.detector.info.verdict
        shows("#promise", own.method)
        shows("#calibration", "calibration line-3")
        assert page.locator("#save").is_disabled() and page.locator("#mark").is_visible()
        slider, box = page.locator("#threshold"), page.locator("#threshold").bounding_box()
        mark = page.locator("#mark").bounding_box()
        middle = mark["x"] + mark["width"] / 2 - box["x"]
        assert middle == pytest.approx(8 + (box["width"] - 16) * own.image_threshold, abs=1)
        page.mouse.move(box["x"] + middle, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + middle - 40, box["y"] + box["height"] / 2, steps=4)
        shows("#promise", "Dvoretzky, Kiefer and Wolfowitz; 240 parts")
        assert view.detector.info.verdict == own  # not before it is let go
        page.mouse.up()
        waiting.until(lambda: view.detector.info.verdict != own)
        page.locator("#reset").click()
        shows("#promise", own.method)
        assert view.detector.info.verdict == own
        slider.fill("0.3")
        slider.dispatch_event("change")
        waiting.until(lambda: not page.locator("#save").is_disabled())
        page.locator("#called").fill("<b>x")
        page.locator("#save").click()
        shows("#saved", "letters, digits")
        problems = [text for text in problems if "409" not in text]  # the browser tells of it too
        page.locator("#called").fill("from-the-page")
        page.locator("#save").click()
        shows("#saved", "saved as from-the-page, and in use")
        shows("#calibration", "calibration from-the-page")
        assert not problems
    with Detector.open(path, "onnxruntime") as detector:
        assert detector.info.calibration == "from-the-page"
        assert detector.info.verdict.image_threshold == pytest.approx(0.3, rel=1e-5)
