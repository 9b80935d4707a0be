"""A bundle's graph as a plain file that judges as one of its calibrations does, and what is said of it."""

import dataclasses

import numpy as np
import onnxruntime
import pytest
import tiny
from click.testing import CliRunner

from ssn_edge import Detector, Verdict, View
from ssn_edge.model import bundle, bundle_writer
from ssn_edge.model.bundle_writer import Content
from ssn_edge.model.onnx_metadata import appended, read_info
from ssn_edge.model.schema import METADATA_KEY
from ssn_edge.verdict import calibrating, calibration, in_bundle
from ssn_export.bundles import plain
from ssn_export.cli import main
from ssn_export.graph import half_precision

SOURCES = ("score", "map_max", "either")
SCALES = (0.0, 1.0, 120.0, 40.0)
PRECISIONS = {"float32": "float32", "half": "float16"}


def export(*arguments):
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def content(role, **changes):
    """The tiny model in float32, or truly in half."""
    graph = tiny.graph() if role == "float32" else half_precision.to_half(tiny.graph())
    text = tiny.info(precision=PRECISIONS[role], **changes).to_json()
    data = appended(graph.SerializeToString(), {METADATA_KEY: text})
    return Content(role, lambda path: path.write_bytes(data), PRECISIONS[role], "none")


@pytest.fixture
def path(tmp_path):
    with bundle_writer.writing(tmp_path / "m.ssn", lambda line: None) as writer:
        writer.commit(tiny.info(), [writer.add(content(role)) for role in PRECISIONS])
    return tmp_path / "m.ssn"


def add(path, name, verdict, seed=0, **fields):
    """A calibration with thresholds of our choice."""
    values = np.random.default_rng(seed).random(240).astype(np.float32)
    found = calibrating.calibrate(values, 255 * values, [""] * 240, "score", None)
    one = dataclasses.replace(calibration.made_of(found, name), verdict=verdict, **fields)
    in_bundle.add(path, one, lambda line: None)
    return one


def chosen(source, image, pixel, other=None):
    scales = SCALES if source == "either" else None
    return Verdict(source, image, pixel, "promised", 240, other, scales)


def frames(count=300):
    """Noise of different brightness."""
    rng = np.random.default_rng(7)
    return np.stack([rng.integers(0, rng.integers(60, 256), (32, 48, 3), np.uint8) for _ in range(count)])


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("precision", PRECISIONS.values())
def test_the_file_judges_as_the_detector_does(path, tmp_path, precision):
    """300 frames; thresholds are values of some of them, which are NG, then."""
    images = frames()
    with Detector.open(path, "onnxruntime", precision=precision) as detector:
        seen = [detector.detect(image) for image in images]
    by_score, by_map = (sorted(seen, key=lambda one, n=n: getattr(one, n)) for n in ("score", "map_max"))
    score, peak = by_score[200], by_map[240]
    pixel = float(np.sort(seen[3].anomaly_map.ravel())[1000])
    verdicts = {
        "score": chosen("score", score.score, pixel),
        "map_max": chosen("map_max", peak.map_max, peak.map_max),
        "either": chosen("either", by_score[260].score, by_map[150].map_max, by_map[150].map_max),
    }
    expected = {
        "score": [one.score >= score.score for one in seen],
        "map_max": [one.map_max >= peak.map_max for one in seen],
        "either": [one.score >= by_score[260].score or one.map_max >= by_map[150].map_max for one in seen],
    }
    for source, verdict in verdicts.items():
        add(path, f"by-{source}", verdict)
    for source, verdict in verdicts.items():
        out = tmp_path / f"{source}.onnx"
        code, output = export(path, "--out", out, "--verdict", "--calibration", f"by-{source}",
                              "--precision", precision)
        assert code == 0 and f"{precision}: calibration by-{source}: {verdict.rule}" in output, output
        runner, labels = session(out), []
        with Detector.open(path, "onnxruntime", precision=precision, calibration=f"by-{source}") as detector:
            for image in images:
                anomaly_map, one_score, mask, is_defect = runner.run(None, {"image": image[None]})
                detection = detector.detect(image)
                np.testing.assert_array_equal(anomaly_map[0], detection.anomaly_map)
                assert one_score[0] == np.float32(detection.score)
                np.testing.assert_array_equal(mask[0], detection.mask)
                np.testing.assert_array_equal(mask[0], detection.anomaly_map >= verdict.pixel_threshold)
                assert bool(is_defect[0]) == detection.is_defect
                labels.append(bool(is_defect[0]))
        assert labels == expected[source] and set(labels) == {True, False}
        info = read_info(out)
        assert info.verdict_inside and info.calibration == f"by-{source}" and info.precision == precision
        assert info.verdict == detector.info.verdict
        batch = runner.run(["mask", "is_defect"], {"image": images[:9]})
        assert batch[1].tolist() == labels[:9] and batch[0].shape == (9, 32, 48)


def test_a_plain_file_without_nodes_has_the_thresholds_in_its_document(path, tmp_path):
    add(path, "first", chosen("score", 0.25, 50.0))
    second = add(path, "second", chosen("score", 0.75, 150.0))
    out = tmp_path / "m.onnx"
    assert plain.write(path, out, log=lambda line: None) == [out]
    info = read_info(out)
    assert (info.calibration, info.verdict, info.verdict_inside) == ("second", second.verdict, False)
    assert [one.name for one in session(out).get_outputs()] == ["anomaly_map", "score"]
    with Detector.open(out, "onnxruntime") as detector:
        assert detector.detect(np.full((32, 48, 3), 192, np.uint8)).is_defect
        assert not detector.detect(np.full((32, 48, 3), 190, np.uint8)).is_defect
    code, output = export(out, "--info")
    assert code == 0 and "calibration second: NG from score >= 0.75; mask from 150 (promised" in output


def test_the_promise_is_not_carried_to_another_file(path, tmp_path):
    half = bundle.read(path).graphs()["float16"]
    add(path, "line", chosen("score", 0.25, 50.0))
    add(path, "half", chosen("score", 0.5, 50.0), precision="float16", library="onnxruntime",
        sha256=half.sha256)
    add(path, "cut", chosen("score", 0.5, 50.0), view=View((0, 0, 9, 9)))
    said = {
        ("line", "float32"): "promised",
        ("line", "float16"): "no promise: calibrated on float32, this is float16; run ssn-calibrate",
        ("half", "float16"): "promised",
        ("half", "float32"): "no promise: calibrated on float16, this is float32; run ssn-calibrate",
        ("cut", "float32"):
            "no promise: calibrated with --roi 0,0,9,9, this is whole frames; run ssn-calibrate",
    }
    for (name, precision), method in said.items():
        out = tmp_path / f"{name}-{precision}.onnx"
        code, output = export(path, "--out", out, "--calibration", name, "--precision", precision)
        assert code == 0 and f"({method}, n = 240)" in output, output
        with Detector.open(path, "onnxruntime", precision=precision, calibration=name) as detector:
            assert read_info(out).verdict == detector.info.verdict
        assert read_info(out).verdict.method == method


def test_before_calibrations_were_kept_it_is_the_trainings(path, tmp_path):
    code, output = export(path, "--out", tmp_path / "m.onnx", "--verdict")
    assert code == 0, output
    info = read_info(tmp_path / "m.onnx")
    assert (info.calibration, info.verdict) == ("training", tiny.info().verdict)
    assert session(tmp_path / "m.onnx").run(["is_defect"], {"image": frames(1)})[0].dtype == np.uint8


def test_bundles_from_before_with_thresholds_inside(tmp_path):
    """They open; nothing is made of them but what they are."""
    path = tiny.write_bundle(tmp_path / "m.ssn", verdict_inside=True)
    with Detector.open(path, "onnxruntime") as detector:
        assert detector.detect(np.full((32, 48, 3), 255, np.uint8)).is_defect
    code, output = export(path, "--out", tmp_path / "m.onnx", "--verdict")
    assert code == 2 and "its graphs have thresholds inside already; --unpack DIR" in output
    assert not (tmp_path / "m.onnx").exists()
    assert export(path, "--unpack", tmp_path / "files")[0] == 0
    code, output = export("--pack", tmp_path / "files" / "m.onnx", "--out", tmp_path / "again.ssn")
    assert code == 2 and "m.onnx: has thresholds inside, and a bundle's are its calibrations'" in output
    assert not (tmp_path / "again.ssn").exists()


def test_errors_leave_nothing(path, tmp_path):
    add(path, "line", chosen("score", 0.25, 50.0))
    for arguments, said in (
        (("--calibration", "other"), f"{path}: no calibration other, but training, line"),
        (("--calibration", "other", "--verdict"), "no calibration other"),
    ):
        code, output = export(path, "--out", tmp_path / "out" / "m.onnx", *arguments)
        assert code == 2 and output.startswith("error: ") and output.count("\n") == 1 and said in output
    code, output = export(path, "--out", path / "x.onnx")
    assert code == 2 and "a bundle's folder holds what its manifest names" in output
    code, output = export(path, "--out", tmp_path, "--verdict")
    assert code == 2
    assert not list(tmp_path.rglob("*.onnx")) or {one.parent for one in tmp_path.rglob("*.onnx")} == {path}
    half = bundle.read(path).graphs()["float16"]
    (path / half.name).write_bytes(b"x" * half.size)
    code, output = export(path, "--out", tmp_path / "m.onnx", "--precision", "float16")
    assert code == 2 and f"{half.name}: its sha256 is" in output and not (tmp_path / "m.onnx").exists()


def test_unpacking_says_where_the_calibrations_are(path, tmp_path):
    code, output = export(path, "--unpack", tmp_path / "a")
    assert code == 0 and "calibration" not in output
    add(path, "line", chosen("score", 0.25, 50.0))
    code, output = export(path, "--unpack", tmp_path / "b")
    said = f"those of one: ssn-export {path} --out NAME.onnx [--verdict] --calibration line"
    assert code == 0 and "plain files have the thresholds of the export" in output and said in output
    assert {one.name for one in (tmp_path / "b").iterdir()} == {"m.onnx", "m.fp16.onnx"}
    assert read_info(tmp_path / "b" / "m.onnx").verdict == tiny.info().verdict


def test_info_lists_them(path):
    half = bundle.read(path).graphs()["float16"]
    add(path, "line", chosen("score", 0.25, 50.0), source="cam 2", library="onnxruntime", date="today")
    add(path, "half", chosen("score", 0.5, 50.0), precision="float16", library="onnxruntime",
        sha256=half.sha256)
    in_bundle.use(path, "line", lambda line: None)
    code, output = export(path, "--info")
    assert code == 0, output
    lines = output.splitlines()
    places = {name: next(i for i, line in enumerate(lines) if line.startswith(f"calibration {name}"))
              for name in ("training", "line", "half")}
    line = places["line"]
    assert lines[line] == (
        "calibration line, in use: today, promise, made in float32 on onnxruntime, whole frames, of cam 2"
    )
    assert lines[line + 1 : line + 3] == ["  NG from score >= 0.25; promised", "  here: its promise holds"]
    assert ", in use" not in lines[places["half"]] and "made in float16" in lines[places["half"]]
    assert lines[places["half"] + 2] == (
        "  here: no promise: calibrated on float16, this is float32; run ssn-calibrate"
    )
    assert lines[places["training"] + 2] == "  here: made for what runs; no promise (none)"


def test_help_has_an_example():
    code, output = export("--help")
    assert code == 0 and "ssn-export model.ssn --out line.onnx --verdict --calibration line-3" in output
