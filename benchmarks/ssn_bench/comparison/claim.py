"""The paper's claims beside what was measured, figure by figure, with a verdict for each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ssn_bench.comparison import paper
from ssn_edge.errors import needs
from ssn_edge.model.schema import Network

TOLERANCE = 0.05
"""Timings and memory within it count as reproduced; counts must agree to the digits printed."""


@dataclass(frozen=True)
class ClaimVerdict:
    """One figure of Table 6: ``ratio`` is ours over the paper's, ``verdict`` reproduced, better, worse
    or not comparable, and ``reason`` why."""

    figure: str
    paper: float
    ours: Optional[float]
    verdict: str
    reason: str = ""

    @property
    def ratio(self) -> Optional[float]:
        return None if self.ours is None else self.ours / self.paper


def differences(about: Mapping[str, Any]) -> List[str]:
    """What makes a contender's timings another thing than the paper's; empty if nothing does."""
    table, found = paper.TABLE, []
    if "V100S" not in about["device"]:
        found.append(f"another device ({about['device']})")
    if about["precision"] != table["precision"]:
        found.append(f"{about['precision']} instead of {table['precision']}")
    if about["backbone"] != table["backbone"]:
        found.append(f"backbone {about['backbone']}")
    if list(about["size"]) != table["size"]:
        found.append("input " + "x".join(map(str, about["size"])))
    design = about.get("design")
    if design is not None and not is_papers(Network(**design), about["size"]):
        found.append(f"not the paper's network ({Network(**design).words})")
    return found


def is_papers(network: Network, size: Sequence[int]) -> bool:
    """Whether a file of this input size is built as published (sections 3.1 and 3.4)."""
    grid = tuple(2 * -(-pixels // 8) for pixels in size)
    return network == Network(("8", "16"), (grid[0], grid[1]), 1024, 128, 5, True)


def verdicts(entry: Mapping[str, Any], macs_deployed: Optional[int]) -> List[ClaimVerdict]:
    """Every figure of Table 6 for one contender of a run.

    Parameters and FLOPs are counted on the PyTorch model of the contender's backbone and size, which
    needs torch; ``macs_deployed`` of the file that was timed, None where they cannot be counted.
    """
    differs = differences(entry)
    other = [d for d in differs if d.startswith(("backbone", "input", "not the paper's"))]
    counts: Mapping[str, float] = {}  # of the paper's network alone
    if not any(d.startswith("not the paper's") for d in other):
        counts = count(entry["backbone"], tuple(entry["size"]))
    throughput = entry.get("throughput")
    missing = "not measured: --protocol supersimplenet does"
    batch = "" if not throughput or throughput["batch"] == 16 else f"; batch {throughput['batch']}, not 16"
    rate = throughput and throughput["images_per_second"]
    memory = entry.get("memory", {}).get("peak_mb")
    rows = [
        _measured("latency, ms", _paper("ms"), entry["latency"]["mean_ms"], differs),
        _measured("throughput, img/s", _paper("images_per_second"), rate, differs, missing, higher=True),
        _counted("parameters, 10^6", _paper("parameters_m"), counts.get("parameters"), 1e6, other, 0),
        _counted("trained parameters, 10^6", paper.TABLE["trained_m"], counts.get("trained"), 1e6, other, 0),
        _counted("GFLOPs as the paper counts (no 5x5)", _paper("gflops"), counts.get("paper_flops"), 1e9,
                 other, 1),
        _counted("GFLOPs as trained (with the 5x5)", _paper("gflops"), counts.get("flops"), 1e9,
                 [*other, "the paper leaves the 5x5 convolution out"], 1),
        _measured("GFLOPs of the file that ran", _paper("gflops"),
                  macs_deployed and 2 * macs_deployed / 1e9, other, "needs onnx and an .onnx file"),
        _measured("memory, MB", _paper("memory_mb"), memory, differs, missing),
    ]
    return [
        ClaimVerdict(r.figure, r.paper, r.ours, r.verdict, r.reason + (batch if "img/s" in r.figure else ""))
        for r in rows
    ]


def _paper(column: str) -> float:
    value = paper.figure(paper.OURS, column)
    assert value is not None
    return value


def _measured(
    name: str, published: float, ours: Optional[float], differs: List[str], missing: str = "not measured",
    higher: bool = False,
) -> ClaimVerdict:
    if ours is None:
        return ClaimVerdict(name, published, None, "not comparable", missing)
    if differs:
        return ClaimVerdict(name, published, ours, "not comparable", "; ".join(differs))
    ratio = ours / published
    if abs(ratio - 1) <= TOLERANCE:
        return ClaimVerdict(name, published, ours, "reproduced", f"within {TOLERANCE:.0%}")
    return ClaimVerdict(name, published, ours, "better" if (ratio > 1) == higher else "worse")


def _counted(
    name: str, published: float, found: Optional[float], unit: float, differs: List[str], digits: int
) -> ClaimVerdict:
    ours = None if found is None else found / unit
    if ours is None or differs:
        return ClaimVerdict(name, published, ours, "not comparable", "; ".join(differs))
    if round(ours, digits) == published:
        return ClaimVerdict(name, published, ours, "reproduced", "to the digits printed")
    return ClaimVerdict(name, published, ours, "better" if ours < published else "worse")


def as_dict(rows: List[ClaimVerdict]) -> List[Dict[str, Any]]:
    return [{**asdict(row), "ratio": row.ratio} for row in rows]


@lru_cache(maxsize=None)
def count(backbone: str, size_hw: Tuple[int, int]) -> Dict[str, int]:
    """``parameters``, ``trained`` ones, ``flops`` by torch's counter (two a MAC) of SuperSimpleNet as
    published, its 25 x 25 blur included, and ``paper_flops`` without the 5x5 convolution. Needs torch."""
    with needs("demo", "--claim counts parameters"):
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from ssn_bench.methods import peers
        from ssn_train.network import backbones
        from ssn_train.network.model import SuperSimpleNet
    made = backbones.create(backbone)
    model = SuperSimpleNet(made.module, made.channels, size_hw).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        peers.Published(model.requires_grad_(False))(torch.zeros(1, 3, *size_hw))
    by_module = counter.get_flop_counts()
    (block,) = [n for n in by_module if n.endswith("discriminator.dec_head")]
    heads = [p for part in (model.feature_adaptor, model.discriminator) for p in part.parameters()]
    flops = counter.get_total_flops()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": sum(p.numel() for p in heads),
        "flops": flops,
        "paper_flops": flops - sum(by_module[block].values()),
    }
