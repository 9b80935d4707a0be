"""What NVIDIA's compiler, TensorRT for RTX, makes of graphs, and our count of it. Building needs no GPU.

``SSN_RTX_GRAPHS`` adds ONNX files, separated as in ``PATH``; ``SSN_RTX_TOOL`` names a second counter, a
script that takes ``GRAPH --sm SM86 --json`` and prints one line of JSON (default: where the other tools are).
"""

import json
import os
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
onnx = pytest.importorskip("onnx", reason="graphs are made with onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from ssn_export.tensorrt import engine_layers, kernels  # noqa: E402
from ssn_export.work import macs  # noqa: E402

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "tools" / "rtx" / "kernels.py"
TOOL = Path(os.environ.get("SSN_RTX_TOOL", BESIDE))

GIVEN = [Path(name) for name in os.environ.get("SSN_RTX_GRAPHS", "").split(os.pathsep) if name]


class Log(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
        self.lines = []

    def log(self, severity, message):
        self.lines.append(message)


def build(data, batches=(1, 1), cards=("SM86",)):
    """The builder's list of kernels for the serialized graph, for batches from one to another."""
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    assert parser.parse(data), parser.get_error(0).desc()
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)
    config.num_compute_capabilities = len(cards)
    for index, card in enumerate(cards):
        config.set_compute_capability(getattr(trt.ComputeCapability, card), index)
    profile = builder.create_optimization_profile()
    image = network.get_input(0)
    shapes = [(batch, *tuple(image.shape)[1:]) for batch in (batches[0], batches[1], batches[1])]
    profile.set_shape(image.name, *shapes)
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None, log.lines[-1]
    (text,) = (line for line in log.lines if line.startswith("Layers:"))
    return text


def graph(kind, float_nodes=False):
    """Pixels, two convolutions, upscaling from the left, a join, a 3x3 convolution to the map, its maximum;
    with ``float_nodes`` the last convolution in float32."""
    rng = np.random.default_rng(0)
    dtype = np.float32 if kind == FLOAT else np.float16
    weights = {
        "mean": rng.random(3), "a": rng.random((16, 3, 3, 3)), "b": rng.random((32, 16, 1, 1)),
        "up": rng.random((32, 16)), "last": rng.random((1, 32, 3, 3)),
    }
    last = FLOAT if float_nodes else kind
    constants = [
        numpy_helper.from_array(w.astype(np.float32 if last == FLOAT and name == "last" else dtype), name)
        for name, w in weights.items()
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], "Cast_0", to=kind),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"], "Sub_1"),
        helper.make_node("Transpose", ["centred"], ["planes"], "Transpose_2", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "a"], ["c"], "backbone/Conv_3", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["features"], "backbone/Relu_4"),
        helper.make_node("Conv", ["features", "b"], ["hidden"], "heads/Conv_5"),
        helper.make_node("MatMul", ["up", "features"], ["scaled"], "heads.upscale/MatMul_6"),
        helper.make_node("MatMul", ["up", "hidden"], ["more"], "heads.upscale/MatMul_7"),
        helper.make_node("Split", ["more"], ["first", "second"], "heads/Split_8", axis=1),
        helper.make_node("Concat", ["scaled", "second"], ["joined"], "heads/Concat_9", axis=1),
        helper.make_node("Cast", ["joined"], ["typed"], "heads/Cast_10", to=last),
        helper.make_node("Conv", ["typed", "last"], ["map"], "heads/Conv_11", pads=[1] * 4),
        helper.make_node("Cast", ["map"], ["anomaly_map"], "Cast_map", to=FLOAT),
        helper.make_node("ReduceMax", ["anomaly_map"], ["score"], "ReduceMax_12", axes=[1, 2, 3], keepdims=0),
    ]
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes, "g", [value("image", TensorProto.UINT8, ["N", 32, 48, 3])],
        [value("anomaly_map", FLOAT, ["N", 1, 32, 24]), value("score", FLOAT, ["N"])], constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


MADE = {"float32": graph(FLOAT), "float16": graph(HALF), "mixed": graph(HALF, float_nodes=True)}


@pytest.fixture(params=[*MADE, *GIVEN], ids=str)
def path(request, tmp_path):
    """An ONNX file."""
    if isinstance(request.param, Path):
        return request.param
    onnx.save(MADE[request.param], tmp_path / "made.onnx")
    return tmp_path / "made.onnx"


def test_both_counters_agree(path):
    """Kernels, bytes, products and float32 kernels.

    The other takes a kernel's type from what it reads besides pixels, and so calls one float32 that reads
    pixels alone, whatever it computes in.
    """
    if not TOOL.is_file():
        pytest.skip(f"{TOOL} is absent; set SSN_RTX_TOOL to a second counter")
    arguments = [sys.executable, str(TOOL), str(path), "--sm", "SM86", "--json"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.strip().splitlines()[-1])
    report = kernels.report(build(path.read_bytes()), onnx.load(str(path)))
    of_pixels = [
        row for row in report.rows
        if row.kernel.precision != "float32" and all(read.type == "uint8" for read in row.kernel.inputs)
    ]
    ours = report.document()
    assert ours["kernels"] == theirs["kernels"]
    assert round(ours["megabytes"], 1) == theirs["MB"]
    assert round(sum(ours["gmacs"].values()), 2) == theirs["GMAC"]
    assert ours["types"].get("float32", 0) + len(of_pixels) == theirs["float32 kernels"]


def test_no_product_is_lost(path):
    model = onnx.load(str(path))
    for batch in 1, 3:
        report = kernels.report(build(path.read_bytes(), (batch, batch)), model, batch)
        assert sum(row.macs for row in report.rows) == batch * macs.total(model) and report.missing == 0


def test_a_range_of_batches_is_read_as_each_batch(path):
    """Where the compiler makes the same kernels for a range as for one batch, they write the same bytes."""
    model, data = onnx.load(str(path)), path.read_bytes()
    free = build(data, (1, 4))
    assert "[-1" in free
    for batch in 1, 4:
        fixed = {
            (kernel.nodes, kernel.fused, kernel.kind): kernel.written_bytes
            for kernel in engine_layers.read(build(data, (batch, batch)), batch) if kernel.nodes
        }
        ranged = {
            (kernel.nodes, kernel.fused, kernel.kind): kernel.written_bytes
            for kernel in engine_layers.read(free, batch) if kernel.nodes
        }
        alike = set(fixed) & set(ranged)
        assert len(alike) > len(fixed) / 3
        assert {key: ranged[key] for key in alike} == {key: fixed[key] for key in alike}
        shapes = macs.shapes(model, batch)
        for kernel in engine_layers.read(free, batch):  # tensors that keep the graph's names
            for tensor in kernel.outputs:
                if tensor.name in shapes:
                    assert prod(tensor.dims) == prod(shapes[tensor.name]), tensor


def test_several_cards_have_one_list():
    data = MADE["float16"].SerializeToString()
    several, one = (engine_layers.read(build(data, cards=c)) for c in (("SM86", "SM89", "SM120"), ("SM86",)))
    assert [(kernel.kind, kernel.nodes) for kernel in several] == [(k.kind, k.nodes) for k in one]


def test_a_join_is_a_copy_and_a_kept_node_is_no_fallback():
    text, model = build(MADE["mixed"].SerializeToString()), MADE["mixed"]
    (fallen,) = kernels.report(text, model).fallbacks
    assert "heads/Conv_11" in fallen.kernel.nodes
    assert not kernels.report(text, model, 1, ["heads/Conv_11"]).fallbacks
    report = kernels.report(build(MADE["float16"].SerializeToString()), MADE["float16"])
    assert any("heads/Concat_9" in row.kernel.nodes for row in report.copies)
    assert not any(row.macs for row in report.copies) and not report.fallbacks
