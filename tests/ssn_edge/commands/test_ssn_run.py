"""ssn-run on every kind of source, and its one-line errors."""

import json
import os
import socket
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import fails
from commands import ssn_run as run

from ssn_edge import sources
from ssn_edge.errors import InputError


def test_folder_with_pictures_and_lines(model, photos, tmp_path):
    lines = tmp_path / "out" / "results.jsonl"
    result = run(model, photos, "--save", tmp_path / "pictures", "--json", lines)
    assert result.exit_code == 0, result.output
    first, second = (json.loads(line) for line in lines.read_text().splitlines())
    assert (first["frame"], first["is_defect"]) == ("a.png", False)
    assert (second["frame"], second["is_defect"]) == ("b.png", True)
    assert second["regions"] == [{"x": 0, "y": 0, "width": 60, "height": 40, "peak": 250.0, "area": 1536,
                                  "frame_area": 2400}]
    assert "2 frames: 1 OK, 1 NG" in result.output
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["a.jpg", "b.jpg"]
    shown = cv2.imread(str(tmp_path / "pictures" / "a.jpg"))
    assert shown.shape[0] > 40 and shown.shape[1] == 60  # banner below


def test_glob_single_image_and_threshold(model, photos):
    assert "1 frame: 1 OK" in run(model, photos / "a.*").output
    assert "1 frame: 0 OK, 1 NG" in run(model, photos / "a.png", "--threshold", "0.1").output


def test_geometry_of_the_command_line(model, tmp_path):
    frame = np.zeros((200, 300), np.uint8)
    frame[150:160, 40:60] = 255
    cv2.imwrite(str(tmp_path / "f.png"), frame)
    lines = tmp_path / "out.jsonl"
    turned = ("--roi", "20,100,96,64", "--rotate", 180, "--flip", "vertical")
    options = (*turned, "--tile", "32x48", "--json", lines)
    assert "1 NG" in run(model, tmp_path / "f.png", *options, "--overlap", 8).output
    (line,) = map(json.loads, lines.read_text().splitlines())
    assert line["regions"] == [{"x": 40, "y": 150, "width": 20, "height": 10, "peak": 255.0, "area": 200,
                                "frame_area": 200}]
    for wrong, text in ((("--roi", "1,2,3"), "4 whole numbers"), (("--tile", "32"), "give HEIGHTxWIDTH"),
                        (("--tile", "8x8"), "smaller"), (("--roi", "290,0,20,20"), "leaves the frame")):
        assert text in run(model, tmp_path / "f.png", *wrong).output, wrong


def test_everything_a_line_writes(model, photos, tmp_path):
    options = ("--json", tmp_path / "o.jsonl", "--ng", tmp_path / "ng", "--video", tmp_path / "v.avi",
               "--save", tmp_path / "all", "--serve", 0)
    result = run(model, photos, *options)
    assert result.exit_code == 0 and "live view: http://127.0.0.1:" in result.output
    assert len(list((tmp_path / "ng").glob("*-b.png"))) == 1 == len(list((tmp_path / "ng").iterdir()))
    assert (tmp_path / "v.avi").stat().st_size > 1000 and len(list((tmp_path / "all").iterdir())) == 2
    for wrong in ("localhost", "²", "127.0.0.1:²", "9" * 5000, "65536"):
        assert "give PORT or HOST:PORT" in fails(model, photos, "--serve", wrong)


def test_metrics_of_the_command_line(model, photos):
    pytest.importorskip("prometheus_client", reason="the [metrics] extra is not installed")
    result = run(model, photos, "--metrics", 0)
    assert result.exit_code == 0 and "metrics on port" in result.output
    assert "give PORT or HOST:PORT" in fails(model, photos, "--metrics", "²")


def test_brokers_that_are_none(model, photos):
    pytest.importorskip("paho.mqtt.client", reason="the [mqtt] extra is not installed")
    for address, text in (
        ("mqtt://127.0.0.1:9/x", "no MQTT broker"), ("mqtt://h:abc/t", "give mqtt://"),
        ("mqtt://h:99999/t", "give mqtt://"), ("mqtt://[x/t", "give mqtt://"),
    ):
        assert text in fails(model, photos, "--mqtt", address)


def test_pictures_of_equal_names_in_two_folders(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "in" / folder / "x.png"), np.full((40, 60), 250, np.uint8))
    result = run(model, tmp_path / "in" / "*" / "x.png", "--save", "out", "--ng", "ng")
    assert result.exit_code == 0, result.output
    assert len(list(Path("out").iterdir())) == 2 == len(list(Path("ng").iterdir()))
    assert len([path for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".png")]) == 2 + 4


def test_photos_of_equal_stems_are_all_saved(model, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "a.png"):
        cv2.imwrite(str(tmp_path / "in" / name), np.full((40, 60), 30, np.uint8))
    for _ in range(2):  # a second run replaces what the first one wrote
        assert run(model, tmp_path / "in", "--save", tmp_path / "out").exit_code == 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "a.png.jpg"]


def test_a_start_that_fails_leaves_nothing_open(model, photos, tmp_path):
    threads = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = fails(model, photos, "--video", tmp_path / "v.avi", "--serve", port)
    assert "cannot listen there" in text and not list(tmp_path.glob("*v*.avi")) + list(tmp_path.glob(".*"))
    assert set(threading.enumerate()) <= threads


def test_a_stream_that_does_not_start_leaves_no_sink_open(model, tmp_path):
    threads = set(threading.enumerate())
    arguments = (model, "rtsp://127.0.0.1:9/none", "--video", tmp_path / "v.avi", "--serve", 0)
    assert "does not open" in fails(*arguments)
    assert not list(tmp_path.glob(".*")) and not [
        thread for thread in threading.enumerate()
        if thread not in threads and thread.name.startswith(("ssn-live", "ssn-sink"))
    ]


def test_nothing_of_the_users_is_written_over(model, photos, tmp_path):
    clip = tmp_path / "clip.avi"
    clip.write_bytes(b"RIFF")
    before = {path: path.read_bytes() for path in (*photos.iterdir(), clip, Path(model))}
    for source, option, target in (
        (photos, "--save", photos), (photos, "--ng", photos), (f"watch:{photos}", "--ng", photos),
        (photos / "*.png", "--save", photos), (photos / "a.png", "--save", photos),
        (photos / "a.png", "--json", photos / "a.png"), (photos, "--json", model), (clip, "--video", clip),
    ):
        assert "choose another place" in fails(model, source, option, target)
    assert before == {path: path.read_bytes() for path in before}


def test_options_and_numbers_that_make_no_sense(model, photos, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    for arguments, text in (
        (("--watchdog", "nan"), "--watchdog nan"), (("--threshold", "70"), "give 0 to 1"),
        (("--threshold", "nan"), "--threshold nan"), (("--overlap", 64), "only with --tile"),
        (("--token", "abc"), "only with --serve"), (("--tile", "0x5"), "in pixels"),
        (("--show",), "no windows"), (("--roi", "²,1,1,1"), "4 whole numbers"),
        (("--tile", "²x32"), "HEIGHTxWIDTH in pixels"), (("--roi", "1,1,1," + "9" * 5000), "4 whole numbers"),
        (("--roi", "0,0,5000,5000"), "none of 2 frames could be judged; the last: b.png: region of"),
    ):
        assert text in fails(model, photos, *arguments), arguments
    large = tmp_path / "large.png"
    cv2.imwrite(str(large), np.zeros((2000, 2000), np.uint8))
    assert "more than 1024" in fails(model, large, "--tile", "40x40")
    assert "source is empty" in fails(model, "")
    assert "no such folder" in fails(model, "watch:")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_results_of_files_that_are_not_written_are_an_error(model, photos):
    result = run(model, photos, "--json", "/dev/full")
    assert result.exit_code == 1 and "2 not written by json" in result.output
    assert run(model, photos, "--json", "/dev/full", "--policy", "latest").exit_code == 0


def test_video_and_max_frames(model, tmp_path):
    path = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for level in (10, 240, 10, 10):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    assert "4 frames: 3 OK, 1 NG" in run(model, path).output
    assert "2 frames: 1 OK, 1 NG" in run(model, path, "--max-frames", 2).output


def test_broken_image_in_a_folder_is_counted(model, photos):
    (photos / "c.png").write_bytes(b"\x89PNG no")
    result = run(model, photos)
    assert result.exit_code == 1 and "1 OK, 1 NG, 1 unreadable" in result.output
    assert "c.png" in result.output


def test_image_smaller_than_the_map(model, tmp_path):
    cv2.imwrite(str(tmp_path / "dot.png"), np.full((1, 1), 255, np.uint8))
    assert "1 NG" in run(model, tmp_path / "dot.png").output


def test_missing_stream_is_an_input_error():
    with pytest.raises(InputError, match="does not open; check the address"):
        sources.open_source("rtsp://127.0.0.1:9/none")


def test_help_shows_examples():
    text = run("--help").output
    assert "Examples:" in text and "env:NAME" in text and "at or above it" in " ".join(text.split())
