"""The paper's counts and methods, held against Table 6 and against our own model."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="methods are built with torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from ssn_bench.comparison import claim, paper  # noqa: E402
from ssn_bench.measure import (  # noqa: E402
    contenders,  # noqa: E402
    )
from ssn_bench.methods import peers, random_models  # noqa: E402
from ssn_train.training.photo_loader import normalise  # noqa: E402


def test_the_papers_counts_are_reproduced():
    """34 M parameters, 9 M trained, 56.3 GFLOPs without the 5x5 convolution: exactly Table 6."""
    counts = claim.count("wide_resnet50_2", (256, 256))
    assert round(counts["parameters"] / 1e6) == 34 and round(counts["trained"] / 1e6) == 9
    assert round(counts["paper_flops"] / 1e9, 1) == 56.3
    assert round(counts["flops"] / 1e9, 1) == 96.6


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
