"""The builder on every release: what is written, what is refused, what a failure leaves behind."""

import shutil
import signal

import fakegpu
import numpy as np
import pytest
import tensorrt as trt
import tiny
from simulated_device import build, export, images_of, make_integrated

from ssn_edge import Detector
from ssn_edge.backends import tensorrt_backend
from ssn_edge.files import sha256
from ssn_edge.model import bundle
from ssn_edge.model.onnx_metadata import read_info
from ssn_edge.verdict import parity as limits
from ssn_export.gates import parity
from ssn_export.tensorrt import builder


def test_engine_describes_itself(real, typed):
    assert "engine against the trained model" in real.output
    assert "engine against ONNX Runtime" in real.output and "kernels in order:" in real.output
    session = tensorrt_backend.open_session(real.engine, 1)
    try:
        info = session.info
    finally:
        session.close()
    assert info == real.entry.engine and info.model.precision == real.entry.precision == "float16"
    assert info.onnx_sha256 == sha256(real.source) and info.source == real.source.name
    assert (info.tensorrt, info.compute_capability, info.batch) == (trt.__version__, "8.6", 2)
    assert info.fp16_flag is not typed and not info.unverified
    assert real.entry.sha256 == sha256(real.engine) and real.entry.verified
    assert real.entry.measured["parity"]["trained model"]["map_rms"] < 3e-3
    assert info.model.plan == real.entry.plan == "full"


def test_a_plain_engine_of_a_bundle(real, tmp_path):
    """The same plan, but for its name's: nothing of the bundle changes."""
    before = (real.bundle / "manifest.json").read_bytes()
    code, output = export(real.bundle, "--engine-out", tmp_path / "plain.engine")
    assert code == 0 and "engine against the trained model" in output
    session = tensorrt_backend.open_session(tmp_path / "plain.engine", 1)
    assert session.info.model == real.entry.engine.model
    session.close()
    assert (real.bundle / "manifest.json").read_bytes() == before


def test_release_and_file_must_go_together(tiny_onnx, tmp_path, typed):
    half = tiny.write_model(tmp_path / "h.onnx", tiny.info(precision="float16").to_json())
    if typed:
        code, output = build(tiny_onnx, tmp_path / "e.engine", "--fp16")
        assert code == 2 and "give the half graph" in output
    else:
        code, output = export(half, "--engine-out", tmp_path / "e.engine", "--unverified")
        assert code == 2 and "give the float32 file, with --fp16" in output
    assert not list(tmp_path.glob("*.engine"))


def test_exported_without_fp16(tmp_path, typed):
    path = tiny.write_model(tmp_path / "m.onnx")
    code, output = export(path, "--engine-out", tmp_path / "m.engine", "--fp16", "--unverified")
    assert code == 2 and ("the half graph" if typed else "export again with --fp16") in output
    single = tiny.write_bundle(tmp_path / "m.ssn", roles=("float32", "reference"))
    code, output = export(single, "--engine", "--precision", "float16")
    assert code == 2 and "no float16 graph in it; export it again with --fp16" in output
    assert export(single, "--engine")[0] == 0  # in float32


def test_weak_typing_keeps_layers_in_float32(exported, tmp_path, typed, monkeypatch):
    if typed:
        pytest.skip("precisions are the file's")
    kept = []
    layer_type = trt.ILayer
    original = layer_type.set_output_type
    monkeypatch.setattr(layer_type, "set_output_type",
                        lambda self, i, dtype: (kept.append(self.name), original(self, i, dtype)))
    path = shutil.copytree(exported, tmp_path / "model.ssn")
    code, output = export(path, "--engine")
    assert code == 0, output
    found = bundle.read(path)
    wanted = set(read_info(found.place(found.of_role("float32")[0])).float32_nodes)
    assert set(kept) <= wanted and "have no layer of their name" not in output


def test_a_bundle_gets_one_engine_for_each_use(tiny_bundle, typed):
    """Built again it takes the old one's place; another batch or precision is another."""
    assert export(tiny_bundle, "--engine")[0] == 0
    (first,) = bundle.read(tiny_bundle).of_role("engine")
    assert first.precision == "float16" and first.engine.batch == 1 and first.verified
    code, output = export(tiny_bundle, "--engine", "--workspace", "64")
    assert code == 0 and len(bundle.read(tiny_bundle).of_role("engine")) == 1
    assert export(tiny_bundle, "--engine", "--batch", "4")[0] == 0
    assert export(tiny_bundle, "--engine", "--precision", "float32")[0] == 0
    found = bundle.read(tiny_bundle).of_role("engine")
    assert sorted((one.precision, one.engine.batch) for one in found) == [
        ("float16", 1), ("float16", 4), ("float32", 1)
    ]
    code, output = export(tiny_bundle, "--info")
    assert code == 0 and f"tensorrt {trt.__version__} runs engine-" in output
    assert "the best of 3 that fit this GPU, of 3 engines" in output and "1 to 4 images" in output
    code, output = export(tiny_bundle, "--layers")
    assert code == 0 and "MiB of activations" in output


def test_an_engine_that_is_refused_leaves_the_bundle(tiny_bundle, monkeypatch):
    before = state(tiny_bundle)
    monkeypatch.setattr(limits, "FLOAT_LIMITS", {"map_rms": -1.0})
    monkeypatch.setattr(limits, "HALF_LIMITS", {"map_rms": -1.0})
    code, output = export(tiny_bundle, "--engine")
    assert code == 2 and "engine refused: map_rms" in output and output.endswith("it was not kept\n")
    assert state(tiny_bundle) == before


def state(path):
    """All but the note of what was checked."""
    return {one.name: one.read_bytes() for one in path.iterdir() if one.name != bundle.CHECKED}


def test_no_frames_no_engine_unless_asked_for(tmp_path, tiny_onnx):
    """And then it says so of itself, and is taken only by name."""
    path = tiny.write_bundle(tmp_path / "n.ssn", roles=["float32"])
    code, output = export(path, "--engine")
    assert code == 2 and "no reference images to compare an engine with" in output
    code, output = export(path, "--engine", "--unverified")
    assert code == 0 and "not compared with the trained model, as asked for" in output, output
    (entry,) = bundle.read(path).of_role("engine")
    assert entry.engine.unverified and not entry.verified
    with Detector.open(path) as detector:
        assert detector.backend_name.startswith("onnxruntime")
        assert f"{entry.name} was never compared with the trained model" in detector.choice
    with Detector.open(path, "tensorrt") as detector:
        assert detector.path.name == entry.name
    engine = tiny_onnx.with_suffix(".engine")
    for arguments in ((), ("--unverified", "--reference", "x.npz")):
        code, output = export(tiny_onnx, "--engine-out", engine, *arguments)
        assert code == 2 and "give --reference FILE" in output and not engine.exists()
    code, output = export(tiny_onnx, "--engine-out", engine, "--unverified")
    assert code == 0, output
    session = tensorrt_backend.open_session(engine, 1)
    assert session.info.unverified
    session.close()


def test_an_engine_need_not_be_run(tiny_bundle):
    """--unverified builds and compares nothing, although there are frames."""
    code, output = export(tiny_bundle, "--engine", "--unverified")
    assert code == 0 and "not compared with the trained model, as asked for" in output
    (entry,) = bundle.read(tiny_bundle).of_role("engine")
    assert entry.engine.unverified and not entry.verified
    assert export(tiny_bundle, "--engine")[0] == 0  # compared, in its place
    (entry,) = bundle.read(tiny_bundle).of_role("engine")
    assert entry.verified and not entry.engine.unverified


def test_reference_of_another_model_or_wrong_answers(tiny_onnx):
    engine, beside = tiny_onnx.with_suffix(".engine"), images_of(tiny_onnx)
    truth = parity.read_reference(beside)
    parity.write_reference(beside, parity.Reference(truth.images, truth.maps * 1.01, truth.scores))
    code, output = build(tiny_onnx, engine)
    assert code == 2 and "float32 engine refused: map_rms" in output and output.endswith("it was not kept\n")
    parity.write_reference(beside, parity.Reference(truth.images[:, 1:], truth.maps, truth.scores))
    code, output = build(tiny_onnx, engine)
    assert code == 2 and "images of another model" in output
    beside.write_bytes(b"no zip")
    code, output = build(tiny_onnx, engine)
    assert code == 2 and "not a reference file" in output
    assert {p.name for p in tiny_onnx.parent.iterdir()} == {"m.onnx", "m.reference.npz"}
    beside.unlink()
    code, output = build(tiny_onnx, engine)
    assert code == 2 and "m.reference.npz: not a reference file" in output and not engine.exists()


def test_timing_cache_is_read_extended_and_replaced(tiny_onnx, tmp_path):
    cache, engine = tmp_path / "cache" / "t.bin", tiny_onnx.with_suffix(".engine")
    arguments = (tiny_onnx, engine, "--timing-cache", cache)
    assert build(*arguments)[0] == 0
    first = cache.read_bytes()
    assert first and build(*arguments)[0] == 0 and cache.read_bytes() == first
    cache.write_bytes(b"rubbish")
    code, output = build(*arguments)
    assert code == 0 and "starting a new one" in output and cache.read_bytes() == first
    assert [p.name for p in cache.parent.iterdir()] == ["t.bin"]


def test_memory_budget(tiny_onnx, monkeypatch):
    asked = []
    original = trt.IBuilderConfig.set_memory_pool_limit
    monkeypatch.setattr(trt.IBuilderConfig, "set_memory_pool_limit",
                        lambda self, pool, n: (asked.append((pool, n)), original(self, pool, n)))
    engine = tiny_onnx.with_suffix(".engine")
    assert build(tiny_onnx, engine, "--workspace", "64")[0] == 0
    assert asked == [(trt.MemoryPoolType.WORKSPACE, 64 << 20)]
    asked.clear()
    make_integrated(monkeypatch)
    assert build(tiny_onnx, engine)[0] == 0
    free = 8192 << 20
    assert asked == [
        (trt.MemoryPoolType.WORKSPACE, min(free // 4, 1 << 30)),
        (trt.MemoryPoolType.TACTIC_DRAM, free // 2),
    ]


def test_options_of_later_releases(tiny_onnx):
    engine = tiny_onnx.with_suffix(".engine")
    code, output = build(tiny_onnx, engine, "--version-compatible", "--hardware-compatible")
    assert code == 0, output
    session = tensorrt_backend.open_session(engine, 1, host_code=True)
    assert session.info.version_compatible and session.info.hardware_compatible
    session.close()


@pytest.mark.parametrize(
    "call", ["createInferBuilder", "parse", "buildSerializedNetwork", "cuCtxPushCurrent",
             "cuMemGetInfo", "deserializeCudaEngine", "createInferRuntime", "cuMemHostAlloc"]
)
def test_failures_leave_nothing(tiny_onnx, call):
    engine, cache = tiny_onnx.with_suffix(".engine"), tiny_onnx.with_name("t.bin")
    fakegpu.set_fail(f"{call}:1+")
    code, output = build(tiny_onnx, engine, "--timing-cache", cache)
    fakegpu.set_fail("")
    assert code == 2 and output.splitlines()[-1].startswith("error: "), output
    assert ".m-" not in output, "the temporary file's name"
    names = {p.name for p in tiny_onnx.parent.iterdir()} - {"t.bin"}  # timings of a build that worked
    assert names == {"m.onnx", "m.reference.npz"}


def test_an_engine_that_cannot_be_opened_is_called_what_was_asked_for(tiny_onnx):
    """It lies under a temporary name while it is compared."""
    engine = tiny_onnx.with_suffix(".engine")
    fakegpu.set_fail("deserializeCudaEngine:1+")
    code, output = build(tiny_onnx, engine)
    fakegpu.set_fail("")
    line = output.splitlines()[-1]
    assert code == 2 and line.startswith(f"error: {engine}: TensorRT {trt.__version__} cannot load it")
    assert "build it again: ssn-export" in line and ".m-" not in output


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
        product = tensorrt_backend.PRODUCT
        assert builder.serialize(product, tiny_onnx, "x" * 4095, builder.BuildOptions(), said.append)
        with pytest.raises(ModelError, match=r"m.onnx: TensorRT .* \(4096 bytes; it takes 4095\); shorten"):
            builder.serialize(product, tiny_onnx, "x" * 4096, builder.BuildOptions(), said.append)


def test_places_that_cannot_be_written_are_found_before_building(tiny_onnx, tmp_path):
    (tmp_path / "file").write_text("")
    for engine, cache in (("file/m.engine", "t.bin"), ("m.engine", "file/t.bin"), ("m.engine", ".")):
        code, output = build(tiny_onnx, tmp_path / engine, "--timing-cache", tmp_path / cache)
        assert code == 2 and "building" not in output, output
        assert "cannot be written" in output or "is a folder" in output


def test_no_timing_cache_is_no_reason_to_stop(tiny_onnx):
    fakegpu.set_fail("createTimingCache:1+")
    engine, cache = tiny_onnx.with_suffix(".engine"), tiny_onnx.with_name("t.bin")
    code, output = build(tiny_onnx, engine, "--timing-cache", cache)
    assert code == 0 and "building without" in output and not cache.exists()


def test_out_of_memory_is_named(tiny_onnx):
    fakegpu.set_fail("trtAlloc:1+")
    code, output = build(tiny_onnx, tiny_onnx.with_suffix(".engine"))
    fakegpu.set_fail("")
    assert code == 2 and "memory" in output, output


def test_parser_names_the_node(tmp_path):
    import onnx

    path = tiny.write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node[1].domain, model.graph.node[1].name = "nobody.knows", "the_node"
    model.opset_import.append(onnx.helper.make_opsetid("nobody.knows", 1))
    onnx.save(model, path)
    code, output = export(path, "--engine-out", tmp_path / "m.engine", "--unverified")
    assert code == 2 and "does not take it" in output and "node " in output
    if hasattr(trt.ParserError, "node_name"):
        assert "the_node" in output


@pytest.mark.skipif(not hasattr(trt, "IProgressMonitor"), reason="no monitor in this release")
def test_ctrl_c_ends_the_build(tiny_onnx, monkeypatch):
    original = builder.Drawing.step

    def step(self, name, number):
        signal.raise_signal(signal.SIGINT)
        return original(self, name, number)

    monkeypatch.setattr(builder.Drawing, "step", step)
    before = signal.getsignal(signal.SIGINT)
    code, output = build(tiny_onnx, tiny_onnx.with_suffix(".engine"))
    assert code == 1 and "Aborted" in output and signal.getsignal(signal.SIGINT) is before
    assert not tiny_onnx.with_suffix(".engine").exists()


@pytest.mark.skipif(not hasattr(trt, "IProgressMonitor"), reason="no monitor in this release")
def test_progress_is_one_line(capsys):
    monitor = builder.monitor_of(tensorrt_backend.PRODUCT, builder.Drawing(True))
    monitor.phase_start("outer", None, 2)
    monitor.phase_start("inner", "outer", 5)
    assert monitor.step_complete("inner", 0) is True
    monitor.phase_finish("inner")
    monitor.phase_finish("outer")
    drawn = capsys.readouterr().err
    assert "outer 0/2 > inner 1/5" in drawn and "\n" not in drawn


def test_batches_of_the_profile(tiny_engine):
    images = np.random.default_rng(0).integers(0, 256, (2, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    from ssn_edge import InputError

    with Detector.open(tiny_engine, batch=2) as detector:
        maps, scores = detector.infer_batch(images)
    np.testing.assert_allclose(maps, images.astype(np.float64).mean(3), rtol=1e-6)
    np.testing.assert_allclose(scores, maps.max((1, 2)) / 255, rtol=1e-6)
    with pytest.raises(InputError, match="built for up to 2; build it again with --batch 3"):
        Detector.open(tiny_engine, batch=3)


def test_benchmark_of_an_engine(tiny_bundle):
    from ssn_bench.measure.protocol import PROTOCOLS
    from ssn_bench.measure.timing_run import TimingRequest, bench

    assert export(tiny_bundle, "--engine", "--batch", "2")[0] == 0
    document = bench(TimingRequest((str(tiny_bundle),), protocol=PROTOCOLS["supersimplenet"], budget_s=2.0))
    (entry,) = document["contenders"]
    assert entry["backend"].startswith("tensorrt") and "device_median_ms" in entry["latency"]
    assert (entry["latency"]["batch"], entry["throughput"]["batch"]) == (1, 2)
    assert any("batches of 2, not the protocol's 16" in note for note in document["notes"])
    assert entry["file"].startswith("m.ssn/engine-") and entry["macs"] is not None
    (engine,) = bundle.read(tiny_bundle).of_role("engine")
    assert entry["sha256"] == engine.sha256


def test_triton_repository_of_both(tiny_bundle, tmp_path):
    assert export(tiny_bundle, "--engine", "--batch", "2")[0] == 0
    code, output = export(tiny_bundle, "--triton", tmp_path / "repository")
    assert code == 0, output
    text = (tmp_path / "repository" / "m_tensorrt" / "config.pbtxt").read_text()
    assert "max_batch_size: 2" in text and "tensorrt_plan" in text
    assert (tmp_path / "repository" / "m_onnx" / "1" / "model.onnx").is_file()
