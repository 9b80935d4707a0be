"""The exported module and its half-precision form, for every tested backbone."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from random_model import photos, random_model

from ssn_edge.model.schema import Verdict
from ssn_export.gates import lint, parity
from ssn_export.graph import float64_reference, half_precision, tracing
from ssn_export.graph.deployed import Deployed
from ssn_export.graph.head_plans import PLANS

NAMES = ["efficientnet_lite0", "resnet18", "resnet50", "wide_resnet50_2"]
VERDICT = Verdict("score", 0.5, 0.0, "chosen for the test", 0)


def assert_exact(model, backbone, plan, images, mean=None):
    """The plan's module against the trained model, both in float64, to 1e-10."""
    truth = float64_reference.reference(model, backbone, images)
    with torch.inference_mode():
        maps, scores = Deployed(model, backbone, plan, mean).double()(torch.from_numpy(images))
    np.testing.assert_allclose(maps, truth.maps, rtol=0, atol=1e-10 * np.abs(truth.maps).max())
    np.testing.assert_allclose(scores, truth.scores, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_is_the_model_in_float64(name, plan):
    model, backbone = random_model(name, (75, 98))
    assert_exact(model, backbone, plan, photos(3, (75, 98)))


@given(
    size=st.tuples(st.integers(96, 640), st.integers(96, 640)),
    name=st.sampled_from(["efficientnet_lite0", "resnet18", "wide_resnet50_2"]),
    variant=st.sampled_from(["icpr", "jims"]),
    plan=st.sampled_from(["full", "row-first"]),
    centred=st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_fusion_is_exact_for_any_size(size, name, variant, plan, centred):
    if name == "wide_resnet50_2":
        size = tuple(96 + n % 104 for n in size)  # minutes otherwise
    model, backbone = random_model(name, size)
    model.variant = variant
    mean = np.linspace(-1, 2, sum(backbone.channels)) if centred else None
    assert_exact(model, backbone, plan, photos(1, size), mean)


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


def test_channels_are_bgr():
    """Swapping the input's channels is what swapping the training's RGB is."""
    size = (48, 48)
    model, backbone = random_model("resnet18", size)
    image = photos(1, size)
    swapped = float64_reference.reference(model, backbone, image[..., ::-1].copy())
    deployed = Deployed(model, backbone).double()
    with torch.inference_mode():
        right = deployed(torch.from_numpy(image[..., ::-1].copy()))[0]
        wrong = deployed(torch.from_numpy(image))[0]
    np.testing.assert_allclose(right, swapped.maps, atol=1e-9)
    assert not np.allclose(wrong, swapped.maps, atol=1e-3)


def test_mixed_graph_casts_once_and_keeps_its_outputs():
    size = (48, 64)
    model, backbone = random_model("resnet18", size)
    graph = tracing.trace(Deployed(model, backbone), size)
    nodes = [node.name for node in graph.graph.node]
    mixed = half_precision.to_half(graph, frozenset(nodes[: len(nodes) // 2]))
    tracing.check(mixed)
    casts = [(n.input[0], n.attribute[0].i) for n in mixed.graph.node if n.op_type == "Cast"]
    assert len(casts) == len(set(casts))
    outputs = {v.name: v.type.tensor_type.elem_type for v in mixed.graph.output}
    assert outputs == {"anomaly_map": TensorProto.FLOAT, "score": TensorProto.FLOAT}
    onnx.checker.check_model(mixed, full_check=True)
