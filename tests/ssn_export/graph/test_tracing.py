"""The traced graph: what is in it, and that it agrees with the model."""

import numpy as np
import pytest
from onnx import TensorProto
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
    tracing.check(graph)
    assert lint.problems(graph) == []
    kinds = {node.op_type for node in graph.graph.node}
    assert not kinds & {"Pad", "Einsum", "Shape", "BatchNormalization", "Constant"}
    assert TensorProto.DOUBLE not in {w.data_type for w in graph.graph.initializer}
    answers = float64_reference.run_onnx(graph, images)
    parity.gate(parity.compare(truth, *answers, VERDICT, "float32"), "float32")

    typed = half_precision.to_half(graph)
    tracing.check(typed)
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
