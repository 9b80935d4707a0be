"""The report on a compiled graph: products, stages, copies, fall-backs and bounds, in closed form."""

import json

import numpy as np
import pytest
from layer_text import builder_log, line

onnx = pytest.importorskip("onnx", reason="products are counted in an ONNX file")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from ssn_export.tensorrt import bounds, engine_layers, kernels  # noqa: E402
from ssn_export.work import cards  # noqa: E402
from ssn_export.work.cards import Card  # noqa: E402

CONVOLUTION, PROJECTION, FIRST = 8 * 8 * 4 * 3 * 9, 64 * 4 * 5, 64 * 5 * 2
"""Multiply-accumulates of an image."""


def graph():
    """Pixels, a 3x3 convolution to 4 channels of 8x8, products to 5 and 2 channels, joined."""
    half = np.float16
    weights = {
        "mean": np.zeros(3, half), "w": np.zeros((4, 3, 3, 3), half), "p": np.zeros((4, 5), half),
        "q": np.zeros((5, 2), half),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], "Cast_0", to=TensorProto.FLOAT16),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"], "Sub_1"),
        helper.make_node("Transpose", ["centred"], ["planes"], "Transpose_2", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w"], ["features"], "backbone/Conv_3", pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["features"], ["rows"], "heads/Transpose_4", perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["rows", "p"], ["hidden"], "heads/MatMul_5"),
        helper.make_node("MatMul", ["hidden", "q"], ["two"], "heads/MatMul_6"),
        helper.make_node("Concat", ["hidden", "two"], ["seven"], "heads/Concat_7", axis=3),
        helper.make_node("Cast", ["seven"], ["anomaly_map"], "Cast_map", to=TensorProto.FLOAT),
    ]
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes, "g", [value("image", TensorProto.UINT8, ["N", 8, 8, 3])],
        [value("anomaly_map", TensorProto.FLOAT, ["N", 8, 8, 7])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])


LAID_OUT = line(  # names the convolution that it prepares
    "__myl_CastAddTranConc_myl0_0", "kgen", [("image", (1, 8, 8, 3), "UInt8")], [("m", (1, 3), "Half")],
    [("x", (1, 4, 8, 8), "Half")], ["Cast_0", "Sub_1", "backbone/Conv_3", "Transpose_2"],
)
CONVOLVED = line(
    "backbone/Conv_3_myl0_1", "correlation", [("x", (1, 4, 8, 8), "Half")], [("w", (4, 4, 3, 3), "Half")],
    [("f", (1, 4, 8, 8), "Half")], ["backbone/Conv_3"],
)
IN_FLOAT = line(
    "__myl_CastFc_myl0_2", "runtime_fusion", [("f", (64, 4), "Half")], [("p", (4, 5), "Float")],
    [("h", (64, 5), "Half")], ["heads/MatMul_5", "heads/Transpose_4"],
)
MULTIPLIED = line(
    "heads/MatMul_6_myl0_3", "gemm", [("h", (64, 5), "Half")], [("q", (5, 2), "Half")],
    [("t", (64, 2), "Half")], ["heads/MatMul_6"],
)
JOINED = line(
    "__myl_Conc_myl0_4", "runtime_function", [("h", (1, 8, 8, 5), "Half"), ("t", (1, 8, 8, 2), "Half")], [],
    [("s", (1, 8, 8, 7), "Half")], ["heads/Concat_7"],
)
CAST = line(
    "__myl_Cast_myl0_5", "kgen", [("s", (1, 8, 8, 7), "Half")], [], [("anomaly_map", (1, 8, 8, 7), "Float")],
    ["Cast_map"],
)
TEXT = builder_log(LAID_OUT, CONVOLVED, IN_FLOAT, MULTIPLIED, JOINED, CAST)


def test_products_are_given_to_the_kernel_that_computes_them():
    found = kernels.report(TEXT, graph(), batch=1)
    macs = [0, CONVOLUTION, PROJECTION, FIRST, 0, 0]
    assert [row.macs for row in found.rows] == macs and found.missing == 0
    assert [row.stage for row in found.rows] == [
        "input", "backbone", "projection", "projection", "copies", "post",
    ]
    assert [row.macs for row in kernels.report(TEXT, graph(), 7).rows] == [7 * count for count in macs]


def test_products_that_no_kernel_names_are_said():
    found = kernels.report(builder_log(LAID_OUT, CONVOLVED), graph(), batch=2)
    assert found.missing == 2 * (PROJECTION + FIRST)
    assert any("no kernel names" in text for text in found.lines())
    assert not any("no kernel names" in text for text in kernels.report(TEXT, graph()).lines())


def test_fallbacks_are_products_in_float32_that_no_one_asked_for():
    for asked, found in ((), 1), (["heads/MatMul_6"], 1), (["heads/MatMul_5"], 0), (None, 1):
        fallen = [row.kernel.name for row in kernels.report(TEXT, graph(), 1, asked).fallbacks]
        assert fallen == ["__myl_CastFc_myl0_2"] * found


def test_nothing_falls_back_in_a_float32_graph():
    single = graph()
    for weight in single.graph.initializer:
        array = numpy_helper.to_array(weight).astype(np.float32)
        weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    single.graph.node[0].attribute[0].i = TensorProto.FLOAT
    found = kernels.report(TEXT.replace("Half", "Float"), single)
    assert not found.fallbacks and found.document()["types"] == {"float32": 6}


def test_lines_and_document():
    found = kernels.report(TEXT, graph())
    document = json.loads(json.dumps(found.document()))
    assert (document["kernels"], document["copies"], document["batch"]) == (6, 2, 1)
    assert document["types"] == {"float16": 5, "float32": 1}
    assert document["megabytes"] == round(sum(row.kernel.bytes for row in found.rows) / 1e6, 3)
    assert document["gmacs"] == {
        "float16": round((CONVOLUTION + FIRST) / 1e9, 6), "float32": round(PROJECTION / 1e9, 6),
    }
    assert list(document["stages"]) == ["input", "backbone", "projection", "post", "copies"]
    assert sum(one["kernels"] for one in document["stages"].values()) == 6
    assert document["copied"] == [["__myl_Cast_myl0_5", 0.003], ["__myl_Conc_myl0_4", 0.002]]
    assert set(document["bounds_ms"]) == set(cards.read())
    short, full = found.lines(), found.lines(each=True)
    assert full[: len(short)] == short
    assert len(full) == len(short) + 1 + 6
    assert short[0].startswith("6 kernels (5 float16, 1 float32), 0.0 MB read and written, 0.00 GMAC")
    assert any("Conc_myl0_4 (heads/Concat_7)" in text for text in short)


def test_without_a_graph_stages_are_what_names_tell():
    found = kernels.report(TEXT, None)
    assert [row.stage for row in found.rows] == ["backbone", "backbone", "heads", "heads", "heads", "border"]
    assert found.document()["gmacs"] == {} and found.document()["bounds_ms"] == {}
    assert "products not counted" in found.lines()[0]


def test_an_empty_list_is_said():
    (text,) = kernels.report("", graph()).lines()
    assert "listed none" in text
    json.dumps(kernels.report("", graph()).document())


MIB = 1 << 20
CARD = Card(bandwidth=1e9, half=4e12, float32=1e12, l2=3 * MIB)


def mebibytes(name, count):
    return (name, (count, MIB), "Int8")


def chain(*sizes):
    """Each kernel reads what the one before wrote, of so many MiB, and a constant of 1; the first reads the
    image, of 1."""
    tensors = [mebibytes("image", 1), *(mebibytes(f"t{n}", size) for n, size in enumerate(sizes))]
    return engine_layers.read(builder_log(*(
        line("k", "kgen", [first], [mebibytes("c", 1)], [second])
        for first, second in zip(tensors, tensors[1:])
    )))


def test_bound_is_the_slower_of_arithmetic_and_traffic():
    half = line("a", "gemm", [("x", (1000, 1000), "Half")], [], [])
    single = line("b", "gemm", [("x", (1000, 1000), "Float")], [], [])
    found = engine_layers.read(builder_log(half, single))
    assert bounds.bound_ms(found, [0, 0], CARD) == pytest.approx(2 + 4 + 2 * 1.5e-3)
    assert bounds.bound_ms(found, [10**11, 0], CARD) == pytest.approx(1e3 * 2e11 / 4e12 + 4 + 2 * 1.5e-3)
    assert bounds.bound_ms(found, [0, 10**11], CARD) == pytest.approx(2 + 1e3 * 2e11 / 1e12 + 2 * 1.5e-3)


def test_what_fits_the_cache_costs_no_traffic():
    """At the second kernel two tensors are alive, at the third one; the last is the output."""
    found = chain(1, 2, 4)
    assert bounds.kept(found, 3 * MIB) == {"t0", "t1"}
    assert bounds.kept(found, 3 * MIB - 1) == set()
    assert bounds.kept(found, 0) == set()
    assert bounds.most_alive(found) == 3 * MIB and bounds.most_alive([]) == 0
    every = (1 + 1) + (1 + 2) + (2 + 4) + 3  # read and written, constants
    kept = 2 * 1 + 2 * 2
    for cached, moved in (False, every), (True, every - kept):
        ms = bounds.bound_ms(found, [0, 0, 0], CARD, cached)
        assert ms == pytest.approx(moved * MIB / 1e6 + 3 * 1.5e-3)


def test_a_tensor_that_waits_while_others_fill_the_cache_is_lost():
    found = engine_layers.read(builder_log(
        line("a", "kgen", [mebibytes("image", 1)], [], [mebibytes("early", 1)]),
        line("b", "kgen", [mebibytes("image", 1)], [], [mebibytes("wide", 3)]),
        line("c", "kgen", [mebibytes("wide", 3)], [], [mebibytes("narrow", 1)]),
        line("d", "kgen", [mebibytes("narrow", 1), mebibytes("early", 1)], [], [mebibytes("anomaly_map", 1)]),
    ))
    assert bounds.kept(found, 5 * MIB) == {"early", "wide", "narrow"}
    assert bounds.kept(found, 4 * MIB) == set()  # at c five are alive
    assert bounds.most_alive(found) == 5 * MIB
    del found[1]
    assert bounds.kept(found, 4 * MIB) == {"early", "narrow"}  # wide is from outside now
