"""libssn_edge.so from C: compiled and run as a user would, with AddressSanitizer on our side of it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import tiny

from ssn_edge import Detector, Verdict
from ssn_edge.c.build import LIBRARY, LINK
from ssn_edge.frames.pixel_formats import FORMATS
from ssn_edge.model import bundle
from ssn_edge.verdict import calibrating, calibration, in_bundle
from ssn_edge.verdict.regions import MOST_REGIONS
from ssn_export.bundles import plain

ROOT = Path(__file__).resolve().parents[3]

pytest.importorskip("cffi", reason="make c needs cffi")
if not shutil.which("gcc") or not sysconfig.get_config_var("Py_ENABLE_SHARED"):
    pytest.skip("a C compiler and a Python with a shared library are needed", allow_module_level=True)


def run(*arguments, check=True, **variables):
    arguments = [str(word) for word in arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(arguments, capture_output=True, text=True, env=env, timeout=300)
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
    compiler = ["g++", "-std=c++17"] if source.suffix == ".cpp" else ["gcc"]
    run(*compiler, *flags, "-o", program, source, *found)
    return program


@pytest.fixture(scope="module")
def loop(library):
    return compiled(ROOT / "examples/c_camera_loop.c", library)


def lines(output):
    """Scores and verdicts that the example printed."""
    rows = [line.split() for line in output.splitlines()[1:-1]]
    return [float(row[1]) for row in rows], [row[2] for row in rows]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The library with AddressSanitizer in it."""
    return build(tmp_path_factory.mktemp("asan"), "--sanitize")


def run_guarded(library, source, *arguments):
    program = compiled(ROOT / "tests/ssn_edge/c" / source, library, "-fsanitize=address")
    done = run(program, *arguments, ASAN_OPTIONS="detect_leaks=0", check=False)  # Python keeps what it has
    assert "AddressSanitizer" not in done.stderr, done.stdout + done.stderr[-3000:]
    return done


def test_misuse_under_address_sanitizer(guarded, tmp_path):
    done = run_guarded(guarded, "misuse.c", tiny.write_model(tmp_path / "m.onnx"))
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def test_a_program_of_abi_1_is_told_so_in_a_line(guarded, tmp_path):
    done = run_guarded(guarded, "abi1.c", tiny.write_model(tmp_path / "m.onnx"))
    assert done.stdout == (
        "2 1 this program was compiled with the ssn_edge.h of another version than ABI 2, which this library "
        "has: compile it again\n"
    )
    assert done.returncode == 1 and not done.stderr


def dynamic(file, kind):
    """What a file's dynamic section says, as binutils read it."""
    lines = run("objdump", "-p", file, LC_ALL="C").stdout.splitlines()
    return [line.split()[1] for line in lines if line.split()[:1] == [kind]]


def test_programs_ask_for_this_abi_s_library(library, loop):
    assert dynamic(library / LIBRARY, "SONAME") == [LIBRARY]
    assert LIBRARY in dynamic(loop, "NEEDED") and LINK not in dynamic(loop, "NEEDED")
    assert os.readlink(library / LINK) == LIBRARY  # by its own name: the folder may be moved
    header = (library / "ssn_edge.h").read_text()
    assert f"SSN_EDGE_ABI = {LIBRARY.rpartition('.')[2]}," in header
    assert f"SSN_MAX_REGIONS = {MOST_REGIONS}," in header and f"regions[{MOST_REGIONS}]" in header


def test_a_build_takes_the_place_of_an_older_one(tmp_path):
    """Of ABI 1, whose library was a file where the link is now."""
    (tmp_path / LINK).write_text("old")
    build(tmp_path)
    build(tmp_path)
    assert os.readlink(tmp_path / LINK) == LIBRARY and (tmp_path / LIBRARY).stat().st_size > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == [LINK, LIBRARY, "ssn_edge.h", "ssn_edge.pc"]


def test_the_header_in_cpp(library, tmp_path):
    if not shutil.which("g++"):
        pytest.skip("a C++ compiler is needed")
    program = compiled(ROOT / "tests/ssn_edge/c/header.cpp", library)
    whole = tiny.HEIGHT * tiny.WIDTH
    assert run(program, tiny.write_model(tmp_path / "m.onnx")).stdout.split() == ["1", f"{whole}", f"{whole}"]


@pytest.fixture(scope="module")
def told(library, tmp_path_factory):
    """What the library says of raw frames: the model's line, and for each frame status, verdict, score, map
    maximum, number of regions, the error, the regions, map and mask."""
    program = compiled(ROOT / "tests/ssn_edge/c/verdicts.c", library)
    arrays = tmp_path_factory.mktemp("verdicts") / "arrays"

    def call(model, raw, hw, name):
        rows = run(program, model, raw, *hw, FORMATS[name].number, arrays).stdout.splitlines()
        size = tiny.HEIGHT, tiny.WIDTH
        kind = np.dtype([("map", np.float32, size), ("mask", np.uint8, size)])
        frames = []
        for row in rows[1:]:
            if row.startswith(" "):
                frames[-1][-1].append(tuple(map(float, row.split())))
            else:
                status, is_defect, score, map_max, count, *error = row.split(" ", 5)
                numbers = int(status), int(is_defect), np.float32(score), np.float32(map_max), int(count)
                frames.append((*numbers, "".join(error), []))
        made = np.fromfile(arrays, kind)
        assert len(made) == len(frames)
        return rows[0].split(), [(*frame, one["map"], one["mask"]) for frame, one in zip(frames, made)]

    return call


def noisy_frames(name):
    """64x80, so that a letterbox has a border: dark ones, noise of several strengths, many bright spots."""
    rng = np.random.default_rng(7)
    size = {"BGR": (64, 80, 3), "GRAY8": (64, 80), "NV12": (96, 80), "YUYV": (64, 80, 2)}[name]
    frames = [rng.integers(0, limit, size) for limit in (2, 90, 200, 256, 256)]
    spots, bright = np.full(size, 20), rng.integers(160, 230, (16, 20))
    if name == "YUYV":
        spots[..., 1] = 128  # no colour
    elif name == "NV12":
        spots[64:] = 128
    luma = spots[:64].reshape(64, 80, -1)[..., : 1 if name == "YUYV" else 3]
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        luma[row::4, column::4] = bright[..., None]
    return np.array([*frames, spots], np.uint8)


@pytest.mark.parametrize("geometry", ["stretch", "letterbox"])
@pytest.mark.parametrize("name", ["BGR", "GRAY8", "NV12", "YUYV"])
@pytest.mark.parametrize("source", ["score", "map_max", "either"])
def test_the_whole_verdict_is_pythons(told, tmp_path, source, name, geometry):
    limits = {"score": (0.6,), "map_max": (150.0,), "either": (0.9, 190.0)}[source]
    verdict = Verdict(source, limits[0], 110.0, "chosen for the test", 1, *limits[1:])
    metadata = tiny.info(verdict=verdict, geometry=geometry).to_json()
    raw, model = tmp_path / "frames.raw", tiny.write_model(tmp_path / "m.onnx", metadata)
    frames = noisy_frames(name)
    raw.write_bytes(frames.tobytes())
    codes = {"NV12": cv2.COLOR_YUV2BGR_NV12, "YUYV": cv2.COLOR_YUV2BGR_YUY2}
    with Detector.open(model) as detector:
        shown = [cv2.cvtColor(frame, codes[name]) if name in codes else frame for frame in frames]
        truth = [detector.detect(frame) for frame in shown]
    about, found = told(model, raw, (64, 80), name)
    largest = np.finfo(np.float32).max
    used = {"score": (limits[0], largest), "map_max": (largest, limits[0]), "either": limits}[source]
    bits = {"score": 1, "map_max": 2, "either": 3}[source]
    assert about[:5] == [f"{tiny.HEIGHT}", f"{tiny.WIDTH}", "0", "0", f"{bits}"]
    for word, limit in zip(about[5:], (*used, 110.0)):  # the first float that is not below the limit
        value = np.float32(word)
        assert float(np.nextafter(value, np.float32(0))) < limit <= float(value)
    for one, (status, is_defect, score, map_max, count, error, regions, map_, mask) in zip(truth, found):
        assert (status, error, is_defect) == (0, "", int(one.is_defect))
        assert (score, map_max, count) == (np.float32(one.score), np.float32(one.map_max), one.region_count)
        assert regions == [
            (r.x, r.y, r.width, r.height, pytest.approx(r.peak, rel=1e-8), r.area, r.frame_area)
            for r in one.regions
        ]
        np.testing.assert_array_equal(map_, one.anomaly_map)
        np.testing.assert_array_equal(mask, one.mask)
    assert len(found) == len(frames) and {one.is_defect for one in truth} == {False, True}
    assert truth[-1].region_count > len(truth[-1].regions) == MOST_REGIONS


def test_a_bundle_is_opened_as_python_does(loop, tmp_path):
    """The same answers as of the file that is taken; a changed byte is refused, and a bundle that is none."""
    path = tiny.write_bundle(tmp_path / "m.ssn")
    (entry,) = bundle.read(path).of_role("float32")
    raw = tmp_path / "frames.raw"
    raw.write_bytes(noisy_frames("BGR").tobytes())
    arguments = (raw, "64x80", "BGR")
    assert lines(run(loop, path, *arguments).stdout) == lines(run(loop, path / entry.name, *arguments).stdout)
    data = bytearray((path / entry.name).read_bytes())
    data[-1] ^= 1
    (path / entry.name).write_bytes(data)
    for model, said in ((path, f"{entry.name}: its sha256 is"), (tmp_path / "none.ssn", "no such model")):
        command = [str(word) for word in (loop, model, *arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode and said in done.stderr, done.stderr


def calibrated_bundle(folder, source="either"):
    """With two calibrations, the second in use."""
    verdict = Verdict(source, 0.5, 100.0, "chosen", 0, 100.0 if source == "either" else None)
    path = tiny.write_bundle(folder / "m.ssn", verdict=verdict)
    for name, centre in (("first", 90), ("line-2", 120)):
        peaks = np.random.default_rng(centre).normal(centre, 15, 240).astype(np.float32)
        scores = peaks / np.float32(255)
        scales = calibrating.scales_of(scores, peaks) if source == "either" else None
        found = calibrating.calibrate(scores, peaks, [""] * 240, source, scales)
        in_bundle.add(path, calibration.made_of(found, name), lambda line: None)
    return path


def plain_file(path, folder, name):
    """The bundle's graph with the calibration's thresholds inside."""
    out = folder / f"{name}.onnx"
    plain.write(path, out, name=name, inside=True, log=lambda line: None)
    return out


@pytest.mark.parametrize("source", ["score", "map_max", "either"])
def test_a_calibrated_bundle_is_judged_as_python_and_as_a_graph_do(guarded, tmp_path, source):
    """300 frames about the threshold; thresholds and words are the calibration's, in use or named; a program
    from before there were any is told the same thresholds."""
    path, raw = calibrated_bundle(tmp_path, source), tmp_path / "frames.raw"
    levels = np.random.default_rng(2).integers(100, 200, 300)
    frames = np.repeat(levels.astype(np.uint8), tiny.HEIGHT * tiny.WIDTH * 3)
    frames = frames.reshape(300, tiny.HEIGHT, tiny.WIDTH, 3)
    raw.write_bytes(frames.tobytes())
    judged = []
    for name in (None, "first"):
        arguments = [path, raw, tiny.HEIGHT, tiny.WIDTH, *([name] if name else [])]
        done = run_guarded(guarded, "calibrated.c", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        called, promise, limits, *rows = done.stdout.splitlines()
        with Detector.open(path, calibration=name) as detector:
            truth = [detector.detect(frame) for frame in frames]
            assert (called, promise) == (name or "line-2", detector.info.verdict.method)
            assert tuple(np.float32(limits.split())) == detector.judge.limits
        assert [row.split()[0] for row in rows] == [f"{one.is_defect:d}" for one in truth]
        for row, one in zip(rows, truth):
            _, score, map_max, count = row.split()
            assert np.float32(score) == np.float32(one.score) and np.float32(map_max) == one.map_max
            assert int(count) == one.region_count
        assert {one.is_defect for one in truth} == {False, True} and len(truth) == 300
        assert promise.startswith("on average at most 0.83 of 100 sound parts; with 95 % confidence at most")
        judged.append([one.is_defect for one in truth])
        session = onnxruntime.InferenceSession(str(plain_file(path, tmp_path, name)))
        masks, called = session.run(["mask", "is_defect"], {"image": frames})
        assert called.tolist() == judged[-1]
        assert (masks == np.stack([one.mask for one in truth])).all()
    assert judged[0] != judged[1]


def test_words_are_cut_at_a_character_and_names_that_are_none_are_told(guarded, tmp_path):
    verdict = Verdict("score", 0.5, 100.0, "é" * 400, 1)
    model = tiny.write_model(tmp_path / "m.onnx", tiny.info(verdict=verdict, calibration="line").to_json())
    raw = tmp_path / "frames.raw"
    raw.write_bytes(b"")
    size = (tiny.HEIGHT, tiny.WIDTH)
    done = run_guarded(guarded, "calibrated.c", model, raw, *size)
    assert done.stdout.splitlines()[:2] == ["line", "é" * 255]
    done = run_guarded(guarded, "calibrated.c", model, raw, *size, "line")
    assert done.returncode == 3 and "a plain file has no calibrations" in done.stderr
    for name in ("third", ""):
        (tmp_path / f"b{name}").mkdir()
        path = calibrated_bundle(tmp_path / f"b{name}")
        done = run_guarded(guarded, "calibrated.c", path, raw, *size, name)
        assert done.returncode == 3 and "training, first, line-2" in done.stderr, done.stderr


@pytest.mark.parametrize("output", ["score", "anomaly_map"])
def test_a_network_that_gives_nan_does_not_judge(told, loop, tmp_path, output):
    """The frame is neither OK nor NG, and the next one is judged."""
    raw, model = tmp_path / "frames.raw", tiny.write_model(tmp_path / "m.onnx", breaks=output)
    raw.write_bytes(b"".join(bytes([value]) * (tiny.HEIGHT * tiny.WIDTH * 3) for value in (200, 0, 10)))
    size = tiny.HEIGHT, tiny.WIDTH
    _, found = told(model, raw, size, "BGR")
    assert [(frame[0], frame[1]) for frame in found] == [(0, 1), (5, -1), (0, 0)]
    _, _, score, map_max, count, error, regions, *_ = found[1]
    assert np.isnan(score) and np.isnan(map_max) and (count, regions) == (0, []) and "not finite" in error
    done = run(loop, model, raw, "{}x{}".format(*size), "BGR")
    assert [row.split()[0] + row.split()[2] for row in done.stdout.splitlines()[1:-1]] == ["0NG", "2OK"]
    assert done.stdout.endswith("\n3 frames, 1 NG, 1 not judged\n")
    assert "frame 1 not judged: " in done.stderr and "not finite" in done.stderr
    raw.write_bytes(bytes(tiny.HEIGHT * tiny.WIDTH * 3))
    done = run(loop, model, raw, "{}x{}".format(*size), "BGR", check=False)
    assert done.returncode == 1 and done.stdout.endswith("1 frames, 0 NG, 1 not judged\n")


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
    for arguments, text in (
        ((tmp_path / "none.onnx", raw, "8x8", "BGR"), "error: " + str(tmp_path / "none.onnx: no such model")),
        ((model, tmp_path / "none.raw", "8x8", "BGR"), "No such file"),
        ((model, "/dev/null", "8x8", "YUYV"), "VIDIOC_S_FMT"),
    ):
        done = run(loop, *arguments, check=False)
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
