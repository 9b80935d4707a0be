"""Providers that need a package of their own, opened for real: ``make test-providers`` has environments with
OpenVINO's and with a plugin's; elsewhere each says what it needs."""

import importlib.util
import json
import os

import numpy as np
import pytest
import real_providers
import tiny
from commands import fails, ssn_run
from real_providers import threads_used

from ssn_edge import Detector, backends
from ssn_edge.errors import BackendError, InputError
from ssn_edge.frames.image_files import write_image

onnxruntime = pytest.importorskip("onnxruntime")

from ssn_edge.backends import providers  # noqa: E402

here = pytest.mark.parametrize("name", real_providers.HERE or [
    pytest.param("", marks=pytest.mark.skip(reason=real_providers.WHY))
])


def needs(name):
    return pytest.mark.skipif(
        name not in real_providers.HERE, reason=f"{name} is not here: make test-providers has it"
    )


@here
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_bundle_runs(tmp_path, name, precision, batch):
    """Its session is the provider's, and frames have the answers that the model has in closed form."""
    path = tiny.write_bundle(tmp_path / "m.ssn")
    with Detector.open(path, name, batch=batch, precision=precision) as detector:
        assert detector.backend_name == f"{name} {onnxruntime.__version__}" and detector.library == name
        assert "agrees with 3 reference frames, map error " in detector.choice
        used = detector._session._session.get_providers()
        assert providers.short_name(used[0]) == name.partition(":")[2]
        rng = np.random.default_rng(9)
        for _ in range(4):
            images = rng.integers(0, 256, (batch, 32, 48, 3), np.uint8)
            maps, scores = detector.infer_batch(images)
            assert maps == pytest.approx(images.mean(3), abs=1e-3)
            assert scores == pytest.approx(images.mean(3).max((1, 2)) / 255, abs=1e-5)
        frame = rng.integers(0, 256, (32, 48, 3), np.uint8)
        map_out, mask_out = np.empty((32, 48), np.float32), np.empty((32, 48), np.uint8)
        detector.infer_into(frame, map_out, mask_out)
        assert map_out == pytest.approx(frame.mean(2), abs=1e-3)


@here
def test_the_command_runs(tmp_path, name):
    path = tiny.write_bundle(tmp_path / "m.ssn")
    write_image(tmp_path / "a.png", tiny.reference(1).images[0])
    lines = tmp_path / "lines.jsonl"
    shouted = f"onnxruntime:{name.partition(':')[2].upper()}"
    result = ssn_run(path, tmp_path / "a.png", "--backend", shouted, "--json", lines)
    assert result.exit_code == 0, result.output
    assert f" on {name} {onnxruntime.__version__} (float32-" in result.output.splitlines()[0]
    assert json.loads(lines.read_text())["score"] == pytest.approx(tiny.reference(1).scores[0], abs=1e-6)


@here
def test_a_file_without_reference_frames(tmp_path, name):
    with Detector.open(tiny.write_model(tmp_path / "m.onnx"), name) as detector:
        assert "agrees with made-up frames on the CPU, not compared with the trained model" in detector.choice


@here
def test_what_agrees_with_another_model_is_not_used(tmp_path, name):
    """The reference frames' answers are of a model whose score is another."""
    from ssn_edge.model import bundle_writer
    from ssn_edge.model.bundle_writer import Content
    from ssn_export.gates.parity import write_reference

    contents = tiny.contents(roles=["float32"])
    contents.append(Content("reference", lambda place: write_reference(place, tiny.reference(full=256.0))))
    with bundle_writer.writing(tmp_path / "m.ssn", lambda line: None) as writer:
        writer.commit(tiny.info(), [writer.add(one) for one in contents])
    with pytest.raises(BackendError, match=f"{name} is not used: score 3.8e-03 off, limit 1e-04, against 3 "):
        Detector.open(tmp_path / "m.ssn", name)


@needs("onnxruntime:openvino")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one CPU has no second thread of OpenVINO's")
def test_openvino_is_told_threads(tmp_path):
    """It has others of its own; of those that compute there is one more."""
    model = tiny.write_model(tmp_path / "m.onnx")
    one, two = (threads_used(model, "onnxruntime:openvino", count) for count in (1, 2))
    assert two == one + 1


@needs("onnxruntime:openvino")
def test_openvino_reads_its_settings(tmp_path, monkeypatch):
    """One that it does not know is an error, so none of ours is passed over."""
    real = providers.Provider.options

    def misspelt(self, threads):
        return {**real(self, threads), "load_config": json.dumps({"CPU": {"INFERENCE_NUM_THREAD": "1"}})}

    monkeypatch.setattr(providers.Provider, "options", misspelt)
    with pytest.raises(BackendError, match=r"not run by onnxruntime:openvino \("):
        Detector.open(tiny.write_model(tmp_path / "m.onnx"), "onnxruntime:openvino")


@needs("onnxruntime:openvino")
def test_a_provider_that_is_built_in_is_listed(tmp_path):
    with pytest.raises(BackendError, match=f"{onnxruntime.__version__} here has openvino, cpu; "):
        backends.load("onnxruntime:cuda")


@needs("onnxruntime:ggml")
def test_a_plugin_takes_no_threads(tmp_path):
    with pytest.raises(InputError, match="threads 1: onnxruntime:ggml computes on a device of its own"):
        Detector.open(tiny.write_model(tmp_path / "m.onnx"), "onnxruntime:ggml", threads=1)


@needs("onnxruntime:ggml")
def test_a_plugin_that_leaves_the_graph_to_the_cpu_is_not_used(tmp_path):
    """It stands first among the session's providers all the same: that alone tells nothing."""
    import onnx
    from onnx import helper

    model = onnx.load(str(tiny.write_model(tmp_path / "m.onnx")))
    nodes = model.graph.node
    (divide,) = (node for node in nodes if node.op_type == "Div")
    divide.input[0] = "pooled"
    for node in (
        helper.make_node("ReduceMax", ["largest"], ["pooled"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("MaxPool", ["colours_first"], ["largest"], kernel_shape=[1, 1]),
        helper.make_node("Transpose", ["pixels"], ["colours_first"], perm=[0, 3, 1, 2]),
    ):
        nodes.insert(1, node)
    onnx.checker.check_model(model)
    onnx.save(model, str(tmp_path / "pool.onnx"))
    Detector.open(tmp_path / "pool.onnx", "onnxruntime").close()
    with pytest.raises(BackendError, match="not run by onnxruntime:ggml .* leaves a part to the CPU"):
        Detector.open(tmp_path / "pool.onnx", "onnxruntime:ggml")


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_ep_openvino") is None,
    reason="needs onnxruntime-ep-openvino: make test-providers has it",
)
def test_openvino_s_plugin_runs_or_says_that_it_has_no_device(tmp_path):
    """It offers the CPUs, GPUs and NPUs of one maker."""
    path = tiny.write_bundle(tmp_path / "m.ssn")
    write_image(tmp_path / "a.png", tiny.reference(1).images[0])
    try:
        Detector.open(path, "onnxruntime:openvino").close()
    except BackendError:
        line = fails(path, tmp_path / "a.png", "--backend", "onnxruntime:OpenVINO")
        assert line == "error: onnxruntime:openvino: the plugin onnxruntime_ep_openvino finds no device here"
        return
    assert ssn_run(path, tmp_path / "a.png", "--backend", "onnxruntime:OpenVINO").exit_code == 0
