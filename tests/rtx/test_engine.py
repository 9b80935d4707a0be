"""Engines of TensorRT for RTX, really built, on a machine without a GPU: ssn-export from its command line."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

from ssn_edge import BackendError, Detector, InputError, backends
from ssn_edge.files import sha256
from ssn_edge.model import bundle
from ssn_edge.model.engine_file import HEAD_BYTES, EngineInfo, product_of
from ssn_export.cli import main

without_gpu = pytest.mark.skipif(
    backends.engine_problem("rtx") is None, reason="there is a GPU here: engines are run too"
)


def export(*arguments):
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def path(tmp_path):
    return tiny.write_bundle(tmp_path / "m.ssn", float32_nodes=())


def engines(path):
    return bundle.read(path).of_role("engine")


@without_gpu
def test_is_built_added_and_described(path):
    code, output = export(path, "--engine", "rtx", "--sm", "86,8.9", "--batch", "4")
    assert code == 0 and "built, not run (" in output and "compared with the trained model at each" in output
    (entry,) = engines(path)
    built = entry.engine
    assert (built.product, built.compute_capabilities, built.batch) == ("rtx", ("8.6", "8.9"), 4)
    assert built.tensorrt == backends.engine_library("rtx").version() and built.device == ""
    assert built.unverified and not entry.verified and entry.precision == "float16"
    (half,) = bundle.read(path).of_role("half")
    assert built.onnx_sha256 == half.sha256
    assert entry.measured["warnings"] == [] and entry.measured["layers"]["kernels"] > 0
    plan = (path / entry.name).read_bytes()
    assert product_of(plan[:HEAD_BYTES]) == "rtx" and sha256(path / entry.name) == entry.sha256
    head = plan[:HEAD_BYTES].decode("latin-1")
    said, _ = json.JSONDecoder().raw_decode(head, head.index('{"batch"'))
    assert EngineInfo.from_document(said, "plan") == built, "what is in the plan, by its bytes"
    code, output = export(path, "--info")
    assert code == 0 and "TensorRT for RTX" in output and "for compute capability 8.6, 8.9" in output
    assert "1 to 4 images, compared with the trained model where it is opened" in output
    with Detector.open(path) as detector:  # the graph, since there is no card
        assert detector.library == "onnxruntime" and "; not TensorRT for RTX: " in detector.choice


@without_gpu
def test_the_same_bytes_twice_and_one_engine_for_each_use(path):
    assert export(path, "--engine", "rtx")[0] == 0
    (first,) = engines(path)
    assert first.engine.compute_capabilities[:4] == ("8.0", "8.6", "8.9", "12.0")
    code, output = export(path, "--engine", "rtx")
    assert code == 0 and [one.sha256 for one in engines(path)] == [first.sha256]
    assert export(path, "--engine", "rtx", "--precision", "float32")[0] == 0
    assert export(path, "--engine", "rtx", "--sm", "75")[0] == 0
    found = {(one.precision, one.engine.compute_capability) for one in engines(path)}
    assert found == {("float16", "8.0"), ("float32", "8.0"), ("float16", "7.5")}


@without_gpu
def test_a_plain_engine_is_opened_by_whose_it_is(path, tmp_path):
    out = tmp_path / "m.engine"
    code, output = export(path, "--engine", "rtx", "--engine-out", out, "--sm", "86")
    assert code == 0 and out.is_file() and "sha256" in output
    assert not engines(path), "the bundle stays as it is"
    with pytest.raises(BackendError, match="looking for a GPU|nothing here calls CUDA"):
        Detector.open(out)
    (tmp_path / "cut.engine").write_bytes(out.read_bytes()[:100])
    with pytest.raises(BackendError, match="looking for a GPU|nothing here calls CUDA"):
        Detector.open(tmp_path / "cut.engine")  # RTX's all the same
    with pytest.raises(InputError, match="runs on rtx alone; give --backend auto"):
        Detector.open(out, "tensorrt")


@pytest.mark.parametrize("arguments, said", [
    (["--version-compatible"], "--version-compatible: not for TensorRT for RTX: it has no runtime"),
    (["--hardware-compatible"], "--hardware-compatible: not for TensorRT for RTX: its engines run on every"),
    (["--timing-cache", "t.bin"], "--timing-cache: not for TensorRT for RTX: it times nothing"),
    (["--sm", "75,86"], "--sm: an engine for Turing (75) is one of its own"),
    (["--sm", "99"], "compute capability 9.9: TensorRT for RTX"),
    (["--sm", "ampere"], "'ampere': give compute capabilities, as 86,89,120"),
    (["--batch", "17"], "17 is not in the range"),
])
def test_what_is_refused_leaves_the_bundle(path, arguments, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = {one.name: one.read_bytes() for one in path.iterdir()}
    code, output = export(path, "--engine", "rtx", *arguments)
    assert code == 2 and said in output and "Traceback" not in output, output
    after = {one.name: one.read_bytes() for one in path.iterdir() if one.name != bundle.CHECKED}
    assert after == {name: data for name, data in before.items() if name != bundle.CHECKED}
    assert not (tmp_path / "t.bin").exists()


def test_a_full_disk_is_one_line(path):
    """By a limit on the size of files, which the plan is beyond."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from ssn_export.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        f"main([{str(path)!r}, '--engine', 'rtx', '--sm', '86'])"
    )
    names = sorted(one.name for one in path.iterdir())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "not written (File too large); the bundle is as it was" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(one.name for one in path.iterdir() if one.name != bundle.CHECKED) == names


@without_gpu
def test_cut_and_altered_engines_are_named(path, tmp_path):
    assert export(path, "--engine", "rtx", "--sm", "86")[0] == 0
    (entry,) = engines(path)
    plan = (path / entry.name).read_bytes()
    (path / entry.name).write_bytes(plan[:-1])
    code, output = export(path, "--info")
    assert code == 2 and f"{entry.name}: {len(plan) - 1} bytes, not the {len(plan)}" in output
    altered = bytearray(plan)
    altered[-1] ^= 1
    (path / entry.name).write_bytes(bytes(altered))
    code, output = export(path, "--info")
    assert code == 2 and f"{entry.name}: its sha256 is" in output


def test_layers_of_a_bundle_and_of_a_file(path, tmp_path):
    code, output = export(path, "--layers", "--precision", "float16", "--sm", "86,89")
    assert code == 0 and output.count("kernels in order:") == 2
    assert "compute capability 8.6:" in output and "compute capability 8.9:" in output
    assert "RTX-A2000" in output and "L2 kept" in output
    (half,) = bundle.read(path).of_role("half")
    shutil.copy(path / half.name, tmp_path / "h.onnx")
    code, output = export(tmp_path / "h.onnx", "--layers")
    assert code == 0 and "h.onnx, TensorRT for RTX" in output


def test_the_bench_profiles_what_the_compiler_made(path):
    from ssn_bench.measure import contenders
    from ssn_bench.profile import layer_times

    (one,) = contenders.parse([str(path)], ["onnxruntime"])
    document = layer_times.bench([one], None, True, [], lambda line: None)
    (made,) = document["compiled"].values()
    assert made["kernels"] > 0 and made["batch"] == 1
    text = layer_times.document_text(document)
    assert any("kernels" in line and "MB" in line for line in text.splitlines())


def test_an_export_is_judged_before_anything_is_written(tmp_path, monkeypatch):
    """A run folder; then the same with a graph that NVIDIA's compiler refuses."""
    from run_folder import write_run

    from ssn_export.graph import export_run, tracing
    from ssn_train.network.design import Design

    run = write_run(tmp_path / "run", "resnet18", Design(seg_width=16, cls_width=4, cls_kernel=3))
    code, output = export(run, "--out", tmp_path / "m.ssn", "--plan", "full")
    assert code == 0 and "float32: TensorRT for RTX" in output and "no warnings" in output, output
    (entry,) = bundle.read(tmp_path / "m.ssn").of_role("float32")
    from ssn_edge.model.onnx_metadata import read_info

    said = read_info(tmp_path / "m.ssn" / entry.name).plan_table["compiled"]
    assert said["compiler"].startswith("TensorRT for RTX") and said["warnings"] == []
    trace = tracing.trace

    def broken(*arguments):
        model = trace(*arguments)
        node = next(node for node in model.graph.node if node.op_type == "Conv")
        del node.attribute[:]  # another stride than the shapes behind it say
        return model

    monkeypatch.setattr(tracing, "trace", broken)
    monkeypatch.setattr(export_run.lint, "check", lambda model: None)
    monkeypatch.setattr(export_run.lint, "check_valid", lambda model: None)
    code, output = export(run, "--out", tmp_path / "n.ssn", "--plan", "full")
    line = output.splitlines()[-1]
    assert code == 2 and "TensorRT for RTX" in line and line.endswith("nothing was written"), output
    assert not (tmp_path / "n.ssn").exists()
    assert np.array_equal(sorted(p.name for p in tmp_path.iterdir()), ["m.ssn", "run"])
