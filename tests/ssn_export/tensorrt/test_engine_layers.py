"""What the compiler made, as the inspector of TensorRT 8 to 11 and the builder's log state it."""

import json

import pytest
from layer_text import builder_log, line

from ssn_export.tensorrt import engine_layers
from ssn_export.tensorrt.engine_layers import Tensor

SEPARATOR = "\x1f"


def entry(name, outputs, kind="CaskConvolution", inputs=None, key="Format/Datatype", metadata=""):
    """Inputs of the outputs' type, if none are given."""
    inputs = inputs or {"x": next(iter(outputs.values()))}
    return {
        "Name": name, "LayerType": kind, "Metadata": metadata,
        "Inputs": [{"Name": n, key: text} for n, text in inputs.items()],
        "Outputs": [{"Name": n, key: text} for n, text in outputs.items()],
    }


def read(*entries):
    return engine_layers.read(json.dumps({"Layers": entries, "Bindings": []}))


def test_precision_in_words_and_sentences():
    found = read(
        entry("backbone/Conv_3 + backbone/Clip_4", {"y": "Row major linear FP16 format"}),
        entry("heads/MatMul_20", {"y": "Half"}),
        entry("heads/MatMul_21", {"y": "Float"}),
        entry("heads.score/MatMul_46", {"y": "Channel major FP32 format"}, key="Format"),
        entry("Cast_0", {"y": "UInt8"}, key="DataType"),
        entry("Sigmoid_59", {"y": "BFloat16"}, key="DataType"),
        entry("q", {"y": "Thirty-two wide channel vectorized row major Int8 format."}),
    )
    assert [layer.precision for layer in found] == [
        "float16", "float16", "float32", "float32", "uint8", "bfloat16", "int8"
    ]
    assert [layer.stage for layer in found] == [
        "backbone", "heads", "heads", "heads.score", "border", "border", "border"
    ]


def test_fused_layers_name_their_nodes_in_the_metadata():
    nodes = SEPARATOR.join(f"[ONNX Layer: {n}]" for n in ("heads/MatMul_20", "heads/Add_21", "Cast_y_half"))
    (layer,) = read(entry("__myl_MatMulAdd_0x1", {"y": "Half"}, "kgen", metadata=nodes))
    assert layer.nodes == ("heads/MatMul_20", "heads/Add_21", "Cast_y_half") and layer.stage == "heads"


def test_what_computes_nothing_is_a_copy():
    first, copy = (
        f"Reformatting CopyNode for Input Tensor 0 to {name}" for name in ("Cast_0", "heads/MatMul_20")
    )
    found = read(
        entry("heads/MatMul_20", {"y": "Float"}),
        entry("heads/MatMul_21", {"y": "Float"}),
        entry("backbone/Conv_5", {"y": "Float"}),
        entry(first, {"r": "Half"}, "Reformat", {"image": "UInt8"}),
        entry(copy, {"r": "Half"}, "Reformat"),
        entry("__myl_Conc_myl0_70", {"r": "Half"}, "runtime_function"),
        entry("__myl_AddTran_myl0_71", {"r": "Half"}, "kgen"),
        entry("Reformat to output", {"anomaly_map": "Float"}, "Reformat"),
    )
    assert [layer.name for layer in found if layer.is_copy] == [
        first, copy, "__myl_Conc_myl0_70", "Reformat to output"
    ]


def test_names_only():
    (layer,) = engine_layers.read(json.dumps({"Layers": ["heads/MatMul_20"]}))
    assert (layer.stage, layer.precision, layer.kind) == ("heads", "unknown", "?")
    assert engine_layers.read("{}") == engine_layers.read("") == []


def test_bytes_of_a_kernel_are_those_of_its_tensors():
    """1x8x4x6 of 2 bytes in, weights 16x8x3x3 of 2 bytes and a scalar of 4, 1x16x4x6 of 4 bytes out."""
    (kernel,) = engine_layers.read(builder_log(line(
        "backbone/Conv_3_myl0_1", "correlation", [("x", (1, 8, 4, 6), "Half")],
        [("w", (16, 8, 3, 3), "Half"), ("one", (1,), "Float")], [("y", (1, 16, 4, 6), "Float")],
        ["backbone/Conv_3", "backbone/Relu_4"],
    )))
    assert kernel.inputs == (Tensor("x", (1, 8, 4, 6), "float16"),)
    assert kernel.read_bytes == 2 * 8 * 24 + 2 * 16 * 8 * 9 + 4
    assert kernel.written_bytes == 4 * 16 * 24
    assert kernel.bytes == kernel.read_bytes + kernel.written_bytes
    assert kernel.precision == "float16"  # its weights'
    assert kernel.nodes == ("backbone/Conv_3", "backbone/Relu_4") and kernel.kind == "correlation"


def test_both_texts_give_the_same_kernel():
    tensors = [("x", (2, 3), "Half")], [("w", (3, 5), "Float")], [("y", (2, 5), "Int32")]
    parts = ("Inputs", "Constants", "Outputs")
    inspected = {"Name": "k", "LayerType": "gemm", "Metadata": "[ONNX Layer: heads/MatMul_1]", **{
        part: [{"Name": n, "Dimensions": list(d), "Format/Datatype": t} for n, d, t in one]
        for part, one in zip(parts, tensors)
    }}
    (logged,) = engine_layers.read(builder_log(line("k", "gemm", *tensors, ["heads/MatMul_1"])))
    assert read(inspected) == [logged]


def test_the_log_of_tensorrt_counts_weights():
    """TensorRT's own builder states places and counts of weights, where that for RTX lists constants."""
    text = (
        "Layers:\n"
        "Name: heads/Conv_7 + heads/Relu_8, LayerType: CaskConvolution, "
        "Inputs: [ { Name: a, Location: Device, Dimensions: [1,4,8,8], Format/Datatype: Half }, "
        "{ Name: b, Location: Device, Dimensions: [1,2,8,8], "
        "Format/Datatype: Half }], Outputs: [ { Name: c, Location: Device, Dimensions: [1,2,8,8], "
        "Format/Datatype: Half }], ParameterType: Convolution, Kernel: [1,1], Weights: {\"Type\": \"Half\", "
        "\"Count\": 8}, Bias: {\"Type\": \"Float\", \"Count\": 2}, TacticName: t, StreamId: 0, Metadata: "
    )
    (kernel,) = engine_layers.read(text)
    assert [tensor.name for tensor in kernel.inputs] == ["a", "b"]
    assert kernel.bytes == 2 * 64 * (4 + 2 + 2) + 2 * 8 + 4 * 2
    assert kernel.nodes == ("heads/Conv_7", "heads/Relu_8") and kernel.precision == "float16"


def test_what_starts_no_kernel_is_left_out():
    names = [kernel.name for kernel in engine_layers.read(builder_log(
        line("s", "signal"), line("w", "wait"), line("shapes", "shape_call"), line("k", "kgen"),
    ))]
    assert names == ["k"]


@pytest.mark.parametrize("name, kind, copies", [
    ("__myl_Conc_myl0_7", "runtime_function", True),
    ("__myl_MoveSlicSlicConc_myl0_7", "kgen", True),
    ("__myl_CastTranCast_myl12_7", "kgen", True),
    ("__myl_Repl_myl0_7", "kgen", True),
    ("__myl_CastAddTranConc_myl0_7", "kgen", False),
    ("__myl_CastMean_myl0_7", "kgen", False),
    ("__myl_FcCast_myl0_7", "runtime_fusion", False),
    ("heads/Conv_7_myl0_7", "correlation", False),
    ("backbone/MaxPool_5_myl0_6", "maxpool", False),
    ("Reformatting CopyNode for Input Tensor 0 to heads/Conv_7", "Reformat", True),
])
def test_a_copy_computes_nothing(name, kind, copies):
    (kernel,) = engine_layers.read(builder_log(line(name, kind)))
    assert kernel.is_copy is copies


def test_precision_without_weights_is_that_of_what_is_read():
    found = engine_layers.read(builder_log(
        line("a", "kgen", [("image", (4, 3), "UInt8")], [("mean", (1, 3), "Half")], [("x", (3, 4), "Half")]),
        line("b", "kgen", [("x", (4, 4), "Half")], [("scale", (1,), "Float")], [("y", (4, 4), "Float")]),
        line("c", "gemm", [("y", (4, 4), "Float"), ("z", (4, 4), "Float")], [("alpha", (1,), "Float")], []),
        line("d", "kgen", [("y", (4, 4), "Float")], [("index", (4, 4), "Int32")], [("v", (4, 4), "Half")]),
    ))
    assert [kernel.precision for kernel in found] == ["float16", "float16", "float32", "float32"]


def test_free_dimensions_are_filled_in_whatever_was_folded_into_them():
    """A map of 10 positions and 6 channels an image: read as rows, padded, multiplied, reduced."""
    text = builder_log(
        line("c", "correlation", [("image", (-1, 3, 2, 5), "Half")], [], [("map", (-1, 6, 2, 5), "Half")]),
        line("__myl_MoveConc_myl0_1", "kgen", [("map", (-1, 6), "Half")], [], [("wide", (-1, 8), "Half")]),
        line("m", "gemm", [("wide", (-1, 8), "Half")], [("w", (8, 4), "Half")], [("rows", (-1, 4), "Half")]),
        line("__myl_Add_myl0_2", "kgen", [("rows", (-1, 4), "Half")], [], [("moved", (-1, 4), "Half")]),
        line("__myl_Mean_myl0_3", "kgen", [("moved", (-1, 4), "Half")], [], [("mean", (-1, 1), "Float")]),
        line("__myl_Resh_myl0_4", "kgen", [("map", (-1, 6, 2, 5), "Half")], [], [("l", (-1, 2, 5), "Half")]),
        line("n", "gemm", [("l", (-1, 2, 5), "Half")], [("v", (7, 2), "Half")], [("o", (-1, 7, 5), "Half")]),
    )
    one, three = engine_layers.read(text), engine_layers.read(text, batch=3)
    shapes = [[tensor.dims for tensor in (*kernel.inputs, *kernel.outputs)] for kernel in three]
    assert shapes == [
        [(3, 3, 2, 5), (3, 6, 2, 5)], [(30, 6), (30, 8)], [(30, 8), (30, 4)],
        [(30, 4), (30, 4)], [(30, 4), (3, 1)], [(3, 6, 2, 5), (18, 2, 5)], [(18, 2, 5), (18, 7, 5)],
    ]
    for single, triple in zip(one, three):
        constants = sum(tensor.bytes for tensor in single.constants)
        assert triple.bytes - constants == 3 * (single.bytes - constants)
