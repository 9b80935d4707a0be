"""The builder on every release: what is written, what is refused, what a failure leaves behind."""

import json
import shutil
import signal

import fakegpu
import numpy as np
import pytest
import tensorrt as trt
import tiny
from conftest import export

from ssn_edge.backends import tensorrt_backend
from ssn_edge.engine_file import EngineInfo
from ssn_edge.files import sha256
from ssn_export import parity, trt_build


def test_engine_describes_itself(real, typed):
    assert "engine against the trained model" in real.output
    assert "engine against ONNX Runtime" in real.output and "layers:" in real.output
    session = tensorrt_backend.open_session(real.engine, 1)
    try:
        info = session.info
    finally:
        session.close()
    assert info == EngineInfo.from_text(json.dumps(real.description["engine"]), "x")
    assert info.onnx_sha256 == sha256(real.source) and info.source == real.source.name
    assert (info.tensorrt, info.compute_capability, info.batch) == (trt.__version__, "8.6", 2)
    assert info.model.precision == "float16" and info.fp16_flag is not typed
    assert real.description["sha256"] == sha256(real.engine)
    assert real.description["parity"]["trained model"]["map_rms"] < 3e-3
    assert real.description["model"]["plan"] == "full" and info.model.plan == "full"


def test_release_and_file_must_go_together(exported, tmp_path, typed):
    if typed:
        code, output = export(exported / "model.onnx", "--engine", tmp_path / "e.engine", "--fp16")
        assert code == 2 and "give model.fp16.onnx" in output
    else:
        code, output = export(exported / "model.fp16.onnx", "--engine", tmp_path / "e.engine")
        assert code == 2 and "--fp16" in output and "model.onnx" in output
    assert not list(tmp_path.iterdir())


def test_exported_without_fp16(tmp_path, typed):
    path = tiny.write_model(tmp_path / "m.onnx")
    code, output = export(path, "--engine", tmp_path / "m.engine", "--fp16")
    assert code == 2 and ("m.fp16.onnx" if typed else "export again with --fp16") in output


def test_weak_typing_keeps_layers_in_float32(exported, tmp_path, typed, monkeypatch):
    if typed:
        pytest.skip("precisions are the file's")
    kept = []
    layer_type = trt.ILayer
    original = layer_type.set_output_type
    monkeypatch.setattr(layer_type, "set_output_type",
                        lambda self, i, dtype: (kept.append(self.name), original(self, i, dtype)))
    code, output = export(exported / "model.onnx", "--engine", tmp_path / "e.engine", "--fp16")
    assert code == 0, output
    wanted = set(trt_build_info(exported / "model.onnx").float32_nodes)
    assert set(kept) <= wanted and "have no layer of their name" not in output


def trt_build_info(path):
    from ssn_edge.onnx_metadata import read_info

    return read_info(path)


def test_reference_of_another_model_or_wrong_answers(tiny_onnx):
    engine, beside = tiny_onnx.with_suffix(".engine"), parity.reference_path(tiny_onnx)
    truth = parity.read_reference(beside)
    parity.write_reference(beside, parity.Reference(truth.images, truth.maps * 1.01, truth.scores))
    code, output = export(tiny_onnx, "--engine", engine)
    assert code == 2 and "float32 engine refused: map_rms" in output and output.endswith("it was not kept\n")
    parity.write_reference(beside, parity.Reference(truth.images[:, 1:], truth.maps, truth.scores))
    code, output = export(tiny_onnx, "--engine", engine)
    assert code == 2 and "frames of another model" in output
    beside.write_bytes(b"no zip")
    code, output = export(tiny_onnx, "--engine", engine)
    assert code == 2 and "not a reference file" in output
    assert {p.name for p in tiny_onnx.parent.iterdir()} == {"m.onnx", "m.reference.npz"}
    beside.unlink()
    code, output = export(tiny_onnx, "--engine", engine)
    assert code == 0 and "NOT VERIFIED" in output
    assert json.loads(engine.with_suffix(".json").read_text())["parity"] == {}


def test_timing_cache_is_read_extended_and_replaced(tiny_onnx, tmp_path):
    cache, engine = tmp_path / "cache" / "t.bin", tiny_onnx.with_suffix(".engine")
    words = (tiny_onnx, "--engine", engine, "--timing-cache", cache)
    assert export(*words)[0] == 0
    first = cache.read_bytes()
    assert first and export(*words)[0] == 0 and cache.read_bytes() == first
    cache.write_bytes(b"rubbish")
    code, output = export(*words)
    assert code == 0 and "starting a new one" in output and cache.read_bytes() == first
    assert [p.name for p in cache.parent.iterdir()] == ["t.bin"]


def test_memory_budget(tiny_onnx, monkeypatch):
    asked = []
    original = trt.IBuilderConfig.set_memory_pool_limit
    monkeypatch.setattr(trt.IBuilderConfig, "set_memory_pool_limit",
                        lambda self, pool, n: (asked.append((pool, n)), original(self, pool, n)))
    engine = tiny_onnx.with_suffix(".engine")
    assert export(tiny_onnx, "--engine", engine, "--workspace", "64")[0] == 0
    assert asked == [(trt.MemoryPoolType.WORKSPACE, 64 << 20)]
    asked.clear()
    make_integrated(monkeypatch)
    assert export(tiny_onnx, "--engine", engine)[0] == 0
    free = 8192 << 20
    assert asked == [
        (trt.MemoryPoolType.WORKSPACE, min(free // 4, 1 << 30)),
        (trt.MemoryPoolType.TACTIC_DRAM, free // 2),
    ]


def make_integrated(monkeypatch):
    from ssn_edge.backends import gpu

    monkeypatch.setattr(gpu.open_device(), "integrated", True)


def test_options_of_later_releases(tiny_onnx):
    engine = tiny_onnx.with_suffix(".engine")
    code, output = export(
        tiny_onnx, "--engine", engine, "--version-compatible", "--hardware-compatible"
    )
    assert code == 0, output
    core = json.loads(engine.with_suffix(".json").read_text())["engine"]
    assert core["version_compatible"] and core["hardware_compatible"]


@pytest.mark.parametrize(
    "call", ["createInferBuilder", "parse", "buildSerializedNetwork", "cuCtxPushCurrent",
             "cuMemGetInfo", "deserializeCudaEngine", "createInferRuntime", "cuMemHostAlloc"]
)
def test_failures_leave_nothing(tiny_onnx, call):
    engine, cache = tiny_onnx.with_suffix(".engine"), tiny_onnx.with_name("t.bin")
    fakegpu.set_fail(f"{call}:1+")
    code, output = export(tiny_onnx, "--engine", engine, "--timing-cache", cache)
    fakegpu.set_fail("")
    assert code == 2 and output.splitlines()[-1].startswith("error: "), output
    assert ".m-" not in output, "the temporary file's name"
    names = {p.name for p in tiny_onnx.parent.iterdir()} - {"t.bin"}  # timings of a build that worked
    assert names == {"m.onnx", "m.reference.npz"}


def test_an_engine_that_cannot_be_opened_is_called_what_was_asked_for(tiny_onnx, monkeypatch):
    """It lies under a temporary name while it is compared."""
    engine = tiny_onnx.with_suffix(".engine")
    fakegpu.set_fail("deserializeCudaEngine:1+")
    code, output = export(tiny_onnx, "--engine", engine)
    fakegpu.set_fail("")
    line = output.splitlines()[-1]
    assert code == 2 and line.startswith(f"error: {engine}: TensorRT {trt.__version__} cannot load it")
    assert line.endswith("build it again: ssn-export m.onnx --engine m.engine") and ".m-" not in output
    monkeypatch.setattr(EngineInfo, "check_host", damaged_json)
    code, output = export(tiny_onnx, "--engine", engine)
    assert code == 2 and f"error: {engine.with_suffix('.json')}: damaged" in output and ".m-" not in output


def damaged_json(info, name, *rest):
    from ssn_edge.engine_file import description_path
    from ssn_edge.errors import ModelError

    raise ModelError(f"{description_path(name)}: damaged")


def test_a_name_that_tensorrt_refuses_is_no_engine(tiny_onnx, monkeypatch):
    """As the library does with one of more than 4095 bytes: it logs an error and keeps the old name. The
    stand-in takes any, so the refusal is made here."""
    from ssn_edge.backends import gpu
    from ssn_edge.errors import ModelError

    real = trt.INetworkDefinition.name

    def set_name(network, text):
        if len(text.encode()) <= 4095:
            real.__set__(network, text)

    monkeypatch.setattr(trt.INetworkDefinition, "name", property(real.__get__, set_name))
    said = []
    with gpu.open_device().active("building"):
        assert trt_build.serialize(tiny_onnx, "x" * 4095, trt_build.Options(), said.append)
        with pytest.raises(ModelError, match=r"m.onnx: TensorRT .* \(4096 bytes; it takes 4095\); shorten"):
            trt_build.serialize(tiny_onnx, "x" * 4096, trt_build.Options(), said.append)


def test_places_that_cannot_be_written_are_found_before_building(tiny_onnx, tmp_path):
    (tmp_path / "file").write_text("")
    for engine, cache in (("file/m.engine", "t.bin"), ("m.engine", "file/t.bin"), ("m.engine", ".")):
        words = ("--engine", tmp_path / engine, "--timing-cache", tmp_path / cache)
        code, output = export(tiny_onnx, *words)
        assert code == 2 and "building" not in output, output
        assert "cannot be written" in output or "is a folder" in output


def test_no_timing_cache_is_no_reason_to_stop(tiny_onnx):
    fakegpu.set_fail("createTimingCache:1+")
    engine, cache = tiny_onnx.with_suffix(".engine"), tiny_onnx.with_name("t.bin")
    code, output = export(tiny_onnx, "--engine", engine, "--timing-cache", cache)
    assert code == 0 and "building without" in output and not cache.exists()


def test_out_of_memory_is_named(tiny_onnx):
    fakegpu.set_fail("trtAlloc:1+")
    code, output = export(tiny_onnx, "--engine", tiny_onnx.with_suffix(".engine"))
    fakegpu.set_fail("")
    assert code == 2 and "memory" in output, output


def test_parser_names_the_node(tmp_path):
    import onnx

    path = tiny.write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node[1].domain, model.graph.node[1].name = "nobody.knows", "the_node"
    model.opset_import.append(onnx.helper.make_opsetid("nobody.knows", 1))
    onnx.save(model, path)
    code, output = export(path, "--engine", tmp_path / "m.engine")
    assert code == 2 and "does not take it" in output and "node " in output
    if hasattr(trt.ParserError, "node_name"):
        assert "the_node" in output


@pytest.mark.skipif(not hasattr(trt, "IProgressMonitor"), reason="no monitor in this release")
def test_ctrl_c_ends_the_build(tiny_onnx, monkeypatch):
    original = trt_build.Progress.step_complete

    def step(self, name, number):
        signal.raise_signal(signal.SIGINT)
        return original(self, name, number)

    monkeypatch.setattr(trt_build.Progress, "step_complete", step)
    before = signal.getsignal(signal.SIGINT)
    code, output = export(tiny_onnx, "--engine", tiny_onnx.with_suffix(".engine"))
    assert code == 1 and "Aborted" in output and signal.getsignal(signal.SIGINT) is before
    assert not tiny_onnx.with_suffix(".engine").exists()


@pytest.mark.skipif(not hasattr(trt, "IProgressMonitor"), reason="no monitor in this release")
def test_progress_is_one_line(capsys):
    monitor = trt_build.Progress(True)
    monitor.phase_start("outer", None, 2)
    monitor.phase_start("inner", "outer", 5)
    assert monitor.step_complete("inner", 0) is True
    monitor.phase_finish("inner")
    monitor.phase_finish("outer")
    drawn = capsys.readouterr().err
    assert "outer 0/2 > inner 1/5" in drawn and "\n" not in drawn


def test_batches_of_the_profile(tiny_engine):
    images = np.random.default_rng(0).integers(0, 256, (2, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    from ssn_edge import Detector, InputError

    with Detector.open(tiny_engine, batch=2) as detector:
        maps, scores = detector.infer_batch(images)
    np.testing.assert_allclose(maps, images.astype(np.float64).mean(3), rtol=1e-6)
    np.testing.assert_allclose(scores, maps.max((1, 2)) / 255, rtol=1e-6)
    with pytest.raises(InputError, match="built for up to 2; build it again with --batch 3"):
        Detector.open(tiny_engine, batch=3)


def test_benchmark_of_an_engine(tiny_engine):
    from ssn_bench.protocol import PROTOCOLS
    from ssn_bench.run import Request, bench

    model = str(tiny_engine.with_suffix(".onnx"))
    document = bench(Request((model,), protocol=PROTOCOLS["supersimplenet"], budget_s=2.0))
    (entry,) = document["contenders"]
    assert entry["backend"].startswith("tensorrt") and "device_median_ms" in entry["latency"]
    assert (entry["latency"]["batch"], entry["throughput"]["batch"]) == (1, 2)
    assert any("batches of 2, not the protocol's 16" in note for note in document["notes"])


def test_one_engine_is_not_timed_under_two_names(tiny_engine):
    from ssn_bench import contenders
    from ssn_edge.errors import InputError

    model, half = tiny_engine.with_suffix(".onnx"), tiny_engine.with_name("m.fp16.onnx")
    shutil.copy(model, half)
    with pytest.raises(InputError, match="m.onnx and .*m.fp16.onnx: both run m.engine on tensorrt; give one"):
        contenders.parse([str(model), str(half)], ["auto"])
    assert len(contenders.parse([str(model), str(model)], ["auto"])) == 2
    assert len(contenders.parse([str(model), str(half)], ["onnxruntime"])) == 2


def test_triton_repository_of_both(tiny_engine, tmp_path):
    code, output = export(tiny_engine.with_suffix(".onnx"), "--triton", tmp_path / "repository")
    assert code == 0, output
    text = (tmp_path / "repository" / "m_tensorrt" / "config.pbtxt").read_text()
    assert "max_batch_size: 2" in text and "tensorrt_plan" in text
    assert (tmp_path / "repository" / "m_onnx" / "1" / "model.onnx").is_file()
