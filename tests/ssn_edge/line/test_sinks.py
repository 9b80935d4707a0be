"""What sinks leave behind: whole lines, whole files and a page that others can read."""

import dataclasses
import json
import os
import re
import tempfile
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import waiting
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge import Detector, InputError
from ssn_edge.errors import BackendError
from ssn_edge.line import sinks, stream
from ssn_edge.line.sources import Frame

DARK, BRIGHT = np.full((64, 96, 3), 20, np.uint8), np.full((64, 96, 3), 250, np.uint8)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A result for a frame of any name and time; its detection changed where asked."""
    model = tiny.write_model(tmp_path_factory.mktemp("model") / "m.onnx")
    with Detector.open(model, "onnxruntime") as opened:
        detection = opened.detect(BRIGHT)

    def result(name, time=0.0, number=0, **changes):
        return stream.Result(
            number, Frame(name, BRIGHT, time), dataclasses.replace(detection, **changes), 0.0, 1.0
        )

    return result


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(path):
    return [json.loads(line)["number"] for line in path.read_text().splitlines()]


def test_json_lines_rotate(detector, tmp_path):
    path = tmp_path / "lines" / "out.jsonl"
    sink = sinks.JsonLines(path, max_bytes=1000, keep=3)
    assert stream.run([DARK] * 30, detector, [sink]).complete
    files = sorted(path.parent.iterdir(), reverse=True)  # out.jsonl.3, .2, .1, out.jsonl
    assert [file.name for file in files] == ["out.jsonl.3", "out.jsonl.2", "out.jsonl.1", "out.jsonl"]
    numbers = [number for file in files for number in read(file)]
    assert numbers == list(range(numbers[0], 30)) and 0 < numbers[0]
    assert all(file.stat().st_size <= 1000 for file in files)
    again = sinks.JsonLines(path, append=True)
    stream.run([DARK], detector, [again])
    assert read(path)[-2:] == [29, 0]


def test_lines_survive_the_rotation_of_others(detector, tmp_path):
    path = tmp_path / "out.jsonl"
    sink = sinks.JsonLines(path, max_bytes=1000, keep=2)
    written, write = [], sink.write
    sink.write = lambda result: written.append(write(result))

    def frames():
        for number in range(20):
            if number == 7:
                waiting.until(lambda: len(written) == 7)
                path.unlink()
            yield DARK

    summary = stream.run(frames(), detector, [sink])
    assert summary.failed == {"json": 0} and read(path)[-1] == 19


def test_full_disk_leaves_no_half_lines(detector, tmp_path):
    """A file system that fills up in the middle of a line, and is emptied later."""
    path = tmp_path / "out.jsonl"
    sink = sinks.JsonLines(path)

    class Filling:
        """What the file is replaced by: writes only part of the third line."""

        def __init__(self, file):
            self.file, self.calls = file, 0

        def write(self, data):
            self.calls += 1
            if self.calls == 3:
                return self.file.write(data[:10])
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    sink._file = Filling(sink._file)
    summary = stream.run([DARK] * 6, detector, [sink])
    assert summary.failed == {"json": 1}
    assert read(path) == [0, 1, 3, 4, 5]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_device_is_reported(detector, caplog):
    summary = stream.run([DARK] * 4, detector, [sinks.JsonLines("/dev/full")])
    assert summary.failed == {"json": 4} and "No space left on device" in caplog.text


def test_pictures_of_defects_only(detector, tmp_path):
    sink = sinks.Pictures(tmp_path / "ng", 100.0, defects_only=True, keep=2)
    stream.run([DARK, BRIGHT, DARK, BRIGHT, BRIGHT], detector, [sink])
    names = sorted(file.name for file in (tmp_path / "ng").iterdir())
    assert len(names) == 2  # of three, the oldest is gone
    assert all(re.fullmatch(r"\d{8}T\d{6}\.\d{3}Z-frames-00000[34]\.png", name) for name in names)
    assert cv2.imread(str(tmp_path / "ng" / names[0])).shape[1] == 96


@pytest.mark.parametrize("names", [
    ["x.png", "x.bmp", "x.jpg"], ["a-b/c", "a/b-c"], ["lot/x.png", "lot-x.bmp", "lot-x"],
    ["/no/x.png", "//no/x.png"], ["../../x.png", "..", "x", ".x.png", "a/../x.png"], ["x.png"] * 5,
    ["é" * 200 + ".png", "é" * 200 + ".bmp", "é" * 199 + "e.png"],
    ["a\0b.png", "a/b.png"], ["\udcff.png", "\ud800.png"],
])
@pytest.mark.parametrize("defects_only", [False, True])
def test_every_picture_has_a_name_of_its_own_inside_the_folder(judged, tmp_path, names, defects_only):
    sink = sinks.Pictures(tmp_path / "deep" / "out", 100.0, defects_only)
    for name in names:
        sink.write(judged(name))
    everywhere = files_in(tmp_path)
    assert len(everywhere) == len(names)
    suffix = ".png" if defects_only else ".jpg"
    for name in everywhere:
        assert re.fullmatch(r"deep/out/[^./][^/]*", name) and name.endswith(suffix)


@settings(max_examples=25, deadline=None)
@given(names=st.lists(st.one_of(
    st.text(max_size=400),
    st.text(alphabet="./\\\0ab", max_size=6),
    st.builds(
        lambda folders, stem, suffix: "/".join([*folders, stem]) + suffix,
        st.lists(st.sampled_from(["", "..", ".", "a", "a-b"]), max_size=3),
        st.sampled_from(["x", "b-x", "a" * 300, "é" * 130]),
        st.sampled_from(["", ".png", ".BMP", ".v2"]),
    ),
), max_size=8), earlier=st.sets(st.sampled_from(["x.jpg", "a-x.jpg", "x.png.jpg"])))
def test_any_names_give_as_many_files_as_frames(judged, names, earlier):
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "a" / "b" / "out"
        folder.mkdir(parents=True)
        for name in earlier:
            (folder / name).write_bytes(b"earlier")
        sink = sinks.Pictures(folder, 100.0)
        for name in names:
            sink.write(judged(name))
        pictures = [name for name, data in files_in(Path(root)).items() if data != b"earlier"]
        assert len(pictures) == len(names) and all(name.startswith("a/b/out/") for name in pictures)


def test_suffixes_and_times_tell_pictures_apart(judged, tmp_path):
    sink = sinks.Pictures(tmp_path, 100.0)
    for name in ("x.png", "x.bmp", "x.bmp", "x.bmp", "x.bmp"):
        sink.write(judged(name, time=12.345))
    expected = ["x.jpg", "x.bmp.jpg", "x.bmp-12345.jpg", "x.bmp-12345-2.jpg", "x.bmp-12345-3.jpg"]
    assert sorted(files_in(tmp_path)) == sorted(expected)


def test_a_second_run_replaces_the_pictures_of_the_first_once(judged, tmp_path):
    for level in (50, 250):
        sink = sinks.Pictures(tmp_path, 100.0)
        for name in ("x.png", "x.bmp", "y.png"):
            result = judged(name)
            sink.write(dataclasses.replace(result, frame=Frame(name, np.full_like(BRIGHT, level), 0.0)))
    assert sorted(files_in(tmp_path)) == ["x.bmp.jpg", "x.jpg", "y.jpg"]
    assert all(cv2.imread(str(path))[0, 0].max() > 100 for path in tmp_path.iterdir())


def test_the_same_name_for_weeks_is_found_at_once(judged, tmp_path, monkeypatch):
    looked, real = [], os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: looked.append(path) or real(path))
    sink = sinks.Pictures(tmp_path, 100.0)
    for number in range(60):
        sink.write(judged("x.png", time=float(number // 30)))
    assert len(files_in(tmp_path)) == 60 and len(looked) <= 5 * 60


def test_pictures_of_an_earlier_run_count_among_those_kept(judged, tmp_path):
    for _ in range(2):
        sink = sinks.Pictures(tmp_path, 100.0, defects_only=True, keep=3)
        for name, moment in (("a", 1.0), ("b", 2.0), ("a", 1.0)):
            sink.write(judged(name, time=moment))
    assert sorted(files_in(tmp_path)) == [
        f"19700101T00000{name}.png" for name in ("1.000Z-a-2", "1.000Z-a", "2.000Z-b")
    ]


def test_lines_and_messages_are_valid_json_below_16_kb(judged, tmp_path):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    for name in ("n" * 7900, "n" * 100_000 + "end", "\U0001f600" * 30_000 + "end", "\0" * 9000 + "end"):
        path = tmp_path / "lines.jsonl"
        sink = sinks.JsonLines(path)
        sink.write(judged(name, score=float("nan"), map_max=float("inf")))
        sink.close()
        line = path.read_text()
        told = json.loads(line, parse_constant=refuse)
        assert len(line.encode()) < 16_000 and told["score"] is told["map_max"] is None
        whole = len(name) < 8000
        assert told["frame"] == name if whole else told["frame"].startswith("...")
        assert told["frame"].endswith(name[-500:])


def test_video_is_there_when_it_is_whole(detector, tmp_path, monkeypatch):
    path = tmp_path / "out" / "judged.avi"
    sink = sinks.Video(path, 100.0)
    stream.run([DARK, BRIGHT, cv2.resize(BRIGHT, (50, 50))], detector, [sink])
    capture = cv2.VideoCapture(str(path))
    frames = [image for done, image in iter(capture.read, (False, None)) if done]
    assert len(frames) == 3 and frames[0].shape[1] == 96
    assert [file.name for file in path.parent.iterdir()] == ["judged.avi"]
    stream.run([], detector, [sinks.Video(tmp_path / "none.avi", 100.0)])
    assert not (tmp_path / "none.avi").exists() and not list(tmp_path.glob(".*.avi"))


def test_lost_frames_of_a_video_are_counted(judged, tmp_path, monkeypatch):
    class Silent:  # what OpenCV's writer does on a full disk
        def __getattr__(self, name):
            return lambda *_: name == "isOpened"

    sink = sinks.Video(tmp_path / "lost.avi", 100.0)
    monkeypatch.setattr(cv2, "VideoWriter", lambda *_: Silent())
    monkeypatch.setattr(cv2, "VideoWriter_fourcc", lambda *_: 0, raising=False)
    for number in range(3):
        sink.write(judged(f"{number}.png"))
    with pytest.raises(BackendError, match="free some space") as caught:
        sink.close()
    assert getattr(caught.value, "count", 1) == 3
    assert not (tmp_path / "lost.avi").exists() and not list(tmp_path.glob(".*.avi"))
    with pytest.raises(InputError, match="mp4"):
        sinks.Video(tmp_path / "out.gif", 100.0)


def test_callback_on_changes(detector):
    """A relay that is set where the verdict changes."""
    relay, every = [], []

    def switch(result):
        relay.append((result.number, result.detection.is_defect))

    sink_threads = [
        sinks.Callback(switch, changes=True),
        sinks.Callback(lambda result: every.append(result.number)),
    ]
    stream.run([DARK, DARK, BRIGHT, BRIGHT, DARK], detector, sink_threads)
    assert relay == [(0, False), (2, True), (4, False)] and every == [0, 1, 2, 3, 4]


def test_callback_that_failed_is_called_again(detector):
    calls = []

    def stuck_relay(result):
        calls.append(result.number)
        if len(calls) < 3:
            raise OSError("relay does not answer")

    summary = stream.run([BRIGHT] * 5, detector, [sinks.Callback(stuck_relay, changes=True)])
    assert calls == [0, 1, 2] and summary.failed == {"callback": 2}


def test_metrics_page(detector):
    client = pytest.importorskip("prometheus_client", reason="the [metrics] extra is not installed")
    from prometheus_client.parser import text_string_to_metric_families

    summary = stream.Summary()
    sink = sinks.Metrics(summary, port=0)
    pages = []

    def page():
        text = urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=60).read().decode()
        return text if "ssn_latency_seconds_count 4.0" in text else None

    def ask(result):
        if result.number == 4:
            pages.append(waiting.until(page))  # until the sink's thread has written it, too

    stream.run([DARK, BRIGHT, BRIGHT, np.zeros((2, 2, 2), np.uint8), DARK], detector, [sink],
               on_result=ask, summary=summary)
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(pages[0]) for sample in family.samples
    }
    assert samples["ssn_judged_total", None] == 4 and samples["ssn_defects_total", None] == 2
    assert samples["ssn_broken_total", None] == 1 and samples["ssn_gaps_total", None] == 0
    assert samples["ssn_latency_seconds_bucket", "+Inf"] == samples["ssn_latency_seconds_count", None] == 4
    assert samples["ssn_sink_failed_total", None] == 0 and client
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=60)
