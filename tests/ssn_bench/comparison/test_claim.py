"""Verdicts on the paper's claims."""

import pytest

torch = pytest.importorskip("torch", reason="methods are built with torch")

from ssn_bench.comparison import claim  # noqa: E402


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


PAPERS = {
    "levels": ["8", "16"], "grid": [64, 64], "seg_width": 1024, "cls_width": 128, "cls_kernel": 5,
    "adaptor": True,
}


@pytest.mark.parametrize("change", [
    {"levels": ["block5", "block6"]}, {"grid": [32, 32]}, {"seg_width": 512}, {"cls_width": 0},
    {"cls_kernel": 3}, {"adaptor": False},
])
def test_another_network_is_not_the_papers(monkeypatch, change):
    """Neither its times nor its size say anything of the claims; nothing is counted for it."""
    assert claim.differences(entry(design=PAPERS)) == claim.differences(entry()) == []
    monkeypatch.setattr(claim, "count", None)
    found = claim.verdicts(entry(design={**PAPERS, **change}), 16_000_000_000)
    assert {row.verdict for row in found} == {"not comparable"}
    assert all("not the paper's network (features " in row.reason for row in found)
    counted = [row for row in found if row.figure.startswith(("parameters", "trained", "GFLOPs as"))]
    assert len(counted) == 4 and all(row.ours is None and row.ratio is None for row in counted)


def test_the_papers_map_at_odd_sizes():
    """Twice the first level's, whose convolutions round up."""
    from ssn_edge.model.schema import Network

    network = Network(**{**PAPERS, "grid": [160, 58]})
    assert claim.is_papers(network, [640, 232]) and not claim.is_papers(network, [640, 240])
