"""Plain files of one name into a bundle and out of it, and files of before there were bundles."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny
from click.testing import CliRunner

from ssn_edge import Detector
from ssn_edge.errors import ModelError
from ssn_edge.files import sha256
from ssn_edge.model import bundle
from ssn_edge.model.onnx_metadata import read_info
from ssn_export.cli import main
from ssn_export.gates import parity

OLD = Path(__file__).parent / "old"
"""Files that version 0.1.0 wrote (old/README.md)."""

NAMES = ("model.onnx", "model.fp16.onnx", "model.reference.npz", "model.engine", "model.json")


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        shutil.copy(OLD / name, tmp_path)
    return tmp_path


def export(*arguments):
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def packed(folder, name="model.onnx"):
    code, output = export("--pack", folder / name, "--out", folder / "m.ssn")
    assert code == 0, output
    return folder / "m.ssn"


def refused(folder, expected):
    """In one line that names the file; nothing is made."""
    code, output = export("--pack", folder / "model.onnx", "--out", folder / "m.ssn")
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and expected in lines[0], output
    assert not (folder / "m.ssn").exists()


@pytest.mark.parametrize("name, limit", [("model.onnx", 1e-5), ("model.fp16.onnx", 5e-3)])
def test_old_plain_files_open_as_they_are(name, limit):
    """Each itself, and with the answers that were stored with it."""
    truth = parity.read_reference(OLD / "model.reference.npz")
    with Detector.open(OLD / name) as detector:
        assert detector.path == OLD / name and detector.choice == "the file as given"
        assert detector.info.checkpoint_sha256.startswith("c0ffee") and detector.info.backbone == "tiny"
        for image, answer, score in zip(truth.images, truth.maps, truth.scores):
            found = detector.detect(image)
            np.testing.assert_allclose(found.anomaly_map, answer, atol=limit * truth.maps.std() * 10)
            assert abs(found.score - score) < limit
            assert found.is_defect == (score >= detector.info.verdict.image_threshold)


def test_an_old_set_becomes_a_bundle(folder):
    path = packed(folder)
    found = bundle.read(path)
    assert [one.role for one in found.entries] == ["float32", "half", "reference", "engine"]
    assert [one.sha256 for one in found.entries] == [sha256(OLD / name) for name in NAMES[:4]]
    assert found.model == read_info(OLD / "model.onnx").core()
    engine = found.entries[3]
    written = json.loads((OLD / "model.json").read_text())
    assert engine.precision == "float16" and engine.verified
    assert dict(engine.measured) == {key: written[key] for key in engine.measured}
    assert set(engine.measured) == {"parity", "layers", "memory", "build_seconds", "warnings"}
    assert {key: getattr(engine.engine, key) for key in ("device", "tensorrt", "batch", "onnx_sha256")} == {
        key: written["engine"][key] for key in ("device", "tensorrt", "batch", "onnx_sha256")
    }
    with Detector.open(path, "onnxruntime") as detector:
        assert detector.path.name.startswith("float32-")
    code, output = export(path, "--info")
    assert code == 0 and "all 4 files have the digests of the manifest" in output
    said = "TensorRT 10.13.3.9, Fake GPU (host memory) (8.6), 1 image, map 9.3e-04 of its standard deviation"
    assert said in output


def test_a_content_file_is_a_plain_onnx_file(folder):
    """For ONNX Runtime, trtexec, netron: nothing of ours is needed to run it."""
    found = bundle.read(packed(folder))
    truth = parity.read_reference(found.place(found.of_role("reference")[0]))
    session = onnxruntime.InferenceSession(
        str(found.place(found.of_role("float32")[0])), providers=["CPUExecutionProvider"]
    )
    maps, scores = session.run(["anomaly_map", "score"], {"image": truth.images})
    np.testing.assert_allclose(maps, truth.maps, atol=1e-4 * truth.maps.std())
    np.testing.assert_allclose(scores, truth.scores, atol=1e-6)


@pytest.mark.parametrize("kept", [NAMES[:1], NAMES[1:2], NAMES[:3], NAMES[1:3], (*NAMES[:2], *NAMES[3:])])
def test_part_of_a_set(folder, kept):
    for name in set(NAMES) - set(kept):
        (folder / name).unlink()
    found = bundle.read(packed(folder, kept[0]))
    expected = [sha256(OLD / name) for name in kept if name != "model.json"]
    assert [one.sha256 for one in found.entries] == expected


@pytest.mark.parametrize("name, precision", [("model.onnx", "float32"), ("model.fp16.onnx", "float16")])
def test_a_graph_of_another_training_is_refused_by_name(folder, name, precision):
    given = read_info(OLD / "model.onnx")
    tiny.write_model(folder / name, dataclasses.replace(
        given, precision=precision, checkpoint_sha256="b" * 64).to_json())
    refused(folder, f"{folder / 'model.fp16.onnx'}: made from another training than model.onnx (checkpoint ")
    tiny.write_model(folder / name, dataclasses.replace(given, precision=precision, height=40).to_json())
    refused(folder, "model.fp16.onnx: describes another model than model.onnx (input, geometry or verdict)")


def test_a_graph_that_is_not_what_its_name_says(folder):
    shutil.copy(OLD / "model.onnx", folder / "model.fp16.onnx")
    refused(folder, "model.fp16.onnx: is float32, which its name does not say")


def test_frames_of_another_training_are_refused_by_name(folder):
    """They say nothing of a training: their answers do."""
    truth = parity.read_reference(OLD / "model.reference.npz")
    other = parity.Reference(truth.images, truth.maps * 1.01, truth.scores)
    parity.write_reference(folder / "model.reference.npz", other)
    refused(folder, "model.reference.npz: not the answers of model.onnx (map_rms")
    parity.write_reference(folder / "model.reference.npz", tiny.reference())
    refused(folder, "model.reference.npz: images of another size than model.onnx's")
    (folder / "model.reference.npz").write_bytes(b"no zip")
    refused(folder, "model.reference.npz: not a reference file")
    whole = (OLD / "model.reference.npz").read_bytes()
    damaged = bytearray(whole)
    damaged[200:400] = b"\xff" * 200
    for content in (b"", whole[:-40], bytes(damaged)):
        (folder / "model.reference.npz").write_bytes(content)
        refused(folder, "model.reference.npz: not a reference file")
    none, floats = truth.first(0), dataclasses.replace(truth, images=truth.images / 2)
    for odd, said in ((none, "do not belong together"), (floats, "arrays of other types")):
        parity.write_reference(folder / "model.reference.npz", odd)
        refused(folder, f"model.reference.npz: {said}" if odd is floats else said)


def change_engine(folder, model=None, **changes):
    path = folder / "model.json"
    document = json.loads(path.read_text())
    document["engine"].update(changes)
    document["engine"]["model"].update(model or {})
    path.write_text(json.dumps(document))


def test_an_engine_of_another_training_is_refused_by_name(folder):
    change_engine(folder, {"checkpoint_sha256": "b" * 64})
    refused(folder, f"{folder / 'model.engine'}: made from another training than model.onnx (checkpoint bbbb")
    change_engine(folder, {"checkpoint_sha256": "c0ffee" + "0" * 58}, onnx_sha256="0" * 64)
    refused(folder, "model.engine: built from another model.fp16.onnx than the one here")
    (folder / "model.engine").write_bytes(b"another plan")
    refused(folder, "model.engine: its sha256 is")
    (folder / "model.json").write_text("{")
    refused(folder, "model.json: metadata is not JSON")
    (folder / "model.json").unlink()
    refused(folder, "model.engine: no model.json beside it, which says what it is")


def test_out_and_back(folder):
    """The same bytes, under the names of before, and a bundle of them again."""
    path = packed(folder)
    code, output = export(path, "--unpack", folder / "files")
    assert code == 0, output
    written = {one.name: one for one in (folder / "files").iterdir()}
    assert set(written) == {"m.onnx", "m.fp16.onnx", "m.reference.npz", "m.engine", "m.json"}
    for name, one in written.items():
        if name != "m.json":
            assert one.read_bytes() == (OLD / name.replace("m.", "model.", 1)).read_bytes()
    with Detector.open(written["m.onnx"], "onnxruntime") as detector:
        assert detector.info == read_info(OLD / "model.onnx")
    code, output = export("--pack", written["m.onnx"], "--out", folder / "again.ssn")
    assert code == 0, output
    first, again = bundle.read(path), bundle.read(folder / "again.ssn")
    assert first.document == again.document
    code, output = export(path, "--unpack", folder / "files")
    assert code == 2 and "is there already; give another folder" in output
    code, output = export(path, "--unpack", written["m.onnx"])
    assert code == 2 and "is a file; give a folder" in output


def test_several_engines_have_names_of_their_own(tmp_path):
    path = tiny.write_bundle(tmp_path / "m.ssn", [tiny.engine_info(), tiny.engine_info(batch=1)])
    code, output = export(path, "--unpack", tmp_path / "files")
    engines = [f"m-{one.sha256[:8]}.engine" for one in bundle.read(path).of_role("engine")]
    assert code == 0 and all((tmp_path / "files" / name).is_file() for name in engines)


def test_unpacking_checks_every_file(folder):
    path = packed(folder)
    (half,) = bundle.read(path).of_role("half")
    (path / half.name).write_bytes(b"x" * half.size)
    code, output = export(path, "--unpack", folder / "files")
    assert code == 2 and f"{half.name}: its sha256 is" in output and not (folder / "files").exists()
    code, output = export(path, "--info")
    assert code == 2 and f"error: {path / half.name}: its sha256 is" in output


def test_info_of_a_plain_file(folder):
    code, output = export(folder / "model.onnx", "--info")
    assert code == 0 and "tiny, 24x32 BGR (stretch)" in output and "float32, plan none; map 1.6e-07" in output


@pytest.mark.parametrize("arguments, expected", [
    ((), "give a run folder, a bundle or a model file"),
    (("m.ssn",), "is exported already; give --engine, --engine-out, --info, --layers, --triton, --unpack"),
    (("m.ssn", "--frame", "90x150"), "--frame: for a run folder; m.ssn is exported already"),
    (("m.ssn", "--out", "x.ssn"), "--out x.ssn: m.ssn is a bundle already; give NAME.onnx, one of"),
    (("model.onnx", "--out", "x.onnx"), "--out: for a run folder, or with --pack; model.onnx is exported"),
    (("m.ssn", "--out", "x.onnx", "--fp16"), "exported already; --precision float16 takes its half graph"),
    (("m.ssn", "--out", "m.ssn/x.onnx"), "--out m.ssn/x.onnx: a bundle's folder holds what its"),
    (("m.ssn", "--info", "--calibration", "a"), "--calibration: only with --triton or --out"),
    (("m.ssn", "--triton", "x", "--verdict"), "--verdict: only with --out"),
    (("model.onnx", "--triton", "x", "--calibration", "a"), "--calibration: with --out NAME.onnx of a"),
    (("model.onnx", "--info", "--verdict"), "--verdict: with --out NAME.onnx of a bundle; model.onnx is an"),
    (("run", "--verdict"), "--verdict: the thresholds of a bundle are its calibrations'; give --out NAME"),
    (("run", "--out", "x.ssn", "--verdict"), "then: ssn-export x.ssn --out NAME.onnx --verdict [--calib"),
    (("run", "--out", "x.onnx", "--calibration", "a"), "--calibration: of a bundle; export run first, then"),
    (("m.ssn", "--info", "--batch", "4"), "--batch: only with --engine or --engine-out"),
    (("m.ssn", "--info", "--precision", "float16"), "--precision: only with --engine or --engine-out or"),
    (("m.ssn", "--info", "--fp16"), "--fp16: for a run folder, or with --engine-out; m.ssn is exported"),
    (("m.ssn", "--engine", "--reference", "x.npz"), "--reference: only with --engine-out"),
    (("m.ssn", "--pack"), "--pack: not for a bundle, as m.ssn is"),
    (("m.ssn", "--engine"), "m.ssn: no engine built: TensorRT is not installed; run this on the device"),
    (("m.ssn", "--engine", "m.engine"), "--engine m.engine: takes no file; --engine-out m.engine writes"),
    (("--engine", "m.ssn"), "--engine m.ssn: name the bundle first: ssn-export m.ssn --engine"),
    (("none.ssn", "--info"), "none.ssn: no such model; write one with ssn-export RUN --out none.ssn"),
    (("model.onnx", "--pack"), "--pack: give --out NAME.ssn too"),
    (("none.onnx", "--pack", "--out", "x.ssn"), "none.onnx: no such file; give the set's .onnx file"),
    (("model.onnx", "--pack", "--out", "x.zip"), "x.zip: give a name that ends in .ssn"),
    (("model.engine", "--info"), "--info: not for an .engine file, as model.engine is"),
    (("model.engine",), "model.engine: is exported already; give --layers"),
])
def test_words_that_do_not_fit(folder, monkeypatch, arguments, expected):
    packed(folder)
    monkeypatch.chdir(folder)
    before = {one: one.stat().st_mtime_ns for one in folder.rglob("*")}
    code, output = export(*arguments)
    assert code == 2 and output.startswith("error: ") and output.count("\n") == 1, output
    assert expected in output
    after = {one: one.stat().st_mtime_ns for one in folder.rglob("*")}
    assert after == before


def test_a_cut_file_of_a_set(folder):
    (folder / "model.onnx").write_bytes((OLD / "model.onnx").read_bytes()[:4000])
    with pytest.raises(ModelError, match="not an ONNX file, or cut off"):
        read_info(folder / "model.onnx")
    refused(folder, "model.onnx: not an ONNX file, or cut off")
