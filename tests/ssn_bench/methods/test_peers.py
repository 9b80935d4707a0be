"""The paper's counts and methods, held against Table 6 and against our own model."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="methods are built with torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from ssn_bench.comparison import claim, paper  # noqa: E402
from ssn_bench.measure import (  # noqa: E402
    contenders,  # noqa: E402
    macs,  # noqa: E402
)
from ssn_bench.methods import peers, random_models  # noqa: E402
from ssn_bench.profile import roofline  # noqa: E402
from ssn_bench.profile.stages import STAGES, Graph, Work, totals  # noqa: E402
from ssn_export.graph import plan_timing, tracing  # noqa: E402
from ssn_export.graph.deployed import Deployed  # noqa: E402
from ssn_train.training.photo_loader import normalise  # noqa: E402


def test_the_papers_counts_are_reproduced():
    """34 M parameters, 9 M trained, 56.3 GFLOPs without the 5x5 convolution: exactly Table 6."""
    counts = claim.count("wide_resnet50_2", (256, 256))
    assert round(counts["parameters"] / 1e6) == 34 and round(counts["trained"] / 1e6) == 9
    assert round(counts["paper_flops"] / 1e9, 1) == 56.3
    assert round(counts["flops"] / 1e9, 1) == 96.6


def entry(**changes):
    fields = {
        "backbone": "wide_resnet50_2", "size": [256, 256], "precision": "float16",
        "device": "NVIDIA Tesla V100S-PCIE-32GB", "latency": {"mean_ms": 9.4},
        "throughput": {"images_per_second": 200.0, "batch": 16}, "memory": {"peak_mb": 100.0},
    }
    return {**fields, **changes}


def test_verdicts(monkeypatch):
    counts = {"parameters": 33.7e6, "trained": 8.9e6, "flops": 96.6e9, "paper_flops": 56.3e9}
    monkeypatch.setattr(claim, "count", lambda *_: counts)
    found = {row.figure.split(",")[0]: row.verdict for row in claim.verdicts(entry(), 16_000_000_000)}
    assert found == {
        "latency": "reproduced", "throughput": "worse", "parameters": "reproduced",
        "trained parameters": "reproduced", "GFLOPs as the paper counts (no 5x5)": "reproduced",
        "GFLOPs as trained (with the 5x5)": "not comparable", "GFLOPs of the file that ran": "better",
        "memory": "better",
    }
    other = claim.verdicts(entry(device="a CPU", precision="float32", throughput=None), None)
    assert "a CPU" in other[0].reason and other[0].verdict == "not comparable"
    assert other[1].ours is None and "--protocol supersimplenet" in other[1].reason


def test_published_is_our_model():
    """Resize and 25 x 25 convolution against our matrices: the same map, but for the border's padding
    in the kernel's cut (its taps are renormalised there in neither)."""
    subject = random_models.random_weights("resnet18", (64, 96))
    images = normalise(contenders.noise(2, (64, 96), 3), subject.backbone)
    with torch.no_grad():
        ours, score = subject.model(images)
        theirs, their_score = peers.Published(subject.model)(images)
    assert float((ours - theirs).abs().max()) < 1e-4 * float(ours.std())
    torch.testing.assert_close(score, their_score)


def test_a_method_as_a_file_computes_what_it_does_in_torch(tmp_path):
    path = tmp_path / "x.onnx"
    peers.write("ssn-lite0-naive", path, 1)
    image = contenders.noise(1, peers.SIZE, 0)
    with torch.no_grad():
        expected, score = peers.build("ssn-lite0-naive")(torch.from_numpy(image))
    from ssn_edge.detector import Detector

    with Detector.open(path, "onnxruntime") as detector:
        found, found_score = detector.infer_batch(image)
        assert detector.info.backbone == "efficientnet_lite0"
    np.testing.assert_allclose(found, expected, atol=1e-3 * float(expected.std()))
    np.testing.assert_allclose(found_score, score, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientad-m", "fastflow", "draem", "patchcore", "efficientad-s"])
def test_anomalibs_methods_have_table_6s_counts(name):
    """Parameters in millions and GFLOPs as Table 6 prints them. PatchCore's leave out the distances and
    count the unused end of its backbone; EfficientAD-S is not in the table (75.9: docs/benchmarks.md)."""
    pytest.importorskip("anomalib", reason='not installed: pip install ".[bench-peers]"')
    module = peers.build(name)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, *peers.SIZE, 3, dtype=torch.uint8))
    gflops = counter.get_total_flops() / 1e9
    parameters = sum(p.numel() for p in module.parameters()) / 1e6
    if name == "patchcore":
        gflops -= 2 * 32 * 32 * peers.CORESET * 1536 / 1e9
        parameters = None
    method = peers.PEERS[name].method
    assert gflops == pytest.approx(paper.figure(method, "gflops") or 75.9, abs=0.2)
    if parameters and paper.figure(method, "parameters_m"):
        assert round(parameters) == paper.figure(method, "parameters_m")


@pytest.mark.parametrize("plan", ["none", "adaptor", "full", "row-first"])
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


def test_layers_of_libraries_find_their_stage():
    subject = random_models.random_weights("resnet18", (64, 96))
    graph = Graph(tracing.trace(Deployed(subject.model, subject.backbone, "full"), (64, 96)))
    convolution = next(node for node in graph.nodes.values() if node.name.startswith("backbone/Conv"))
    assert graph.of_layer(f"{convolution.output[0]}_nchwc") == "backbone"  # ONNX Runtime
    assert graph.of_layer(f"{convolution.name}/WithoutBiases", "Convolution") == "backbone"  # OpenVINO
    assert graph.of_layer(f"{convolution.name} + backbone/Relu_9") == "backbone"  # TensorRT
    assert graph.of_layer("Reformatting CopyNode for Input Tensor 0") == "copies"
    assert graph.of_layer("anomaly_map") == "post"


def test_bound_is_the_slower_of_arithmetic_and_traffic():
    peak = roofline.Peak(macs=1e12, bytes=1e9)
    assert roofline.bound_ms([Work(10**9, 1)], peak, 2) == pytest.approx(1)
    assert roofline.bound_ms([Work(1, 10**6)], peak, 2) == pytest.approx(2)
    assert roofline.bound_ms([Work(10**9, 1), Work(1, 10**6)], peak, 2) == pytest.approx(3)


def test_the_page_is_what_the_stored_runs_say():
    """docs/benchmarks.md is generated; editing it, or the runs, without doing so again shows here."""
    import json
    from pathlib import Path

    from ssn_bench.report import page

    docs = Path(__file__).parents[3] / "docs"
    runs = (json.loads((docs / f"benchmarks-{n}.json").read_text()) for n in ("run", "methods", "profile"))
    assert page.page(*runs, "benchmarks") == (docs / "benchmarks.md").read_text()
