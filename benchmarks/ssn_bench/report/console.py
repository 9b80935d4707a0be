"""A run's document as text: who is how fast, what the paper claims, what was not measured."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from ssn_bench.comparison import paper


def text(document: Mapping[str, Any]) -> str:
    """What ``ssn-bench`` prints of a timing run."""
    lines = [machine(document["environment"]), _protocol(document), "", *ranking(document)]
    name = claimant(document)
    if name:
        lines += ["", f"The paper's claims, {paper.TABLE['device']}, and {name}:"]
        lines += claim(document["claim"][name])
        if len(document["claim"]) > 1:
            lines.append(f"  (the fastest; {len(document['claim']) - 1} more in the JSON file)")
    return "\n".join([*lines, "", *watched(document), *document["notes"]])


def machine(env: Mapping[str, Any]) -> str:
    clock = f"{env['clock_mhz']:.0f} MHz" if env["clock_mhz"] else "clock unknown"
    gpu = f"{env['gpu']}, " if env.get("gpu") else ""
    return (
        f"{gpu}{env['device']}, {env['processors']} CPUs {env['affinity']}, governor "
        f"{env['governor'] or 'unknown'}, {clock}, load {env['load_1min']}"
    )


def _protocol(document: Mapping[str, Any]) -> str:
    warm_up = document["samples"]["latency"]["warm_up"]
    counts = document["contenders"][0]["latency"]["repetitions"]
    return (
        f"protocol {document['protocol']['name']}"
        f"{', shortened' if document['shortened'] else ''}: {warm_up} warm-up and {counts} timed calls each"
    )


def ranking(document: Mapping[str, Any]) -> List[str]:
    """The table, fastest first; "indistinguishable" where the interval says so."""
    entries = {entry["name"]: entry for entry in document["contenders"]}
    width = max(28, *(len(name) for name in entries)) + 2
    head = f"{'':{width}s}{'median ms':>10s}{'mean':>9s}{'dev.':>8s}{'p99':>9s}{'img/s':>8s}{'at 16':>8s}"
    lines = [head + f"{'GFLOPs':>8s}  times the fastest [95 %]"]
    for place, row in enumerate(document["ranking"]):
        entry = entries[row["name"]]
        timing = entry["latency"]
        rate = entry.get("throughput")
        gflops = f"{2 * entry['macs'] / 1e9:8.1f}" if entry.get("macs") else f"{'-':>8s}"
        lines.append(
            f"{row['name']:{width}s}{timing['median_ms']:10.2f}{timing['mean_ms']:9.2f}"
            f"{timing['deviation_ms']:8.2f}{timing['p99_ms']:9.2f}{timing['images_per_second']:8.1f}"
            + (f"{rate['images_per_second']:8.1f}" if rate else f"{'-':>8s}") + gflops
            + (f"  {ratio(row)}" if place else "")
        )
        if row["indistinguishable_from"]:
            lines.append(f"{'':{width}s}indistinguishable from {'; '.join(row['indistinguishable_from'])}")
        if "device_median_ms" in timing:
            lines.append(f"{'':{width}s}{timing['device_median_ms']:10.2f} by the GPU's own clock")
        extra = _extra(entry)
        if extra:
            lines.append(f"{'':{width}s}{extra}")
    return lines


def ratio(row: Mapping[str, Any]) -> str:
    """``2.05 [2.01, 2.10]``."""
    low, high = row["interval"]
    return f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]"


def _extra(entry: Mapping[str, Any]) -> str:
    found = []
    memory = entry.get("memory", {})
    if memory.get("peak_mb"):
        found.append(f"memory {memory['peak_mb']:.0f} MB ({memory['what']})")
    if "energy" in entry:
        energy = entry["energy"]
        found.append(f"{energy['joules_per_image']:.3g} J an image ({energy['sensor']}, idle included)")
    return ", ".join(found)


def claim(rows: List[Dict[str, Any]]) -> List[str]:
    """One line a figure of Table 6."""
    lines = [f"  {'':37s}{'paper':>8s}{'ours':>9s}{'ratio':>7s}  verdict"]
    for row in rows:
        ours, times = number(row["ours"]), number(row["ratio"], 2)
        reason = f" ({row['reason']})" if row["reason"] else ""
        lines.append(
            f"  {row['figure']:37s}{row['paper']:8g}{ours:>9s}{times:>7s}  {row['verdict']}{reason}"
        )
    return lines


def claimant(document: Mapping[str, Any]) -> Optional[str]:
    """The fastest contender that the claims are held against; None without ``--claim``."""
    claims = document.get("claim", {})
    return next((row["name"] for row in document["ranking"] if row["name"] in claims), None)


def number(value: Optional[float], digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def watched(document: Mapping[str, Any]) -> List[str]:
    """What the sensors saw, a line each."""
    lines = []
    for name, found in document["sensors"].items():
        if isinstance(found, dict):
            lines.append(
                f"{name}: {found['median']:.0f} ({found['min']:.0f} to {found['max']:.0f})"
            )
        else:
            lines.append(f"{name}: +{found:.1f}")
    if document["throttled"]:
        lines.append("THROTTLED: the device slowed itself down during the run; cool it and repeat.")
    return lines
