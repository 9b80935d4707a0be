"""The paper's tables, ours beside the paper's: Markdown, CSV and a picture. No torch."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ssn_edge.files import PathLike, replacing

AVERAGE = "average"
SPREADS = 2
"""A difference within so many standard deviations of our seeds is not marked."""


@dataclass(frozen=True)
class Figure:
    """One metric of one row in per cent: a value per seed, and the paper's (None: it has none)."""

    seeds: Sequence[float]
    paper: Optional[float] = None
    paper_deviation: Optional[float] = None

    @property
    def mean(self) -> float:
        return mean(self.seeds)

    @property
    def deviation(self) -> float:
        """Between seeds (n - 1); NaN for a single one."""
        return stdev(self.seeds) if len(self.seeds) > 1 else math.nan

    @property
    def mark(self) -> str:
        """How ours stands to the paper's: ``=`` within the spread, ``▲`` above, ``▼`` below; nothing
        for a single seed, whose spread is unknown."""
        if self.paper is None or math.isnan(self.deviation):
            return ""
        difference = self.mean - self.paper
        if abs(difference) <= SPREADS * self.deviation:
            return "="
        return "▲" if difference > 0 else "▼"


@dataclass(frozen=True)
class Row:
    name: str
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class Table:
    """``notes`` say what the figures are and are not."""

    title: str
    metrics: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()


def paper() -> Dict[str, Any]:
    """The paper's Tables 1 to 5, by number."""
    return json.loads(Path(__file__).with_name("paper.json").read_text(encoding="utf-8"))


def with_average(rows: Sequence[Row], metrics: Sequence[str], reference: Mapping[str, Any]) -> List[Row]:
    """``rows`` and their mean, taken seed by seed, so that its standard deviation is between runs of all."""
    figures = {}
    for metric in metrics:
        per_seed = [mean(values) for values in zip(*(row.figures[metric].seeds for row in rows))]
        figures[metric] = Figure(per_seed, *published(reference, AVERAGE, metric))
    return [*rows, Row(AVERAGE, figures)]


def published(reference: Mapping[str, Any], row: str, metric: str) -> List[Optional[float]]:
    """The paper's value and standard deviation of one row and metric, None where it has none."""
    found: List[Optional[float]] = []
    for kind in ("rows", "deviation"):
        values = reference.get(kind, {}).get(row)
        known = values is not None and metric in reference["metrics"]
        found.append(values[reference["metrics"].index(metric)] if known else None)
    return found


def markdown(table: Table) -> str:
    """The table as GitHub Markdown."""
    compared = [m for m in table.metrics if any(r.figures[m].paper is not None for r in table.rows)]
    header = [""]
    for metric in table.metrics:
        header += [metric, "paper", "difference"] if metric in compared else [metric]
    lines = [f"# {table.title}", "", _line(header), _line(["---"] * len(header))]
    for row in table.rows:
        cells = [f"**{row.name}**" if row.name == AVERAGE else row.name]
        for metric in table.metrics:
            figure = row.figures[metric]
            cells.append(_spread(figure.mean, figure.deviation))
            if metric in compared:
                cells += _beside(figure)
        lines.append(_line(cells))
    return "\n".join([*lines, "", *(f"* {note}" for note in table.notes)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _spread(value: float, deviation: Optional[float]) -> str:
    known = deviation is not None and not math.isnan(deviation)
    return f"{value:.1f} ± {deviation:.2f}" if known else f"{value:.1f}"


def _beside(figure: Figure) -> List[str]:
    if figure.paper is None:
        return ["-", "-"]
    difference = f"{figure.mean - figure.paper:+.1f} {figure.mark}".rstrip()
    return [_spread(figure.paper, figure.paper_deviation), difference]


def to_csv(table: Table) -> str:
    """One line a row and metric: means, standard deviations, the paper's, and every seed's value."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["row", "metric", "mean", "deviation", "seeds", "paper", "paper_deviation", "values"])
    for row in table.rows:
        for metric in table.metrics:
            f = row.figures[metric]
            paper_values = ["" if v is None else v for v in (f.paper, f.paper_deviation)]
            values = " ".join(f"{v:.4f}" for v in f.seeds)
            numbers = [f"{f.mean:.4f}", f"{f.deviation:.4f}", len(f.seeds)]
            writer.writerow([row.name, metric, *numbers, *paper_values, values])
    return file.getvalue()


def write(folder: Path, name: str, table: Table) -> List[Path]:
    """``name.md``, ``name.csv`` and ``name.png`` in ``folder``."""
    paths = [folder / f"{name}{suffix}" for suffix in (".md", ".csv", ".png")]
    for path, text in zip(paths, (markdown(table), to_csv(table))):
        with replacing(path) as temporary:
            Path(temporary).write_text(text, encoding="utf-8")
    picture(paths[2], table)
    return paths


def picture(path: PathLike, table: Table) -> None:
    """Each metric's rows on a line: every seed, their mean and standard deviation, and the paper's value."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    height = 1.3 + 0.36 * len(table.rows)
    figure, panels = plt.subplots(
        1, len(table.metrics), figsize=(1.8 + 3.1 * len(table.metrics), height), sharey=True, squeeze=False
    )
    places = range(len(table.rows))
    for axes, metric in zip(panels[0], table.metrics):
        for place, row in zip(places, table.rows):
            f = row.figures[metric]
            axes.plot(f.seeds, [place] * len(f.seeds), "o", color="#2a7f9e", alpha=0.35, markersize=4)
            spread = None if math.isnan(f.deviation) else f.deviation
            style = {"fmt": "o", "color": "#17546b", "capsize": 3, "label": "mean, standard deviation"}
            axes.errorbar(f.mean, place, xerr=spread, **style)
            if f.paper is not None:
                axes.plot(f.paper, place, "D", color="#c8452f", markersize=5, label="paper")
        axes.set(xlabel=f"{metric} [%]", yticks=places, yticklabels=[r.name for r in table.rows])
        axes.grid(axis="x", alpha=0.3)
    panels[0][0].invert_yaxis()
    handles, labels = panels[0][0].get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    figure.legend(unique.values(), unique, loc="upper right", frameon=False, ncol=2)
    figure.suptitle(table.title, x=0.02, ha="left", fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
