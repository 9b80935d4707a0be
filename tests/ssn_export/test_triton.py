"""The model repository, parsed with Triton's own protobuf definition."""

import dataclasses
import json

import pytest
import tiny
from click.testing import CliRunner

from ssn_edge.engine_file import EngineInfo, description_path
from ssn_edge.errors import InputError, ModelError
from ssn_export import triton
from ssn_export.cli import main


def parsed(text):
    pb = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    from google.protobuf import text_format

    return text_format.Parse(text, pb.ModelConfig()), pb


def engine(folder, **changes):
    path = folder / "line 3.engine"
    path.write_bytes(b"plan")
    core = EngineInfo(tiny.info(**changes), "m.onnx", "0" * 64, "10.3.0", "8.7", "Orin", batch=4)
    description = {"schema": 1, "engine": dataclasses.asdict(core)}
    description_path(path).write_text(json.dumps(description))
    return path


def test_onnx(tmp_path):
    model = tiny.write_model(tmp_path / "m.fp16.onnx", tiny.info(verdict_inside=True).to_json())
    result = CliRunner().invoke(main, [str(model), "--triton", str(tmp_path / "repo")])
    assert result.exit_code == 0, result.output
    place = tmp_path / "repo" / "m_fp16_onnx"
    assert (place / "1" / "model.onnx").read_bytes() == model.read_bytes()
    assert {str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()} == {
        "1/model.onnx", "labels.txt", "config.pbtxt"
    }
    config, pb = parsed((place / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == ("m_fp16_onnx", "onnxruntime", 16)
    (image,) = config.input
    assert (image.name, image.data_type, list(image.dims)) == ("image", pb.TYPE_UINT8, [32, 48, 3])
    outputs = {o.name: o for o in config.output}
    assert list(outputs) == ["anomaly_map", "score", "mask", "is_defect"]
    assert list(outputs["anomaly_map"].dims) == [32, 48]
    assert outputs["anomaly_map"].data_type == pb.TYPE_FP32
    for name in ("score", "is_defect"):  # [N] in the model: one value behind the batch
        assert list(outputs[name].dims) == [1] and list(outputs[name].reshape.shape) == []
        assert outputs[name].HasField("reshape")
    assert outputs["score"].label_filename == "labels.txt"
    assert outputs["mask"].data_type == outputs["is_defect"].data_type == pb.TYPE_UINT8
    assert list(config.dynamic_batching.preferred_batch_size) == [16]
    assert [w.batch_size for w in config.model_warmup] == [1, 16]
    assert list(config.model_warmup[0].inputs["image"].dims) == [32, 48, 3]
    assert config.model_warmup[0].inputs["image"].zero_data
    assert config.parameters["image_threshold"].string_value == "0.5"


def test_engine(tmp_path):
    model = engine(tmp_path, frame=(90, 150))
    assert triton.write([model], tmp_path / "repo", lambda _: None)
    place = tmp_path / "repo" / "line_3_tensorrt"
    assert (place / "1" / "model.plan").read_bytes() == b"plan"
    config, pb = parsed((place / "config.pbtxt").read_text())
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 4)
    assert list(config.input[0].dims) == [90, 150, 3]
    assert list(config.output[0].dims) == [32, 48]
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU


def test_wrong_input(tmp_path):
    (tmp_path / "file").write_text("no model")
    model = tiny.write_model(tmp_path / "m.onnx")
    with pytest.raises(InputError, match="is a file"):
        triton.write([model], tmp_path / "file")
    with pytest.raises(InputError, match="Triton takes .onnx or .engine"):
        triton.write([tmp_path / "m.xml"], tmp_path / "repo")
    bare = tmp_path / "bare.engine"
    bare.write_bytes(b"")
    with pytest.raises(InputError, match="no bare.json beside it"):
        triton.write([bare], tmp_path / "repo")
    with pytest.raises(ModelError, match="not an ONNX file"):
        triton.write([(tmp_path / "file").rename(tmp_path / "x.onnx")], tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--plan", "none"], "--plan: for a run folder"),
        ([], "give --engine FILE to build, or --triton DIR"),
        (["--device", "²"], "'²': give a GPU's number, as 0 or gpu:0"),
        (["--engine", "x.plan"], "a name that ends in .engine|tensorrt is not installed"),
        (["--engine", "x.engine"], "not built: tensorrt is not installed; run this on the device"),
    ],
)
def test_options_of_a_model_file(tmp_path, words, expected):
    model = tiny.write_model(tmp_path / "m.onnx")
    result = CliRunner().invoke(main, [str(model), *words])
    assert result.exit_code == 2 and any(e in result.output for e in expected.split("|")), result.output
