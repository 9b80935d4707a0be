"""libssn_edge.so from C: compiled and run as a user would, with AddressSanitizer on our side of it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny

from ssn_edge import Detector

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("cffi", reason="make c needs cffi")
if not shutil.which("gcc") or not sysconfig.get_config_var("Py_ENABLE_SHARED"):
    pytest.skip("a C compiler and a Python with a shared library are needed", allow_module_level=True)


def run(*words, check=True, **variables):
    words = [str(word) for word in words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=300)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def build(folder, *options):
    run(sys.executable, "-m", "ssn_edge.c.build", folder, *options)
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("c"))


def compiled(source, folder, *flags):
    program = folder / source.stem
    flags = ["-Wall", "-Wextra", "-Werror", "-O1", "-g", "-pthread", *flags]
    found = [f"-I{folder}", f"-L{folder}", "-lssn_edge", f"-Wl,-rpath,{folder}"]
    run("gcc", *flags, "-o", program, source, *found)
    return program


@pytest.fixture(scope="module")
def loop(library):
    return compiled(ROOT / "examples/c_camera_loop.c", library)


def lines(output):
    """Scores and verdicts that the example printed."""
    rows = [line.split() for line in output.splitlines()[1:-1]]
    return [float(row[1]) for row in rows], [row[2] for row in rows]


def test_misuse_under_address_sanitizer(tmp_path):
    folder = build(tmp_path / "asan", "--sanitize")
    program = compiled(ROOT / "tests/c/misuse.c", folder, "-fsanitize=address")
    model = tiny.write_model(tmp_path / "m.onnx")
    done = run(program, model, ASAN_OPTIONS="detect_leaks=0", check=False)  # Python keeps what it has
    assert done.returncode == 0 and "AddressSanitizer" not in done.stderr, done.stdout + done.stderr[-3000:]


@pytest.mark.parametrize("name", ["BGR", "GRAY8", "NV12", "YUYV"])
def test_example_judges_raw_frames_as_python_does(loop, tmp_path, name):
    rng = np.random.default_rng(3)
    size = {"BGR": (64, 96, 3), "GRAY8": (64, 96), "NV12": (96, 96), "YUYV": (64, 96, 2)}[name]
    frames = rng.integers(0, 256, (5, *size), np.uint8)
    frames[3:] //= 4
    raw, model = tmp_path / "frames.raw", tiny.write_model(tmp_path / "m.onnx")
    raw.write_bytes(frames.tobytes())
    codes = {"NV12": cv2.COLOR_YUV2BGR_NV12, "YUYV": cv2.COLOR_YUV2BGR_YUY2}
    with Detector.open(model) as detector:
        shown = [cv2.cvtColor(frame, codes[name]) if name in codes else frame for frame in frames]
        truth = [detector.detect(frame) for frame in shown]
    scores, verdicts = lines(run(loop, model, raw, "64x96", name).stdout)
    assert [np.float32(score) for score in scores] == [np.float32(one.score) for one in truth]
    assert verdicts == ["NG" if one.is_defect else "OK" for one in truth]


def test_example_on_real_photos(loop, tmp_path, tiles):
    """Every photo at one size, as a camera gives them."""
    photos = sorted(tiles.rglob("*.jpg"))[:20]
    frames = [cv2.resize(cv2.imread(str(photo)), (300, 260)) for photo in photos]
    raw, model = tmp_path / "frames.raw", tiny.write_model(tmp_path / "m.onnx")
    raw.write_bytes(b"".join(frame.tobytes() for frame in frames))
    with Detector.open(model) as detector:
        truth = [np.float32(detector.detect(frame).score) for frame in frames]
    assert len(truth) == 20
    assert [np.float32(score) for score in lines(run(loop, model, raw, "260x300", "BGR").stdout)[0]] == truth


def test_example_complains_in_a_line(loop, tmp_path):
    raw, model = tmp_path / "frames.raw", tiny.write_model(tmp_path / "m.onnx")
    raw.write_bytes(b"x" * 100)
    assert run(loop, check=False).returncode == 2
    for words, text in (
        ((tmp_path / "none.onnx", raw, "8x8", "BGR"), "error: " + str(tmp_path / "none.onnx: no such model")),
        ((model, tmp_path / "none.raw", "8x8", "BGR"), "No such file"),
        ((model, "/dev/null", "8x8", "YUYV"), "VIDIOC_S_FMT"),
    ):
        done = run(loop, *words, check=False)
        assert done.returncode == 2 and text in done.stderr, done.stderr


def test_pkg_config_and_cmake(library, tmp_path):
    if not shutil.which("cmake") or not shutil.which("pkg-config"):
        pytest.skip("cmake and pkg-config are needed")
    found = {"PKG_CONFIG_PATH": str(library)}
    run("cmake", "-S", ROOT / "examples", "-B", tmp_path, **found)
    run("cmake", "--build", tmp_path, **found)
    assert "usage" in run(tmp_path / "c_camera_loop", check=False).stderr


def test_example_without_python(tmp_path):
    """The recipe for ONNX Runtime's C API, against its own headers and library."""
    folder = os.environ.get("SSN_ORT")
    if not folder:
        pytest.skip("SSN_ORT names no onnxruntime release with include/ and lib/")
    program, library = tmp_path / "loop", Path(folder) / "lib"
    found = [f"-I{folder}/include", f"-L{library}", "-lonnxruntime", f"-Wl,-rpath,{library}"]
    source = ROOT / "examples/onnxruntime_loop.cpp"
    run("g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-o", program, source, *found)
    frames = np.random.default_rng(0).integers(0, 256, (5, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    raw, model = tmp_path / "frames.raw", tiny.write_model(tmp_path / "m.onnx")
    raw.write_bytes(frames.tobytes())
    with Detector.open(model) as detector:
        truth = [np.float32(detector.detect(frame).score) for frame in frames]
    assert [np.float32(score) for score in lines(run(program, model, raw).stdout)[0]] == truth


def test_the_host_s_variables_do_not_reach_the_python_inside(loop, tmp_path):
    """PYTHONHOME of another Python would end the process while ours starts."""
    raw, model = tmp_path / "frames.raw", tiny.write_model(tmp_path / "m.onnx")
    raw.write_bytes(bytes(64 * 96 * 3))
    done = run(loop, model, raw, "64x96", "BGR", PYTHONHOME="/nonexistent", PYTHONPATH="/nonexistent")
    assert "1 frames, 0 NG" in done.stdout


def test_another_python_on_the_path_changes_nothing(loop, tmp_path):
    raw, model = tmp_path / "frames.raw", tiny.write_model(tmp_path / "m.onnx")
    raw.write_bytes(bytes(64 * 96 * 3))
    other = tmp_path / "bin"
    other.mkdir()
    (other / "python3").symlink_to("/bin/true")
    for path in ("/usr/bin:/bin", f"{other}:/usr/bin", ""):
        assert "1 frames, 0 NG" in run(loop, model, raw, "64x96", "BGR", PATH=path).stdout


def test_a_cut_off_file_is_an_error(loop, tmp_path):
    raw, model = tmp_path / "frames.raw", tiny.write_model(tmp_path / "m.onnx")
    raw.write_bytes(bytes(64 * 96 * 3 + 7))
    done = run(loop, model, raw, "64x96", "BGR", check=False)
    assert done.returncode == 1 and "1 frames" in done.stdout and "7 of 18432 bytes" in done.stderr


def test_library_says_when_python_does_not_start(loop, tmp_path):
    """Without ssn-edge the embedded code cannot run: a status and a line, not a crash."""
    (tmp_path / "ssn_edge").mkdir()
    (tmp_path / "ssn_edge" / "__init__.py").write_text("raise ImportError('broken')\n")
    broken = {"PYTHONPATH": "", "SSN_EDGE_PATH": str(tmp_path)}
    done = run(loop, "m.onnx", __file__, "8x8", "BGR", check=False, **broken)
    assert done.returncode == 2 and "the embedded Python did not start" in done.stderr
