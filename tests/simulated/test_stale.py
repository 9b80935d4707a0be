"""An engine that outlives the training it was made from does not run in place of a newer model."""

import json

import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from conftest import export

from ssn_bench.cli import main as bench_main
from ssn_edge import Detector, ModelError
from ssn_edge.cli import main as run_main
from ssn_edge.engine_file import description_path
from ssn_edge.images import write_image

OLD, NEW = "a" * 64, "b" * 64
FRAME = np.full((64, 96, 3), 7, np.uint8)


def call(command, *words):
    result = CliRunner().invoke(command, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def stale(tmp_path, typed):
    """m.onnx of the second training beside m.engine of the first, which was built from a file that the
    second export did not write: the half file where precisions are the file's."""
    model = tiny.write_model(tmp_path / "m.onnx", tiny.info(checkpoint_sha256=OLD).to_json())
    precision = "float16" if typed else "float32"
    source = tmp_path / ("m.fp16.onnx" if typed else "first.onnx")
    tiny.write_model(source, tiny.info(checkpoint_sha256=OLD, precision=precision).to_json())
    code, output = export(source, "--engine", tmp_path / "m.engine")
    assert code == 0, output
    with Detector.open(model) as detector:  # the first training's file takes it
        assert detector.backend_name.startswith("tensorrt")
    return tiny.write_model(model, tiny.info(checkpoint_sha256=NEW).to_json())


def refused(model, backend="auto"):
    with pytest.raises(ModelError) as caught:
        Detector.open(model, backend)
    engine = model.with_suffix(".engine")
    assert str(caught.value) == (
        f"{engine}: made from another training than m.onnx (checkpoint {OLD[:12]}..., not {NEW[:12]}...); "
        f"build it again: ssn-export {model} --engine {engine}, or give --backend onnxruntime"
    )


@pytest.mark.parametrize("backend", ["auto", "tensorrt"])
def test_refused_by_its_description_and_by_itself(stale, backend):
    refused(stale, backend)
    path = description_path(stale.with_suffix(".engine"))
    document = json.loads(path.read_text())
    document["engine"]["model"]["checkpoint_sha256"] = NEW
    path.write_text(json.dumps(document))  # the name within wins
    refused(stale, backend)
    path.unlink()
    refused(stale, backend)


def test_the_ways_out(stale):
    with Detector.open(stale, "onnxruntime") as detector:
        assert detector.detect(FRAME).map_max == 7
    with Detector.open(stale.with_suffix(".engine")) as detector:  # given by name: what was asked for
        assert detector.info.checkpoint_sha256 == OLD
    code, output = export(stale, "--engine", stale.with_suffix(".engine"))
    assert code == 0, output
    with Detector.open(stale) as detector:
        assert detector.backend_name.startswith("tensorrt") and detector.info.checkpoint_sha256 == NEW


def test_commands_say_so_in_one_line(stale, tmp_path):
    write_image(tmp_path / "frame.png", FRAME)
    calls = ((run_main, [stale, tmp_path / "frame.png"]), (bench_main, [stale, "--budget", "1"]))
    for command, words in calls:
        code, output = call(command, *words)
        assert code == 2 and output.startswith("error: ") and len(output.splitlines()) == 1
        assert "made from another training" in output


def test_a_server_gets_neither(stale, tmp_path):
    code, output = export(stale, "--triton", tmp_path / "repository")
    assert code == 2 and "made from another training" in output
    assert not (tmp_path / "repository").exists()
