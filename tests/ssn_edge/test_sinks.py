"""What sinks leave behind: whole lines, whole files, messages and a page that others can read."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import cv2
import numpy as np
import pytest
import tiny

from ssn_edge import Detector, InputError, sinks, stream

DARK, BRIGHT = np.full((64, 96, 3), 20, np.uint8), np.full((64, 96, 3), 250, np.uint8)


@pytest.fixture
def detector(tmp_path):
    with Detector.open(tiny.write_model(tmp_path / "m.onnx"), "onnxruntime") as opened:
        yield opened


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

    def frames():
        for number in range(20):
            if number == 7:
                time.sleep(0.1)
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
    class Silent:  # what OpenCV's writer does on a full disk
        def __getattr__(self, name):
            return lambda *_: name == "isOpened"

    sink = sinks.Video(tmp_path / "lost.avi", 100.0)
    monkeypatch.setattr(cv2, "VideoWriter", lambda *_: Silent())
    monkeypatch.setattr(cv2, "VideoWriter_fourcc", lambda *_: 0, raising=False)
    assert stream.run([DARK, BRIGHT], detector, [sink]).failed == {"video": 1}
    assert not (tmp_path / "lost.avi").exists() and not list(tmp_path.glob(".*.avi"))
    with pytest.raises(InputError, match="mp4"):
        sinks.Video(tmp_path / "out.gif", 100.0)


def test_callback_on_changes(detector):
    """A relay that is set where the verdict changes."""
    relay, every = [], []

    def switch(result):
        relay.append((result.number, result.detection.is_defect))

    outlets = [
        sinks.Callback(switch, changes=True),
        sinks.Callback(lambda result: every.append(result.number)),
    ]
    stream.run([DARK, DARK, BRIGHT, BRIGHT, DARK], detector, outlets)
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
    client = pytest.importorskip("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families

    summary = stream.Summary()
    sink = sinks.Metrics(summary, port=0)
    pages = []

    def ask(result):
        if result.number == 4:
            time.sleep(0.2)  # the sink's thread
            pages.append(urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics").read().decode())

    stream.run([DARK, BRIGHT, BRIGHT, np.zeros((2, 2, 2), np.uint8), DARK], detector, [sink],
               on_result=ask, summary=summary)
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(pages[0]) for sample in family.samples
    }
    assert samples["ssn_judged_total", None] == 4 and samples["ssn_defects_total", None] == 2
    assert samples["ssn_broken_total", None] == 1 and samples["ssn_gaps_total", None] == 0
    assert samples["ssn_latency_seconds_bucket", "+Inf"] == samples["ssn_latency_seconds_count", None] >= 3
    assert samples["ssn_sink_failed_total", None] == 0 and client
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=1)


def test_mqtt_through_a_broker_that_restarts(detector, tmp_path):
    mqtt = pytest.importorskip("paho.mqtt.client")
    broker = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    if broker is None:
        pytest.skip("mosquitto, an MQTT broker, is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def start():
        process = subprocess.Popen([broker, "-p", str(port)], stderr=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            time.sleep(0.05)
        raise AssertionError("the broker does not start")

    got = []
    process = start()
    listener = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    listener.on_connect = lambda *_: listener.subscribe("line/1", qos=1)
    listener.on_message = lambda _, __, message: got.append(json.loads(message.payload))
    listener.connect("127.0.0.1", port)
    listener.reconnect_delay_set(1, 1)
    listener.loop_start()
    time.sleep(0.5)

    def frames():
        nonlocal process
        for number in range(40):
            if number == 10:
                process.terminate()
                process.wait()
            if number == 20:
                process = start()
                time.sleep(2.5)  # both sides connect again
            time.sleep(0.02)
            yield BRIGHT if number % 2 else DARK

    try:
        summary = stream.run(frames(), detector, [sinks.Mqtt(f"mqtt://127.0.0.1:{port}/line/1")])
        time.sleep(0.5)
    finally:
        listener.loop_stop()
        process.terminate()
        process.wait()
    assert summary.failed == {"mqtt": 0}
    numbers = {record["number"] for record in got}
    assert set(range(9)) | set(range(20, 40)) <= numbers  # what waited while it was down may reach nobody
    assert all(record["is_defect"] == bool(record["number"] % 2) for record in got)


def test_mqtt_says_what_never_arrived(detector, monkeypatch):
    pytest.importorskip("paho.mqtt.client")
    monkeypatch.setattr(sinks, "MQTT_FLUSH_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes the connection, and never answers
        sink = sinks.Mqtt(f"mqtt://user:p%40ss@127.0.0.1:{deaf.getsockname()[1]}/line")
        summary = stream.run([DARK] * 5, detector, [sink])
    assert summary.failed == {"mqtt": 1} and not summary.complete


@pytest.mark.parametrize("address, text", [
    ("http://x/y", "give mqtt://"), ("mqtt://127.0.0.1", "give mqtt://"),
    ("mqtt://127.0.0.1:9/topic", "no MQTT broker"),
])
def test_wrong_brokers(address, text):
    pytest.importorskip("paho.mqtt.client")
    with pytest.raises(InputError, match=text):
        sinks.Mqtt(address)
