"""What NVIDIA's compiler makes of the plans that are shaped for it: fewer bytes, nothing large."""

from math import prod

import pytest
import rtx_graphs as graphs

from ssn_export.graph import half_precision
from ssn_export.tensorrt import compiled, kernels

GOALS = {"efficientnet_lite0": 1.7, "resnet18": 1.2, "wide_resnet50_2": 1.2}
"""Times that plan gather's bound is below plan full's on an RTX A2000, all from memory."""

CARD = "RTX-A2000"


def report(backbone, plan, batch=1, design="paper"):
    case = graphs.Case(plan, "float32", False, False, batch, backbone, design)
    graph = half_precision.to_half(case.graph())
    made = compiled.compiled(graph.SerializeToString(), plan, batch=batch)
    return kernels.report(made.kernels, graph, batch)


@pytest.mark.parametrize("backbone", GOALS)
def test_gathers_take_less_time_at_least(backbone):
    full, gather = (report(backbone, plan) for plan in ("full", "gather"))
    assert full.bounds()[CARD][0] >= GOALS[backbone] * gather.bounds()[CARD][0]
    assert len(gather.rows) < len(full.rows) and gather.activations < full.activations


@pytest.mark.parametrize("batch", [1, 16])
def test_the_hidden_map_never_reaches_memory(batch):
    """1024 channels at 64x64 are nowhere between two kernels; plan full has them."""
    hidden = batch * 1024 * 64 * 64

    def largest(plan):
        found = report("efficientnet_lite0", plan, batch)
        tensors = [t for row in found.rows for t in (*row.kernel.inputs, *row.kernel.outputs)]
        return max(prod(tensor.dims) for tensor in tensors)

    assert largest("full") >= hidden > 2 * largest("gather")


@pytest.mark.parametrize("backbone", GOALS)
def test_a_range_of_batches_takes_its_share_of_memory(backbone):
    one, many = (report(backbone, "gather", batch) for batch in (1, 16))
    full = report(backbone, "full", 16)
    assert many.activations <= 17 * one.activations and many.activations < full.activations
    assert many.bounds()[CARD][0] < full.bounds()[CARD][0]


def test_the_default_design_gains_too():
    bounds = {
        plan: report("efficientnet_lite0", plan, design="default").bounds()[CARD][0]
        for plan in ("none", "full", "gather")
    }
    assert min(bounds, key=bounds.get) == "gather"
