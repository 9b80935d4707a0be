"""``ssn-bench``: a model file to milliseconds and images per second."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from ssn_bench import report, run
from ssn_edge.backends import BACKENDS
from ssn_edge.cli import one_line_errors
from ssn_edge.files import write_json


@click.command(
    epilog="""\b
Examples:
  ssn-bench model.onnx                          # the whole protocol: 1000 + 1000 calls, twice
  ssn-bench model.onnx --budget 30              # shortened to half a minute, and says so
  ssn-bench model.onnx --against runs/first     # beside the eager PyTorch model"""
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), help="Run folder: time eager PyTorch too.")
@click.option("--backend", default="auto", show_default=True, type=click.Choice(["auto", *BACKENDS]))
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), help="Seconds for the whole run.")
@click.option("--out", default="bench.json", show_default=True, type=click.Path(path_type=Path))
@one_line_errors
def main(
    model: Path, against: Optional[Path], backend: str, budget: Optional[float], out: Path
) -> None:
    """Time MODEL by EfficientAD's protocol on this device, beside the paper's figures.

    Latency at batch 1 and throughput at batch 16, from host memory and back; the result is printed
    and written to bench.json with everything it depends on.
    """
    document = run.bench(model, against, backend, budget)
    write_json(out, document)
    click.echo(report.text(document))
    click.echo(f"wrote {out}")
