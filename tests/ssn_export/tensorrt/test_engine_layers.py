"""The inspector's report in the forms that TensorRT 8 to 11 give it."""

import json

from ssn_export.tensorrt import engine_layers

SEPARATOR = "\x1f"


def entry(name, outputs, kind="CaskConvolution", inputs=("x",), key="Format/Datatype", metadata=""):
    return {
        "Name": name, "LayerType": kind, "Metadata": metadata,
        "Inputs": [{"Name": n, key: "Half"} for n in inputs],
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
    assert engine_layers.table(found)["heads"] == {"float16": 1, "float32": 1}
    assert any("heads.score" in line and "1 float32" in line for line in engine_layers.lines(found))


def test_fused_layers_name_their_nodes_in_the_metadata():
    nodes = SEPARATOR.join(f"[ONNX Layer: {n}]" for n in ("heads/MatMul_20", "heads/Add_21"))
    (layer,) = read(entry("__myl_MatMulAdd_0x1", {"y": "Half"}, "kgen", metadata=nodes))
    assert layer.nodes >= {"heads/MatMul_20", "heads/Add_21"} and layer.stage == "heads"


def test_what_is_odd():
    copy = "Reformatting CopyNode for Input Tensor 0 to heads/MatMul_20"
    found = read(
        entry("heads/MatMul_20", {"y": "Float"}),
        entry("heads/MatMul_21", {"y": "Float"}),
        entry("backbone/Conv_5", {"y": "Float"}),
        entry("Reformatting CopyNode for Input Tensor 0 to Cast_0", {"r": "Half"}, "Reformat", ["image"]),
        entry(copy, {"r": "Half"}, "Reformat"),
        entry("Reformat to output", {"anomaly_map": "Float"}, "Reformat"),
    )
    assert engine_layers.oddities(found, ["heads/MatMul_21"]) == [
        "layer of the heads fell back to float32: heads/MatMul_20",
        f"unexpected reformat: {copy}",
    ]


def test_names_only():
    (layer,) = engine_layers.read(json.dumps({"Layers": ["heads/MatMul_20"]}))
    assert (layer.stage, layer.precision, layer.kind) == ("heads", "unknown", "?")
    assert engine_layers.read("{}") == []
