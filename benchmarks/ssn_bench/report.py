"""The benchmark's result as a document and as text, beside the paper's claim."""

from __future__ import annotations

from typing import Any, Dict, List

PAPER = {
    "device": "NVIDIA Tesla V100S",
    "precision": "float16",
    "latency_ms": 9.3,
    "images_per_second": 268.8,
    "backbone": "wide_resnet50_2",
    "size": [256, 256],
    "source": "SuperSimpleNet (ICPR 2024), Table 6",
}


def comparability(backbone: str, size: List[int], precision: str, device: str) -> str:
    """One sentence: are these figures and the paper's about the same thing?"""
    differences = []
    if "V100S" not in device:
        differences.append(f"device ({device} against {PAPER['device']})")
    if precision != PAPER["precision"]:
        differences.append(f"precision ({precision} against {PAPER['precision']})")
    if backbone != PAPER["backbone"]:
        differences.append(f"backbone ({backbone} against {PAPER['backbone']})")
    if list(size) != PAPER["size"]:
        found, paper = ("x".join(map(str, pair)) for pair in (size, PAPER["size"]))
        differences.append(f"input size ({found} against {paper})")
    if not differences:
        return "Comparable with the paper's figures: same device, precision, backbone and size."
    return f"Not comparable with the paper's figures: another {', another '.join(differences)}."


def text(document: Dict[str, Any]) -> str:
    """The table that ssn-bench prints."""
    env = document["environment"]
    clock = f"{env['clock_mhz']:.0f} MHz" if env["clock_mhz"] else "clock unknown"
    lines = [
        f"{env['device']}, {env['processors']} processors, governor {env['governor'] or 'unknown'}, "
        f"{clock}, load {env['load_1min']}",
        f"{'':34s}{'batch':>6s}{'median':>9s}{'mean':>9s}{'dev.':>8s}{'p99':>9s}{'img/s':>9s}",
    ]
    for entry in document["measurements"]:
        for timing in (entry["latency"], entry["throughput"]):
            lines.append(
                f"{entry['name'][:33]:34s}{timing['batch']:6d}{timing['median_ms']:9.2f}"
                f"{timing['mean_ms']:9.2f}{timing['deviation_ms']:8.2f}{timing['p99_ms']:9.2f}"
                f"{timing['images_per_second']:9.1f}"
            )
    paper = document["paper"]
    lines.append(
        f"{'paper: ' + paper['device']:34s}{1:6d}{'':9s}{paper['latency_ms']:9.2f}"
        f"{'':17s}{paper['images_per_second']:9.1f}"
    )
    lines += [document["comparability"], *document["notes"]]
    return "\n".join(lines)
