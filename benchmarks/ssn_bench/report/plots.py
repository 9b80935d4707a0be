"""Pictures of a run, PNG or SVG by the name's ending. matplotlib is imported when one is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping

from ssn_bench.comparison import paper
from ssn_edge.files import replacing


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format=path.suffix[1:], metadata=_undated(path))


def _undated(path: Path) -> Dict[str, Any]:
    """The same picture is the same file."""
    return {"Date": None} if path.suffix == ".svg" else {}


def latency(document: Mapping[str, Any], path: Path) -> None:
    """Every contender's milliseconds: box of the quartiles, median, tenth and ninetieth percentile."""
    names = [row["name"] for row in document["ranking"]][::-1]
    samples = document["samples"]["latency"]["wall"]
    figure = _figure(8, 1.4 + 0.42 * len(names))
    axis = figure.subplots()
    ratios = {row["name"]: row["ratio"] for row in document["ranking"]}
    for place, name in enumerate(names):
        low, lower, middle, upper, high = (_quantile(samples[name], q) for q in (0.1, 0.25, 0.5, 0.75, 0.9))
        axis.hlines(place, low, high, color="black", linewidth=1)
        axis.barh(place, upper - lower, left=lower, height=0.5, facecolor="white", edgecolor="black")
        axis.vlines(middle, place - 0.25, place + 0.25, color="tab:orange", linewidth=2)
        if ratios[name] != 1:
            where = {"xytext": (6, -3), "textcoords": "offset points", "fontsize": 8}
            axis.annotate(f"{ratios[name]:.2f}x", (high, place), **where)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlim(0, 1.1 * max(_quantile(samples[name], 0.9) for name in names))
    axis.set_xlabel("milliseconds an image; box: quartiles, whiskers: 10 % and 90 %; factor: to the fastest")
    short = ", shortened" if document["shortened"] else ""
    axis.set_title(f"{document['environment']['device']}, {document['protocol']['name']}{short}", fontsize=10)
    save(figure, path)


def _quantile(values: List[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def scatter(document: Mapping[str, Any], path: Path) -> bool:
    """Figure 1 for this device: latency here against the published I-AUROC on MVTec AD, sized by
    parameters as published; False, and no file, where fewer than two methods have a published figure."""
    entries = [e for e in document["contenders"] if paper.figure(e["method"], "i_auroc")]
    if len({e["method"] for e in entries}) < 2:
        return False
    figure = _figure(8, 5)
    axis = figure.subplots()
    libraries = sorted({e["backend"].split()[0] for e in entries})
    for library, marker in zip(libraries, "osD^v"):
        ours = [e for e in entries if e["backend"].split()[0] == library]
        axis.scatter(
            [e["latency"]["median_ms"] for e in ours],
            [paper.figure(e["method"], "i_auroc") for e in ours],
            s=[4 * (paper.figure(e["method"], "parameters_m") or 15) for e in ours],
            alpha=0.6, marker=marker, label=library,
        )
    fastest: Dict[str, Any] = {}  # a name once, at its fastest back end
    for entry in sorted(entries, key=lambda e: e["latency"]["median_ms"]):
        fastest.setdefault(entry["name"].split(",")[0], entry)
    for name, entry in fastest.items():
        above = (paper.figure(entry["method"], "parameters_m") or 15) ** 0.5 + 3
        place = entry["latency"]["median_ms"], paper.figure(entry["method"], "i_auroc")
        axis.annotate(name, place, (0, above), textcoords="offset points", ha="center", fontsize=8)
    axis.set_xscale("log", subs=(2, 5))
    for numbers in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
        numbers("{x:g}")
    axis.set_xlabel(f"ms an image, batch 1, median; {document['environment']['device']}")
    axis.set_ylabel("published I-AUROC on MVTec AD, %")
    axis.margins(0.12)
    legend = axis.legend(fontsize=8)
    for handle in legend.legend_handles:
        handle.set_sizes([40])
    save(figure, path)
    return True


def stages(document: Mapping[str, Any], path: Path) -> None:
    """Bars of each profiled model's milliseconds by stage."""
    profiles = document["profiles"]
    figure = _figure(8, 1.5 + 0.45 * len(profiles))
    axis = figure.subplots()
    names = list(dict.fromkeys(row["stage"] for one in profiles for row in one["stages"]))
    left = [0.0] * len(profiles)
    for stage in names:
        widths = [
            next((row["ms"] for row in one["stages"] if row["stage"] == stage), 0.0) for one in profiles
        ]
        axis.barh(range(len(profiles)), widths, left=left, label=stage, height=0.6)
        left = [a + b for a, b in zip(left, widths)]
    axis.set_yticks(range(len(profiles)), [one["name"] for one in profiles], fontsize=8)
    axis.set_xlabel("milliseconds an image, under the profiler")
    figure.legend(loc="outside upper center", ncol=len(names), fontsize=8)
    save(figure, path)
