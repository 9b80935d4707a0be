"""The model repository, parsed with Triton's own protobuf definition."""

import re

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

from ssn_edge.errors import InputError, ModelError
from ssn_edge.model.bundle import read
from ssn_edge.verdict import calibrating, calibration, in_bundle
from ssn_export.cli import main
from ssn_export.serving import triton


def parsed(text):
    pb = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    from google.protobuf import text_format

    return text_format.Parse(text, pb.ModelConfig()), pb


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


def test_bundle_with_an_engine(tmp_path):
    path = tiny.write_bundle(tmp_path / "line 3.ssn", [tiny.engine_info()], frame=(90, 150))
    result = CliRunner().invoke(main, [str(path), "--triton", str(tmp_path / "repo")])
    assert result.exit_code == 0, result.output
    (entry,) = read(path).of_role("float32")
    copied = tmp_path / "repo" / "line_3_onnx" / "1" / "model.onnx"
    assert copied.read_bytes() == (path / entry.name).read_bytes()
    place = tmp_path / "repo" / "line_3_tensorrt"
    assert (place / "1" / "model.plan").read_bytes() == b"plan 0"
    config, pb = parsed((place / "config.pbtxt").read_text())
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 4)
    assert list(config.input[0].dims) == [90, 150, 3]
    assert list(config.output[0].dims) == [32, 48]
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU


def test_bundle_with_several_engines(tmp_path):
    engines = [tiny.engine_info(), tiny.engine_info(batch=1)]
    served = triton.of_bundle(tiny.write_bundle(tmp_path / "m.ssn", engines), "float16")
    names = [f"m_tensorrt_{entry.sha256[:8]}" for entry in read(tmp_path / "m.ssn").of_role("engine")]
    assert [one.name for one in served] == ["m_onnx", *names] and [one.batch for one in served] == [16, 4, 1]
    assert served[0].info.precision == "float16"


def test_a_calibrations_thresholds_for_each_file(tmp_path):
    """Made on the float32 graph: promised of it, and not of the engine in half."""
    path = tiny.write_bundle(tmp_path / "m.ssn", [tiny.engine_info()])
    values = np.linspace(0, 0.5, 240)
    for name, scale in (("line", 1.0), ("later", 2.0)):
        found = calibrating.calibrate(values * scale, 255 * values, [""] * 240, "score", None)
        in_bundle.add(path, calibration.made_of(found, name), lambda line: None)
    for arguments, name in (((), "later"), (("--calibration", "line"), "line")):
        (one,) = in_bundle.read_all(read(path), name)
        result = CliRunner().invoke(main, [str(path), "--triton", str(tmp_path / name), *arguments])
        assert result.exit_code == 0 and f"calibration {name}: " in result.output, result.output
        promises = {"m_onnx": one.verdict.method,
                    "m_tensorrt": "no promise: calibrated on float32, this is float16; run ssn-calibrate"}
        for model, promised in promises.items():
            config, _ = parsed((tmp_path / name / model / "config.pbtxt").read_text())
            found = {key: value.string_value for key, value in config.parameters.items()}
            assert (found["calibration"], found["promise"]) == (name, promised)
            assert float(found["image_threshold"]) == one.verdict.image_threshold
            assert float(found["pixel_threshold"]) == one.verdict.pixel_threshold
    result = CliRunner().invoke(main, [str(path), "--triton", str(tmp_path / "x"), "--calibration", "other"])
    assert result.exit_code == 2 and "no calibration other, but training, line, later" in result.output
    assert not (tmp_path / "x").exists()


def test_wrong_input(tmp_path):
    (tmp_path / "file").write_text("no model")
    served = triton.of_file(tiny.write_model(tmp_path / "m.onnx"))
    with pytest.raises(InputError, match="is a file"):
        triton.write(served, tmp_path / "file")
    path = tiny.write_bundle(tmp_path / "m.ssn", [tiny.engine_info()])
    (entry,) = read(path).of_role("engine")
    (path / entry.name).write_bytes(b"plan 1")
    with pytest.raises(ModelError, match=f"{entry.name}: its sha256 is"):
        triton.of_bundle(path)
    with pytest.raises(ModelError, match="not an ONNX file"):
        triton.of_file((tmp_path / "file").rename(tmp_path / "x.onnx"))


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--plan", "none"], "--plan: for a run folder"),
        ([], "give --engine-out, --info, --layers, --triton, --pack"),
        (["--device", "²"], "'²': give a GPU's number, as 0 or gpu:0"),
        (["--engine", "x.engine"], "takes no file; --engine-out x.engine writes a plain engine"),
        (["--engine"], "--engine: not for an .onnx file, as .* is; --engine-out FILE builds a plain engine"),
        (["--unpack", "x"], "--unpack: not for an .onnx file"),
        (["--out", "x.ssn"], "--out: for a run folder, or with --pack"),
        (["--engine-out", "x.engine"], "x.engine: not built: TensorRT is not installed; run this on the"),
    ],
)
def test_options_of_a_model_file(tmp_path, arguments, expected):
    model = tiny.write_model(tmp_path / "m.onnx")
    result = CliRunner().invoke(main, [str(model), *arguments])
    assert result.exit_code == 2 and re.search(expected, result.output), result.output
