"""What sinks leave behind: whole lines, whole files and a page that others can read."""

import json
import os
import re

import cv2
import numpy as np
import pytest
import waiting

from ssn_edge import InputError
from ssn_edge.errors import BackendError
from ssn_edge.line import sinks, stream

DARK, BRIGHT = np.full((64, 96, 3), 20, np.uint8), np.full((64, 96, 3), 250, np.uint8)


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


def test_pictures_of_an_earlier_run_count_among_those_kept(judged, tmp_path):
    for _ in range(2):
        sink = sinks.Pictures(tmp_path, 100.0, defects_only=True, keep=3)
        for name, moment in (("a", 1.0), ("b", 2.0), ("a", 1.0)):
            sink.write(judged(name, time=moment))
    assert sorted(files_in(tmp_path)) == [
        f"19700101T00000{name}.png" for name in ("1.000Z-a-2", "1.000Z-a", "2.000Z-b")
    ]


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
