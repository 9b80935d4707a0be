"""The traced graph: what is in it, and that it agrees with the model."""

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from random_model import photos, random_model

from ssn_edge.model.schema import Verdict
from ssn_export.gates import lint, parity
from ssn_export.graph import float64_reference, half_precision, tracing
from ssn_export.graph.deployed import Deployed

VERDICT = Verdict("score", 0.5, 0.0, "chosen for the test", 0)


@pytest.mark.parametrize(
    "name, plan", [("efficientnet_lite0", "full"), ("resnet18", "full"), ("resnet18", "row-first")]
)
def test_onnx_graph(name, plan):
    size = (64, 96)
    model, backbone = random_model(name, size)
    images = photos(3, size)
    truth = float64_reference.reference(model, backbone, images)
    graph = tracing.trace(Deployed(model, backbone, plan), size)
    lint.check_valid(graph)
    assert lint.problems(graph) == []
    kinds = {node.op_type for node in graph.graph.node}
    assert not kinds & {"Pad", "Einsum", "Shape", "BatchNormalization", "Constant"}
    assert TensorProto.DOUBLE not in {w.data_type for w in graph.graph.initializer}
    answers = float64_reference.run_onnx(graph, images)
    parity.gate(parity.compare(truth, *answers, VERDICT, "float32"), "float32")

    typed = half_precision.to_half(graph)
    lint.check_valid(typed)
    assert lint.problems(typed) == []
    emulated = float64_reference.run_onnx(half_precision.emulated(typed), images)
    small = parity.compare(truth, *emulated, VERDICT, "float16")
    assert 1e-5 < small.map_rms < 5e-2  # half at all, and nothing broken
    names = [w.name for w in typed.graph.initializer]
    assert len(names) == len(set(names))
    floats = [w for w in typed.graph.initializer if w.data_type == TensorProto.FLOAT]
    assert not floats
    everything = frozenset(node.name for node in graph.graph.node)
    same = half_precision.to_half(graph, everything)
    np.testing.assert_array_equal(
        float64_reference.run_onnx(same, images)[0], float64_reference.run_onnx(graph, images)[0]
    )


def test_nothing_of_the_tracing_is_left():
    """No notes, no shapes of values, no tensor twice, nothing unused; names tell the module."""
    size = (64, 96)
    model, backbone = random_model("efficientnet_lite0", size)
    traced = tracing.trace(Deployed(model, backbone, "full"), size)
    graph = traced.graph
    assert [(entry.domain, entry.version) for entry in traced.opset_import] == [("", tracing.OPSET)]
    assert not (traced.metadata_props or traced.doc_string or traced.functions or graph.metadata_props)
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        assert not part.doc_string and not part.metadata_props, part.name
    assert not graph.value_info
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    assert {weight.name for weight in graph.initializer} <= used
    assert all(set(node.output) & used for node in graph.node)
    content = [(w.data_type, tuple(w.dims), numpy_helper.to_array(w).tobytes()) for w in graph.initializer]
    assert len(content) == len(set(content))
    names = [node.name for node in graph.node]
    assert len(names) == len(set(names))
    assert {"backbone", "heads.score"} <= {name.partition("/")[0] for name in names}
