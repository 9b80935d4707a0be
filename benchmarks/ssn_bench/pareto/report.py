"""The study as a table, a picture, and lines of a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ssn_bench.pareto.candidates import TODAY
from ssn_bench.report import plots
from ssn_edge.files import replacing

Document = Mapping[str, Any]


def text(document: Document) -> str:
    """Tables of all candidates, of the finalists, of the third fold and of the differences."""
    seeds = document["seeds"]
    lines = [f"every candidate, trained on one fold and tested on another, both ways, one seed (of {seeds}):"]
    lines += _table(document["candidates"], document.get("latency", {}))
    lines += ["", f"the best and the bar, {seeds} seeds, both ways:", *_table(document["finalists"], {})]
    lines += ["", "trained on both, tested on the third:", *_table(document["confirmed"], {})]
    for part, title in (("choosing", "both ways"), ("confirmed", "the third fold")):
        lines += ["", f"differences in I-AUROC, paired by parts, 95 % intervals, {title}:"]
        for name, found in document["differences"][part].items():
            lines.append(f"  {name:58s} {found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]")
    if document.get("curve"):
        lines += ["", "the third fold, by the number of sound photos that were trained on, I-AUROC:"]
        lines += _curve(document["curve"])
    return "\n".join(lines)


def _table(rows: Sequence[Document], latency: Mapping[str, Mapping[str, Any]]) -> List[str]:
    faster = {name: _faster(times) for name, times in latency.items()}
    head = f"  {'':32s} runs  I-AUROC, 95 % interval   sd    by score AUPRO  caught at 5, 10 %"
    lines = [head + "".join(f"  {name[:11]:>11s}" for name in faster)]
    for row in sorted(rows, key=lambda one: -one["I-AUROC"]["value"]):
        auroc = row["I-AUROC"]
        line = (
            f"  {row['name']:32s} {row['runs']:4d}  "
            f"{auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]  {row['deviation']:.3f}  "
            f"{row['I-AUROC by score']:.3f}   {_three(row['AUPRO'])}  "
            f"{100 * row['caught at 0.05']['value']:5.1f} {100 * row['caught at 0.1']['value']:5.1f}   "
        )
        lines.append(line + "".join(f"  {_times(found.get(row['name'])):>11s}" for found in faster.values()))
    return lines


def _three(value: Optional[float]) -> str:
    return "  -  " if value is None else f"{value:.3f}"


def _times(factor: Optional[float]) -> str:
    return "-" if factor is None else f"{factor:.2f}x"


def _faster(times: Mapping[str, Any]) -> Dict[str, float]:
    """How many times as fast as before, by candidate."""
    return {name: times[TODAY]["median_ms"] / one["median_ms"] for name, one in times.items()}


def _curve(rows: Sequence[Document]) -> List[str]:
    photos = sorted({row["photos"] for row in rows})
    lines = ["  " + " " * 22 + "".join(f"{count:>22d}" for count in photos)]
    for name in dict.fromkeys(row["name"] for row in rows):
        found = {row["photos"]: row for row in rows if row["name"] == name}
        cells = [
            f"{found[n]['I-AUROC']['value']:.3f} (sd {found[n]['deviation']:.3f})" if n in found else "-"
            for n in photos
        ]
        lines.append(f"  {name:22s}" + "".join(f"{cell:>22s}" for cell in cells))
    return lines


def write_csv(document: Document, path: Path) -> None:
    """One line a candidate and table."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([
            "table", "name", "runs", "I-AUROC", "low", "high", "deviation", "I-AUROC by map",
            "I-AUROC by score", "AUPRO", "caught at 5 %", "caught at 10 %",
        ])
        for table in ("candidates", "finalists", "confirmed"):
            for row in document[table]:
                values = [
                    *row["I-AUROC"].values(),
                    *(row[key] for key in ("deviation", "I-AUROC by map", "I-AUROC by score", "AUPRO")),
                    row["caught at 0.05"]["value"], row["caught at 0.1"]["value"],
                ]
                texts = ("" if value is None else f"{value:.4f}" for value in values)
                writer.writerow([table, row["name"], row["runs"], *texts])


def picture(document: Document, path: Path) -> None:
    """I-AUROC against speed, against training time, and over the number of photos."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5.2), layout="constrained")
    speed, training, photos = figure.subplots(1, 3)
    best = {row["name"]: row for row in document["finalists"]}
    rows = [best.get(row["name"], row) for row in document["candidates"]]
    for library, marker in zip(document.get("latency", {}), "os^"):
        faster = _faster(document["latency"][library])
        _scatter(speed, [(faster[r["name"]], r) for r in rows if r["name"] in faster], marker, library, 1)
    speed.set_xlabel("times as fast as before, whole model, batch 1")
    timed = [(row["seconds"].get("cpu"), row) for row in rows]
    known = [(seconds, row) for seconds, row in timed if seconds]
    _scatter(training, known, "o", "trained or fitted on the CPU", -1)
    for axis in (training, photos):
        axis.set_xscale("log", subs=(2, 5))
        for numbers in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
            numbers("{x:g}")
    training.set_xlabel("seconds of training, features apart")
    for axis in (speed, training):
        axis.set_ylabel("I-AUROC of the verdict, 95 % interval over parts")
        axis.legend(fontsize=8, loc="lower right")
    for name in dict.fromkeys(row["name"] for row in document.get("curve", [])):
        found = sorted((r for r in document["curve"] if r["name"] == name), key=lambda r: r["photos"])
        photos.errorbar(
            [r["photos"] for r in found], [r["I-AUROC"]["value"] for r in found],
            yerr=[r["deviation"] for r in found], marker="o", markersize=4, capsize=2, label=name,
        )
    photos.set_xlabel("sound photos to train on")
    photos.set_ylabel("I-AUROC, third fold; bars: deviation over seeds")
    photos.legend(fontsize=8)
    plots.save(figure, path)


def _scatter(axis: Any, points: Sequence[Any], marker: str, label: str, better: int) -> None:
    """Only points that no other beats in both have a name, and what was before; ``better``: 1 where more is,
    -1 where less is."""
    if not points:
        return
    xs, values = [x for x, _ in points], [row["I-AUROC"]["value"] for _, row in points]
    lows = [row["I-AUROC"]["value"] - row["I-AUROC"]["low"] for _, row in points]
    highs = [row["I-AUROC"]["high"] - row["I-AUROC"]["value"] for _, row in points]
    axis.errorbar(
        xs, values, yerr=[lows, highs], fmt=marker, markersize=5, linewidth=0.4, label=label, alpha=0.8
    )
    if marker == "o":
        for x, value, (_, row) in zip(xs, values, points):
            beaten = any(better * a > better * x and b > value for a, b in zip(xs, values))
            if not beaten or row["name"] == TODAY:
                axis.annotate(row["name"], (x, value), (5, 3), textcoords="offset points", fontsize=7)
