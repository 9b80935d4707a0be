"""Stages: every node has one, and their work adds up."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="methods are built with torch")
from random_model import random_model  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from ssn_bench.methods import random_models  # noqa: E402
from ssn_export.graph import tracing  # noqa: E402
from ssn_export.graph.deployed import PLANS, Deployed  # noqa: E402
from ssn_export.targets import plan_timing  # noqa: E402
from ssn_export.work import macs  # noqa: E402
from ssn_export.work.stages import STAGES, Graph, totals  # noqa: E402
from ssn_train.network.design import Design  # noqa: E402


@pytest.mark.parametrize("plan", PLANS)
def test_every_node_has_a_stage_and_the_work_adds_up(plan):
    subject = random_models.random_weights("resnet18", (64, 96))
    model = tracing.trace(Deployed(subject.model, subject.backbone, plan, subject.mean), (64, 96))
    graph = Graph(model)
    assert set(graph.stage) == {node.name for node in model.graph.node}
    assert set(graph.stage.values()) == set(STAGES)
    work = totals(graph)
    assert sum(one.macs for one in work.values()) == macs.total(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        subject.backbone.module(torch.zeros(1, 3, 64, 96))
    assert 2 * work["backbone"].macs == counter.get_total_flops()
    nodes = [name for name, stage in graph.stage.items() if stage == "input"]
    assert nodes and all("backbone" not in name and "heads" not in name for name in nodes)
    assert np.isfinite(plan_timing.runner(model, "onnxruntime")()).all()


@pytest.mark.parametrize("plan", sorted(set(PLANS) - {"adaptor"}))
def test_without_classification_head_there_is_no_such_stage(plan):
    """Three levels: each has its products, and the map's maximum belongs to what comes behind the map."""
    shape = Design(("layer2", "layer3", "layer4"), grid=(9, 10), seg_width=32, cls_width=0)
    model, backbone = random_model("resnet18", (64, 96), shape)
    graph = Graph(tracing.trace(Deployed(model, backbone, plan), (64, 96)))
    assert set(graph.stage.values()) == set(STAGES) - {"classification"}
    (maximum,) = [name for name, node in graph.nodes.items() if node.op_type == "ReduceMax"]
    assert graph.stage[maximum] == "post"
    products = [name for name in graph.work if name.startswith("heads")]
    spatial = [name for name in products if graph.stage[name] == "spatial"]
    # Plan full does the columns of all levels at once, the gathers are no products.
    assert len(spatial) == {"full": 4, "gather": 0, "gather-columns": 3, "gather-composed": 0}.get(plan, 6)
    # A level each and the map; head and map; else adaptor, head and map, or a level each.
    by_channel = {"full": 4, "row-first": 2, "gather-composed": 2}
    assert len(products) - len(spatial) == by_channel.get(plan, 3)
    if plan.startswith("gather"):
        kinds = {graph.stage[node.name] for node in graph.nodes.values() if ".columns/Gather" in node.name}
        assert kinds == {"spatial"}


def test_layers_of_libraries_find_their_stage():
    subject = random_models.random_weights("resnet18", (64, 96))
    graph = Graph(tracing.trace(Deployed(subject.model, subject.backbone, "full"), (64, 96)))
    convolution = next(node for node in graph.nodes.values() if node.name.startswith("backbone/Conv"))
    assert graph.of_layer(f"{convolution.output[0]}_nchwc") == "backbone"  # ONNX Runtime
    assert graph.of_layer(f"{convolution.name}/WithoutBiases", "Convolution") == "backbone"  # OpenVINO
    assert graph.of_layer(f"{convolution.name} + backbone/Relu_9") == "backbone"  # TensorRT
    assert graph.of_layer("Reformatting CopyNode for Input Tensor 0") == "copies"
    assert graph.of_layer("anomaly_map") == "post"


def test_kernels_find_the_stage_of_most_of_their_nodes():
    subject = random_models.random_weights("resnet18", (64, 96))
    graph = Graph(tracing.trace(Deployed(subject.model, subject.backbone, "full"), (64, 96)))
    concat, convolution, relu = (
        next(name for name in graph.nodes if name.startswith(kind))
        for kind in ("heads/Concat", "backbone/Conv", "backbone/Relu")
    )
    assert graph.of_nodes([concat]) == "copies"
    assert graph.of_nodes(["Cast_0", concat, convolution, relu, "unknown"]) == "backbone"
    assert graph.of_nodes(["Cast_0"]) == "input"
    assert graph.of_nodes([]) == graph.of_nodes(["unknown"]) == "copies"
