"""A bundle's graphs for targets in reports, and as plain files out of it and back."""

import onnx
import pytest
import tiny
from commands import call

from ssn_edge.model import bundle
from ssn_edge.model.onnx_metadata import read_info
from ssn_export.cli import main


@pytest.fixture
def path(tmp_path):
    return tiny.write_targets(tmp_path / "m.ssn")


def test_info_lists_them(path):
    code, output = call(main, path, "--info")
    rows = [line.split() for line in output.splitlines() if line.startswith("graph ")]
    assert code == 0 and [(row[1], row[2], row[-1]) for row in rows] == [
        ("float16", "full", "rtx"), ("float32", "row-first", "orin"),
    ]


def test_info_checks_that_they_are_of_the_same_training(tmp_path):
    path = tiny.write_bundle(tmp_path / "m.ssn")
    tiny.add(path, tiny.target_graph(checkpoint_sha256="b" * 64))
    for option in (("--info",), ("--unpack", tmp_path / "files")):
        code, output = call(main, path, *option)
        assert code == 2 and "made from another training" in output.splitlines()[-1]
    assert not (tmp_path / "files").exists()


def test_out_and_back(path, tmp_path):
    code, output = call(main, path, "--unpack", tmp_path / "files")
    assert code == 0, output
    names = {"m.onnx", "m.fp16.onnx", "m.rtx.fp16.onnx", "m.orin.onnx", "m.reference.npz"}
    assert {one.name for one in (tmp_path / "files").iterdir()} == names
    assert read_info(tmp_path / "files" / "m.rtx.fp16.onnx").plan == "full"
    code, output = call(main, "--pack", tmp_path / "files" / "m.onnx", "--out", tmp_path / "again.ssn")
    assert code == 0 and f"took {tmp_path / 'files' / 'm.rtx.fp16.onnx'}" in output
    before, after = bundle.read(path), bundle.read(tmp_path / "again.ssn")
    assert {one.sha256: one for one in after.entries} == {one.sha256: one for one in before.entries}


def test_another_models_file_of_such_a_name_is_left_alone(path, tmp_path):
    """A model may be called m.rtx: its file says nothing of a target."""
    code, output = call(main, path, "--unpack", tmp_path / "files")
    tiny.write_model(tmp_path / "files" / "m.rtx.fp16.onnx", tiny.info(precision="float16").to_json())
    code, output = call(main, "--pack", tmp_path / "files" / "m.onnx", "--out", tmp_path / "again.ssn")
    assert code == 0 and "m.rtx" not in output
    assert [one.target for one in bundle.read(tmp_path / "again.ssn").of_role("graph")] == ["orin"]


def test_one_of_another_training_is_refused(path, tmp_path):
    code, output = call(main, path, "--unpack", tmp_path / "files")
    other = tiny.info(precision="float16", plan_table={"target": "rtx"}, checkpoint_sha256="b" * 64)
    tiny.write_model(tmp_path / "files" / "m.rtx.fp16.onnx", other.to_json())
    code, output = call(main, "--pack", tmp_path / "files" / "m.onnx", "--out", tmp_path / "again.ssn")
    assert code == 2 and "m.rtx.fp16.onnx: made from another training" in output
    assert not (tmp_path / "again.ssn").exists()


def test_a_plain_file_is_the_graph_for_any_machine(path, tmp_path):
    code, output = call(main, path, "--out", tmp_path / "one.onnx", "--precision", "float16")
    assert code == 0, output
    assert read_info(tmp_path / "one.onnx").plan == "none"
    onnx.checker.check_model(str(tmp_path / "one.onnx"))
