"""Thresholds as nodes of a finished graph: fail-closed in every library, nothing stored twice."""

import json

import numpy as np
import onnx
import pytest
import tiny
from graph_runs import run_onnxruntime, run_openvino

from ssn_edge import InputError, Verdict
from ssn_edge.model.onnx_metadata import read_info
from ssn_export.bundles import baking
from ssn_export.gates import lint

HIGH = {
    "score": Verdict("score", 1.0, 1e6, "chosen", 1),
    "map_max": Verdict("map_max", 1e6, 1e6, "chosen", 1),
    "either": Verdict("either", 1.0, 1e6, "chosen", 1, 1e6),
}
"""Nothing sound reaches them."""


@pytest.fixture(params=[run_onnxruntime, run_openvino])
def library(request):
    return request.param


def grey(*values):
    return np.stack([np.full((32, 48, 3), value, np.uint8) for value in values])


def nodes(model, operator):
    return [node for node in model.graph.node if node.op_type == operator and "verdict/" in node.name]


@pytest.mark.parametrize("breaks", ["score", "anomaly_map"])
@pytest.mark.parametrize("source", HIGH)
def test_nan_is_ng_whichever_source_counts(library, source, breaks):
    """Of three frames the second has one black pixel, where 0 / 0 is NaN; the third is black."""
    images = grey(200, 200, 0)
    images[1, 5, 7] = 0
    maps, scores, masks, called = library(
        baking.with_thresholds(tiny.graph(breaks), HIGH[source]), images
    )
    if breaks == "score":  # of the map's maximum, so that one pixel does not break it
        assert np.isnan(scores).tolist() == [False, False, True] and called.tolist() == [0, 0, 1]
        assert not masks.any()
    else:
        assert np.isnan(maps).sum((1, 2)).tolist() == [0, 1, 32 * 48] and called.tolist() == [0, 1, 1]
        np.testing.assert_array_equal(masks, np.isnan(maps))
    assert masks.dtype == called.dtype == np.uint8 and masks.shape == (3, 32, 48) and called.shape == (3,)


@pytest.mark.parametrize("source, thresholds", [
    ("score", (100 / 255, None)), ("map_max", (100.0, None)), ("either", (150 / 255, 100.0)),
    ("either", (100 / 255, 150.0)),
])
def test_at_the_threshold_is_ng(library, source, thresholds):
    """Grey levels are the map's values, so that what equals a threshold is known."""
    first, second = thresholds
    if source != "map_max":
        first = float(np.float32(first))  # as a score is
    model = baking.with_thresholds(tiny.graph(), Verdict(source, first, 101.0, "chosen", 1, second))
    _, _, masks, called = library(model, grey(99, 100, 101))
    assert called.tolist() == [0, 1, 1]
    assert masks.reshape(3, -1).max(1).tolist() == masks.reshape(3, -1).min(1).tolist() == [0, 0, 1]


def test_no_tensor_is_stored_twice_and_the_map_is_compared_once():
    """255 is a weight of the tiny model, and both limits of the map."""
    model = baking.with_thresholds(tiny.graph(), Verdict("map_max", 255.0, 255.0, "chosen", 1))
    assert [w.name for w in model.graph.initializer if w.name == "full" or w.name.startswith("verdict/")] == [
        "full", "verdict/limit_1"  # of the score, which does not count
    ]
    assert len(nodes(model, "Less")) == 2
    other = baking.with_thresholds(tiny.graph(), Verdict("map_max", 255.0, 7.0, "chosen", 1))
    assert len(nodes(other, "Less")) == 3
    for one in (model, other):
        onnx.checker.check_model(one, full_check=True)
        names = [node.name for node in one.graph.node if node.name]
        assert len(set(names)) == len(names) and one.opset_import[0].version == 17
        assert not [line for line in lint.problems(one) if "verdict/" in line]
    assert run_onnxruntime(model, grey(254, 255))[3].tolist() == [0, 1]


def test_a_graph_describes_what_was_put_in(tmp_path):
    """What must stay in float32 is told by name, for a TensorRT that chooses precisions itself."""
    info = tiny.info(verdict=HIGH["either"], calibration="line-3", float32_nodes=("Div_3",))
    before = tiny.graph()
    model = baking.baked(before, info)
    onnx.save(model, str(tmp_path / "m.onnx"))
    found = read_info(tmp_path / "m.onnx")
    assert found.verdict_inside and (found.calibration, found.verdict) == ("line-3", HIGH["either"])
    assert found.float32_nodes == ("Div_3", *(node.name for node in nodes(model, "Less")))
    assert before == tiny.graph() and "verdict_inside" in json.loads(model.metadata_props[0].value)
    with pytest.raises(InputError, match="has thresholds inside"):
        baking.with_thresholds(model, HIGH["score"])
