"""``python -m ssn_bench.promises``: promised and observed false alarms."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Tuple

import click

from ssn_bench.measure import environment
from ssn_bench.promises.judged import Row, table
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.files import check_writable, write_json


@click.group()
def main() -> None:
    """Thresholds from some parts, held against others: what was promised, what was observed."""


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", default="promises/tiles", show_default=True, type=click.Path(path_type=Path))
@click.option("--splits", default=5, show_default=True, type=click.IntRange(1, 100))
@click.argument("more", nargs=-1)
@one_line_errors
def tiles(data: Path, out: Path, splits: int, more: Tuple[str, ...]) -> None:
    """Magnetic tiles in DATA, split anew by tile: trained, calibrated and tested on others. MORE are
    ssn-train's options, behind --."""
    from ssn_bench.promises import tiles as experiment

    check_writable(out / "promises.json")
    rows = experiment.run(data, out, splits, more)
    _write(out / "promises.json", rows, {"splits": splits, "training": list(more)})


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--out", default="promises/surfaces.json", show_default=True, type=click.Path(path_type=Path))
@click.option("--texture", default="fabric", show_default=True)
@click.option("--known", default=240, show_default=True, type=click.IntRange(min=1),
              help="Sound photos to calibrate on.")
@click.option("--sound", default=2000, show_default=True, type=click.IntRange(min=1),
              help="Others, to count.")
@click.option("--defects", default=50, show_default=True, type=click.IntRange(min=1), help="Of each kind.")
@one_line_errors
def surfaces(model: Path, out: Path, texture: str, known: int, sound: int, defects: int) -> None:
    """Made-up photos of the demo's texture, which MODEL, the demo's, was trained on."""
    from ssn_bench.demo.surfaces import FIELD
    from ssn_bench.promises import surfaces as experiment

    check_writable(out)
    rows = experiment.run(model, texture, known, sound, defects, FIELD)
    _write(out, rows, {"texture": texture, "known": known, "sound": sound, "defects": defects})


def _write(out: Path, rows: List[Row], settings: Dict[str, Any]) -> None:
    write_json(out, {
        "schema": 1, "kind": "promises", "settings": settings, "environment": environment.describe(),
        "rows": [dataclasses.asdict(row) for row in rows],
    })
    for line in table(rows):
        click.echo(line)
    click.echo(f"{out}: every row")


if __name__ == "__main__":
    main()
