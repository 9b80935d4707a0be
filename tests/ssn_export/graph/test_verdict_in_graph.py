"""The verdict inside the exported graph: the runtime's own, and fail-closed, in every library."""

import functools

import numpy as np
import onnx
import pytest
import torch
from graph_runs import run_onnxruntime, run_openvino
from random_model import photos, random_model

from ssn_edge import Judge, Verdict
from ssn_export.bundles import baking
from ssn_export.gates import lint
from ssn_export.graph import half_precision, tracing
from ssn_export.graph.deployed import Deployed

SIZE = (48, 64)
PLANS = ["none", "full"]


LIBRARIES = {"onnxruntime": run_onnxruntime, "openvino": run_openvino}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


@pytest.fixture(scope="module")
def trained():
    return random_model("resnet18", SIZE)


@functools.lru_cache(maxsize=None)
def traced(trained, plan, kind):
    torch.manual_seed(0)
    found = tracing.trace(Deployed(*trained, plan, None), SIZE)
    return half_precision.to_half(found) if kind == "float16" else found


@functools.lru_cache(maxsize=None)
def graph(trained, verdict, plan="full", kind="float32"):
    found = baking.with_thresholds(traced(trained, plan, kind), verdict)
    assert lint.problems(found) == []
    return found


def scaled_by_nan(model, name):
    """The graph with a weight of that output's branch that is not a number: what a flipped bit leaves."""
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    (node,) = (node for node in broken.graph.node if name in node.output)
    for other in broken.graph.node:
        for place, used in enumerate(other.input):
            if used == name:
                other.input[place] = f"{name}_sound"
    node.output[0] = f"{name}_sound"
    broken.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(np.nan), "flipped"))
    broken.graph.node.append(onnx.helper.make_node("Mul", [f"{name}_sound", "flipped"], [name], "flipped"))
    for other in broken.graph.node:
        for place, used in enumerate(other.input):
            if used == f"{name}_sound" and other.name != "flipped":
                other.input[place] = name
    return sorted_by_use(broken)


def sorted_by_use(model):
    """Nodes after those that they need: ONNX wants them so."""
    known = {v.name for v in model.graph.input} | {w.name for w in model.graph.initializer} | {""}
    left, order = list(model.graph.node), []
    while left:
        ready = [node for node in left if known.issuperset(node.input)]
        assert ready, [node.name for node in left]
        order += ready
        known.update(name for node in ready for name in node.output)
        left = [node for node in left if node not in ready]
    del model.graph.node[:]
    model.graph.node.extend(order)
    return model


@functools.lru_cache(maxsize=None)
def verdicts(trained):
    """Each source with thresholds between what the two photos get, and ties at both."""
    module = Deployed(*trained, "full").eval()
    maps, scores = (found.detach().numpy() for found in module(torch.from_numpy(photos(2, SIZE))))
    peaks = maps.max((1, 2))
    score, peak, pixel = float(scores.mean()), float(peaks.mean()), float(np.quantile(maps, 0.9))
    low = float(peaks.min()) - 1
    return {
        "score": Verdict("score", score, pixel, "chosen", 1),
        "map_max": Verdict("map_max", peak, pixel, "chosen", 1),
        "either, by score": Verdict("either", score, pixel, "chosen", 1, peak + 1e6),
        "either, by map": Verdict("either", 1.0, pixel, "chosen", 1, peak),
        "none": Verdict("either", 1.0, 1e6, "chosen", 1, 1e6),
        "all": Verdict("map_max", low, low - 1e6, "chosen", 1),
    }


@pytest.mark.parametrize("name", ["score", "map_max", "either, by score", "either, by map", "none", "all"])
@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_the_graph_judges_as_the_judge_does(trained, library, name, kind):
    verdict = verdicts(trained)[name]
    model = graph(trained, verdict, kind=kind)
    maps, scores, masks, called = library(model, photos(2, SIZE))
    judge = Judge(verdict)
    np.testing.assert_array_equal(masks, judge.mask(maps))
    truth = judge.are_defects(scores, maps.max((1, 2)))
    np.testing.assert_array_equal(called.astype(bool), truth)
    if kind == "float32":
        assert set(truth) == {"none": {False}, "all": {True}}.get(name, {True, False})


@pytest.mark.parametrize("output", ["score", "anomaly_map"])
@pytest.mark.parametrize("name", ["score", "map_max", "either, by score", "none"])
def test_nan_is_ng_in_the_graph(trained, library, name, output):
    """Whichever output it is and whichever counts, even where no number could be NG."""
    model = graph(trained, verdicts(trained)[name])
    maps, scores, masks, called = library(scaled_by_nan(model, output), photos(2, SIZE))
    broken = scores if output == "score" else maps
    assert np.isnan(broken).all() and np.isfinite(maps if output == "score" else scores).all()
    assert called.tolist() == [1, 1]
    if output == "anomaly_map":
        assert (masks == 1).all()


@pytest.mark.parametrize("plan", PLANS)
def test_a_damaged_weight_of_the_trained_model_is_ng(trained, library, plan):
    """From the checkpoint on: a NaN in the segmentation head's last layer."""
    model, backbone = random_model("resnet18", SIZE)
    with torch.no_grad():
        names = dict(model.named_parameters())
        (last,) = (p for n, p in names.items() if n.startswith("discriminator.seg") and p.shape[0] == 1)
        last.fill_(float("nan"))
    broken = graph((model, backbone), Verdict("score", 1.0, 1e6, "chosen", 1), plan)
    maps, _, masks, called = library(broken, photos(1, SIZE))
    assert np.isnan(maps).all() and (masks == 1).all() and called.tolist() == [1]
