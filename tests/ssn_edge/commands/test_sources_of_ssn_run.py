"""ssn-run's account of what it judges and what it does not, and its exit codes."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import LEVELS, clip, cut, jpeg, zeros
from commands import fails
from commands import ssn_run as run

from ssn_edge import files
from ssn_edge.commands import window
from ssn_edge.frames import jpeg as jpeg_decoder
from ssn_edge.testing import tiny_info, write_tiny_model

SSN_RUN = [sys.executable, "-m", "ssn_edge.commands.ssn_run"]
HERE = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[1])}


def test_several_sources(model, photos, tmp_path):
    clip(tmp_path / "v.avi", levels=LEVELS[:2])
    result = run(model, photos / "b.png", photos, tmp_path / "v.avi", "--json", tmp_path / "o.jsonl")
    assert result.exit_code == 0 and "5 frames: " in result.output
    found = [json.loads(line)["frame"] for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert found[1] == "a.png" and found[3:] == ["v-000000", "v-000001"]
    assert found[0] == found[2] and found[0].endswith("b.png")  # given twice
    assert "give it alone" in fails(model, photos, f"watch:{tmp_path}")
    assert "Missing argument" in run(model).output
    assert "choose another place" in fails(model, photos / "a.png", photos, "--save", photos)
    assert "choose another place" in fails(model, photos / "a.png", f"file://{photos}", "--save", photos)


def test_a_folder_that_is_judged_whole_takes_one_line(model, photos):
    (photos / ".thumbs").write_bytes(b"")
    result = run(model, photos, "--strict")
    assert result.exit_code == 0 and result.output.splitlines()[0] == f"{photos}: 2 files, all judged"
    assert "not used" not in result.output and "cannot be told" not in result.output


def test_what_is_not_judged_is_named(model, photos):
    (photos / "notes.txt").write_text("")
    (photos / "more").mkdir()
    for name in ("c.png", "d.png"):
        (photos / "more" / name).write_bytes((photos / "a.png").read_bytes())
    result = run(model, photos)
    lines = result.output.splitlines()
    assert result.exit_code == 0 and "2 frames: " in result.output
    assert lines[0].startswith(f"warning: {photos}: not used: images in subfolders") and "c.png" in lines[0]
    table = "\n".join(lines[1:7])
    assert "2  judged" in table and "a.png, b.png" in table and "not used:" in table
    assert "1  no image that is read here (.txt)" in table and "notes.txt" in table
    strict = fails(model, photos, "--strict")
    assert "images in subfolders" in strict and "leave --strict out" in strict
    assert "4 frames: " in run(model, f"{photos}/**/*.png", "--strict").output


def test_videos_that_are_damaged_end_with_exit_code_1(model, tmp_path):
    whole = run(model, clip(tmp_path / "v.mp4", "mp4v"))
    assert whole.exit_code == 0 and "24 frames: " in whole.output and "unreadable" not in whole.output
    for path, damage in ((clip(tmp_path / "mid.mp4", "mp4v"), (zeros, 0.4, 0.6)),
                         (clip(tmp_path / "cut.avi"), (cut, 0.5))):
        damage[0](path, *damage[1:])
        result = run(model, path)
        assert result.exit_code == 1, result.output
        assert f"{path.name}: the header names 24 frames, " in result.output and "unreadable" in result.output


def test_closing_lines(model, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    image = np.random.default_rng(0).integers(1, 256, (64, 64, 3), np.uint8)
    for name in ("a.jpg", "b.bmp", "c.png"):
        cv2.imwrite(str(folder / name), image)
    (folder / "d.bmp").write_bytes((folder / "b.bmp").read_bytes()[:-6000] + bytes(6000))
    assert cv2.imwritemulti(str(folder / "e.tif"), [image, image])
    monkeypatch.setattr(jpeg_decoder, "simplejpeg", None)
    result = run(model, folder)
    assert result.exit_code == 0
    assert "d.bmp: its last 6000 of" in result.output and "1 doubtful" in result.output
    assert "e.tif: holds several pictures; only the first is judged" in result.output
    assert "1 of several pictures in their file" in result.output
    (line,) = [line for line in result.output.splitlines() if "cannot be told to be whole" in line]
    assert 'BMP has no checksum, JPEG without pip install "ssn-edge[strict-decode]"' in line
    assert line.startswith("4 frames cannot") and "TIFF without deflate" in line


def test_several_pictures_in_a_file_are_an_error_before_the_first_frame(model, photos, tmp_path):
    pages = [np.full((40, 60, 3), level, np.uint8) for level in (50, 200)]
    assert cv2.imwritemulti(str(photos / "x.tif"), pages)
    said = fails(model, photos, "--strict", "--json", tmp_path / "o.jsonl")
    assert f"1 file holds several pictures ({photos / 'x.tif'}); split it, or leave --strict out" in said
    assert not (tmp_path / "o.jsonl").exists()
    (photos / "y.tif").write_bytes((photos / "x.tif").read_bytes())
    assert f"2 files hold several pictures ({photos / 'x.tif'}, ...); split them" in fails(
        model, photos, "--strict")
    assert "1 file holds several" in fails(model, photos / "x.tif", "--strict")
    assert run(model, photos).exit_code == 0


def test_bits_of_the_model(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.full((40, 60), 1536, np.uint16))
    for bits, score in ((16, "0.0235"), (12, "0.3765")):
        model = write_tiny_model(tmp_path / f"m{bits}.onnx", tiny_info(bits=bits))
        result = run(model, tmp_path / "x.png")
        assert f"x.png  {score}" in result.output
        assert ("train with --bits 12" in result.output) == (bits == 16)
    model = write_tiny_model(tmp_path / "m10.onnx", tiny_info(bits=10))
    assert "needs 11 bits" in fails(model, tmp_path / "x.png")


def test_folders_that_are_no_model(photos, tmp_path):
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes(b"")
    said = fails(tmp_path / "run", photos)
    assert "is a run folder of ssn-train; export it first: ssn-export" in said and "--out model.ssn" in said
    assert "other: is a folder and no bundle" in fails(tmp_path / "other", photos)


def test_a_watched_folder_s_broken_frames_are_no_failure(model, tmp_path):
    """Ended by a signal, as on a line."""
    folder = tmp_path / "in"
    folder.mkdir()
    command = [*SSN_RUN, model, f"watch:{folder}", "--settle", "0.1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=HERE) as process:
        assert "NG from" in process.stdout.readline()
        (folder / "torn.jpg").write_bytes(jpeg(50)[:-9])
        good = np.full((40, 60, 3), 51, np.uint8)
        (folder / "good.bmp").write_bytes(cv2.imencode(".bmp", good)[1].tobytes())
        said = [process.stdout.readline(), process.stdout.readline()]
        process.terminate()
        said += process.stdout.readlines()
    text = "".join(said)
    assert process.returncode == 0 and "1 OK, 0 NG, 1 unreadable" in text and "good.bmp  0.2" in text
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=HERE) as process:
        process.stdout.readline()
        (folder / "torn.png").write_bytes(b"nothing")
        assert "skipped: " in process.stdout.readline()
        process.terminate()
        said = process.stdout.read()
    assert process.returncode == 0 and "0 OK, 0 NG, 1 unreadable; the last: " in said
    for wrong in ("nan", "inf", "-1"):
        assert run(model, f"watch:{folder}", "--settle", wrong).exit_code == 2


@pytest.mark.parametrize("code, opens", [
    ("import os; os.abort()", False), ("raise SystemExit(1)", False), ("import time; time.sleep(600)", False),
    ("pass", True),
])
def test_a_window_is_tried_in_another_process(model, photos, monkeypatch, code, opens):
    """Where a display is dead, Qt ends the process that asks it."""
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setattr(window, "PROBE", code)
    monkeypatch.setattr(window, "PROBE_S", 60.0 if opens else 1.0)
    monkeypatch.setattr(cv2, "imshow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1)
    if opens:
        assert run(model, photos, "--show").exit_code == 0
    else:
        assert "no windows" in fails(model, photos, "--show")


@pytest.mark.skipif(sys.platform != "linux", reason="X displays")
def test_a_dead_display(model, photos):
    hidden = ("WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    environment = {**{name: value for name, value in HERE.items() if name not in hidden}, "DISPLAY": ":77"}
    command = [*SSN_RUN, model, str(photos), "--show"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "error: --show: this OpenCV has no windows" in done.stderr


LONG = ["a" * 251 + ".png", "é" * 125 + "x.png"]


@pytest.fixture
def short_names(monkeypatch):
    """A file system that takes 143 bytes, as encrypted ones do."""

    def limited(real, which):
        def call(*arguments, **options):
            name = os.path.basename(os.fspath(arguments[which]))
            if len(os.fsencode(name)) > 143:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(os, "replace", limited(os.replace, 1))
    monkeypatch.setattr(os, "open", limited(os.open, 0))


@pytest.mark.parametrize("name", LONG)
def test_the_longest_names(model, tmp_path, name):
    assert len(os.fsencode(name)) == 255
    cv2.imwrite(str(tmp_path / "x.png"), np.full((40, 60), 250, np.uint8))
    (tmp_path / "in").mkdir()
    (tmp_path / "x.png").rename(tmp_path / "in" / name)
    options = ("--save", tmp_path / "all", "--ng", tmp_path / "ng", "--json", tmp_path / "o.jsonl")
    for _ in range(2):
        result = run(model, tmp_path / "in" / name, *options)
        assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "o.jsonl").read_text())["frame"] == name
    assert len(list((tmp_path / "all").iterdir())) == 1 and list((tmp_path / "ng").iterdir())


def test_file_systems_with_shorter_names(model, tmp_path, short_names):
    (tmp_path / "in").mkdir()
    for letter in "ab":
        cv2.imwrite(str(tmp_path / "in" / f"{letter * 138}.png"), np.full((40, 60), 250, np.uint8))
    cv2.imwrite(str(tmp_path / "in" / f"{'c' * 200}.png"), np.full((40, 60), 250, np.uint8))
    result = run(model, tmp_path / "in", "--save", tmp_path / "all", "--ng", tmp_path / "ng")
    assert result.exit_code == 0, result.output
    for folder in ("all", "ng"):
        names = [path.name for path in (tmp_path / folder).iterdir()]
        assert len(names) == 3 and all(len(name) <= 143 for name in names)


def test_a_name_that_is_too_long_is_no_matter_of_rights(tmp_path, short_names):
    with pytest.raises(files.NameTooLong, match=r"a name of 204 bytes is too long; give a shorter one"):
        files.write_json(tmp_path / ("x" * 199 + ".json"), {})
    assert not list(tmp_path.iterdir())
    files.write_json(tmp_path / ("y." + "x" * 100), {})
    assert stat.S_ISREG((tmp_path / ("y." + "x" * 100)).stat().st_mode)
