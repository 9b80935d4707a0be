"""ssn-calibrate: sound parts watched, thresholds written, used, gone back from; nothing half done."""

import contextlib
import shutil
import signal
import subprocess
import sys
import threading

import commands
import cv2
import numpy as np
import pytest
import tiny
from commands import ssn_run
from waiting import PATIENCE_S, in_thread

from ssn_edge import Detector
from ssn_edge.model import bundle
from ssn_edge.sources import watched_folder
from ssn_edge.verdict import in_bundle


def calibrate(*arguments):
    return commands.of_runtime("ssn_calibrate", *arguments)


def fails(*arguments):
    return commands.fails(*arguments, name="ssn_calibrate")


@pytest.fixture
def path(tmp_path):
    return tiny.write_bundle(tmp_path / "m.ssn")


def photos(folder, values, shots=1):
    """Grey photos, whose score is their value over 255."""
    folder.mkdir()
    for number, value in enumerate(values):
        for shot in range(shots):
            level = max(0, value - 3 * shot)
            cv2.imwrite(str(folder / f"p{number:03d}_{shot}.png"), np.full((32, 48), level, np.uint8))
    return folder


def manifest(path):
    return (path / bundle.MANIFEST).read_bytes()


@pytest.fixture
def arriving(monkeypatch):
    """Files that come into a folder once it is watched, one after the other, until the block ends."""
    watched, find = threading.Event(), watched_folder.find

    def found(*arguments):
        source = find(*arguments)  # what lies there is known from here on
        watched.set()
        return source

    monkeypatch.setattr(watched_folder, "find", found)

    @contextlib.contextmanager
    def comes(files, folder):
        folder.mkdir()
        ended = threading.Event()

        def arrive():
            assert watched.wait(PATIENCE_S)
            for file in files:
                if not ended.wait(0.02):
                    shutil.copy(file, folder / f".{file.name}")
                    (folder / f".{file.name}").rename(folder / file.name)

        thread = in_thread(arrive)
        try:
            yield folder
        finally:
            ended.set()
            thread.join()

    return comes


def test_a_folder_becomes_a_promise(path, tmp_path):
    sound = photos(tmp_path / "sound", range(20, 120))  # 100 of them
    result = calibrate(path, sound, "--name", "lamp-b")
    assert result.exit_code == 0, result.output
    assert "100 sound photos. NG from score" in result.output
    assert "on average at most 1 of 100 sound photos; with 95 % confidence at most 3.0 %; 100 photos" in (
        result.output)
    assert "call 0 of these NG" in result.output and "p099_0.png (0.4667)" in result.output
    (one,) = in_bundle.read_all(bundle.read(path), "lamp-b")
    assert one.promise.k == 1 and one.values[-1] == np.float32(119 / 255) and one.source == str(sound)
    assert one.library == "onnxruntime" and one.precision == "float32"
    sheet = cv2.imread(str(tmp_path / "m.lamp-b.png"))
    assert sheet.shape[1] == 1500 and len(np.unique(sheet)) > 50
    with Detector.open(path, "onnxruntime") as detector:
        assert not detector.detect(np.full((32, 48), 119, np.uint8)).is_defect  # the tie is OK
        assert detector.detect(np.full((32, 48), 120, np.uint8)).is_defect


def test_shots_of_a_part_are_one_number(path, tmp_path):
    sound = photos(tmp_path / "sound", range(20, 40), shots=3)
    result = calibrate(path, sound, "--part", r"^(p\d+)_", "--name", "a")
    assert "20 sound parts, 60 photos" in result.output and "parts of up to 3 photos" in result.output
    (one,) = in_bundle.read_all(bundle.read(path), "a")
    assert (one.promise.n, one.most_shots, one.promise.unit) == (20, 3, "parts")
    assert "--part q: nothing of it in p000_0.png" in fails(path, sound, "--part", "q")
    assert "no regular expression" in fails(path, sound, "--part", "(")


def test_known_defects_show_the_trade(path, tmp_path):
    sound, bad = photos(tmp_path / "sound", range(20, 60)), photos(tmp_path / "bad", [50, 90, 200])
    result = calibrate(path, sound, "--ng", bad, "--name", "x")
    assert "2 of 3 defective photos are caught" in result.output
    assert "to catch all of them, 10 of 40 sound photos would alarm" in result.output
    assert "overlap: 10 of 40" in result.output
    (one,) = in_bundle.read_all(bundle.read(path), "x")
    assert one.defects["caught"] == 2 and one.defects["sound_above"] == 10
    result = calibrate(path, sound, "--ng", photos(tmp_path / "worse", [90, 100]), "--name", "y")
    assert "gap: the lowest defect is" in result.output and "2 of 2 defective" in result.output


def test_what_cannot_be_promised_is_refused_and_nothing_written(path, tmp_path):
    sound, before = photos(tmp_path / "sound", range(20, 32)), manifest(path)
    assert "it needs 99" in fails(path, sound, "--false-alarms", "1%")
    assert "it needs 299" in fails(path, sound, "--false-alarms", "1%", "--confidence", "0.95")
    assert "--name a b" in fails(path, sound, "--name", "a b")
    assert "--name a/b" in fails(path, sound, "--name", "a/b")
    assert "ssn-train's own" in fails(path, sound, "--name", "training")
    assert "--part : nothing of it" in fails(path, sound, "--part", "")
    assert "--name : give" in fails(path, sound, "--name", "")
    assert "--confidence nan" in fails(path, sound, "--confidence", "nan")
    assert "from 0.0001% on" in fails(path, sound, "--false-alarms", "1e-320")
    assert "12 files are given more than once" in fails(path, sound, sound)
    assert "does not end by itself" in fails(path, sound, "--ng", f"watch:{tmp_path}")
    assert "it needs 99" in fails(path, f"watch:{sound}", "--parts", 12, "--false-alarms", "1%")
    for place in (sound / "x.png", path / "x.png"):
        assert "lies among what is watched, or in the model" in fails(path, sound, "--sheet", place)
    assert "ends in .png" in fails(path, sound, "--sheet", tmp_path / "x.json")
    (tmp_path / "mine.png").write_text("mine")
    assert "is there already" in fails(path, sound, "--sheet", tmp_path / "mine.png")
    assert "give a SOURCE" in fails(path)
    assert "one of them, without a source" in fails(path, sound, "--undo")
    assert "kept in a bundle" in fails(tmp_path / "m.onnx", sound)
    (tmp_path / "empty").mkdir()
    assert "no images" in fails(path, tmp_path / "empty")
    saturated = photos(tmp_path / "white", [255] * 12)
    assert "nothing could be NG" in fails(path, saturated)
    assert manifest(path) == before and not list(tmp_path.glob("m.*.png"))
    dry = calibrate(path, sound, "--dry-run")
    assert dry.exit_code == 0 and "7.7 of 100" in dry.output
    assert "5 % on average takes 19, 1 % on average takes 99" in dry.output
    assert manifest(path) == before


def test_frames_that_cannot_be_judged_are_named_and_not_counted(path, tmp_path):
    sound = photos(tmp_path / "sound", range(20, 40))
    (sound / "p000_0.png").write_bytes(b"no picture at all")
    (sound / "p001_0.png").write_bytes((sound / "p002_0.png").read_bytes()[:60])
    result = calibrate(path, sound, "--name", "x")
    assert "warning: 2 of 20 frames could not be judged and are not counted" in result.output
    (one,) = in_bundle.read_all(bundle.read(path), "x")
    assert one.promise.n == 18


def test_a_part_of_which_a_photo_was_not_judged_is_left_out(path, tmp_path):
    sound = photos(tmp_path / "sound", range(20, 40), shots=2)
    (sound / "p000_0.png").write_bytes(b"no picture at all")
    result = calibrate(path, sound, "--name", "x", "--part", r"^(p\d+)_")
    assert "without 1 parts, not all of whose photos were judged" in result.output
    (one,) = in_bundle.read_all(bundle.read(path), "x")
    assert one.promise.n == 19 and one.values[0] == np.float32(21 / 255)


def test_all_photos_of_a_part_count_wherever_they_lie(path, tmp_path, arriving):
    """Side views behind all top views, of which the side is the worse; a stream's must not be like that."""
    sound = tmp_path / "sound"
    sound.mkdir()
    for number in range(30):
        for view, level in (("a_top", 20), ("b_side", 60)):
            image = np.full((32, 48), level + number, np.uint8)
            cv2.imwrite(str(sound / f"{view}_{number:02d}.png"), image)
    result = calibrate(path, sound, "--name", "x", "--part", r"(\d+)\.png", "--parts", 20)
    assert "20 sound parts, 40 photos" in result.output
    (one,) = in_bundle.read_all(bundle.read(path), "x")
    assert one.values[-1] == np.float32(79 / 255) and one.most_shots == 2
    with arriving(sorted(sound.iterdir()), tmp_path / "incoming") as incoming:
        line = fails(path, f"watch:{incoming}", "--part", r"(\d+)\.png", "--parts", 30)
    assert "part 00: a photo of it came after those of others" in line


def test_a_model_that_was_replaced_meanwhile_is_not_calibrated(path, tmp_path, monkeypatch):
    from ssn_edge.commands import site_calibration

    sound, report = photos(tmp_path / "sound", range(20, 40)), site_calibration._report

    def replaced(*arguments):
        shutil.rmtree(path)
        tiny.write_bundle(path, checkpoint_sha256="ab" * 32)
        return report(*arguments)

    monkeypatch.setattr(site_calibration, "_report", replaced)
    assert "was replaced by another model meanwhile" in fails(path, sound)
    assert not bundle.read(path).history and not list(tmp_path.glob("m.*.png"))


def test_passwords_and_control_characters_are_not_kept(path, tmp_path):
    sound = photos(tmp_path / "so\x1b[31mund", range(20, 40))
    result = calibrate(path, sound, "--name", "x")
    assert result.exit_code == 0, result.output
    (one,) = in_bundle.read_all(bundle.read(path), "x")
    assert one.source.endswith("so?[31mund") and "\x1b" not in calibrate(path, "--list").output


def test_list_use_undo(path, tmp_path):
    sound = photos(tmp_path / "sound", range(20, 40))
    assert "none; the export's thresholds: NG from score >= 0.5" in calibrate(path, "--list").output
    for name, level in (("first", "5%"), ("second", "50%")):
        assert calibrate(path, sound, "--name", name, "--false-alarms", level).exit_code == 0
    text = calibrate(path, "--list").output
    assert text.index("  training") < text.index("  first") < text.index("* second")
    assert "judges by first now" in calibrate(path, "--undo").output
    assert "* first" in calibrate(path, "--list").output
    assert "judges by second now" in calibrate(path, "--use", "second").output
    assert "no such calibration" in fails(path, "--use", "third")
    assert "has one of that name" in fails(path, sound, "--name", "second")


def test_ssn_run_says_by_what_it_judges_and_where_no_promise_holds(path, tmp_path):
    sound = photos(tmp_path / "sound", range(20, 40))
    calibrate(path, sound, "--name", "site", "--roi", "0,0,20,20")
    where = ("--roi", "0,0,20,20")
    assert "(site: on average at most 4.8 of 100 sound photos" in ssn_run(path, sound, *where).output
    assert "warning: no promise: calibrated with --roi 0,0,20,20, this is whole frames" in (
        ssn_run(path, sound).output)
    assert "no promise: calibrated on float32, this is float16" in (
        ssn_run(path, sound, *where, "--precision", "float16").output)
    assert "set by the caller: no promise holds" in ssn_run(path, sound, *where, "--threshold", 0.5).output
    assert "(training: chosen for the test" in ssn_run(path, sound, "--calibration", "training").output


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_every_back_end_and_precision(path, tmp_path, backend, precision):
    pytest.importorskip(backend)
    sound = photos(tmp_path / "sound", range(20, 40))
    on = ("--backend", backend, "--precision", precision)
    assert calibrate(path, sound, *on, "--name", "x").exit_code == 0
    (one,) = in_bundle.read_all(bundle.read(path), "x")
    assert (one.library, one.precision) == (backend, precision) and one.values[-1] == np.float32(39 / 255)
    assert "(x: on average at most 4.8 of 100" in ssn_run(path, sound, *on).output
    other = "openvino" if backend == "onnxruntime" else "onnxruntime"
    if precision == "float16":
        on = ("--backend", other, "--precision", precision)
        assert calibrate(path, sound, *on, "--name", "x").exit_code == 0
        assert len(in_bundle.read_all(bundle.read(path), "x")) == 2  # a record for each


def test_a_stream_counts_frames_and_says_that_neighbours_are_alike(path, tmp_path):
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (48, 32))
    for value in range(40, 70):
        video.write(np.full((32, 48, 3), value, np.uint8))
    video.release()
    result = calibrate(path, tmp_path / "v.avi", "--name", "v")
    assert "30 frames, of which neighbours are not independent" in result.output
    result = calibrate(path, tmp_path / "v.avi", "--name", "w", "--parts", "20")
    assert "20 sound frames" in result.output


def test_a_watched_folder_ends_with_enough_parts(path, tmp_path, arriving):
    sound = photos(tmp_path / "sound", range(20, 50))
    with arriving(sorted(sound.iterdir()), tmp_path / "incoming") as incoming:
        result = calibrate(path, f"watch:{incoming}", "--parts", 24, "--name", "w")
    assert result.exit_code == 0 and "24 sound photos" in result.output, result.output


WATCHING = """
from ssn_edge.commands.ssn_calibrate import main
from ssn_edge.sources import watched_folder
frames = watched_folder._Watch.frames
watched_folder._Watch.frames = lambda self, stop: print("the first look", flush=True) or frames(self, stop)
main()
"""


def test_interrupted_nothing_is_written(path, tmp_path):
    sound, before = tmp_path / "incoming", manifest(path)
    sound.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {WATCHING}", str(path),
         f"watch:{sound}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    assert any("the first look" in line for line in iter(child.stdout.readline, ""))
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert child.returncode == 130 and "the bundle is as it was" in out, out
    assert manifest(path) == before
