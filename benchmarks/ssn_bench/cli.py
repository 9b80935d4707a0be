"""``ssn-bench``: a model file to milliseconds and images per second."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from ssn_bench import report, run
from ssn_edge.backends import BACKENDS
from ssn_edge.cli import one_line_errors
from ssn_edge.errors import BackendError
from ssn_edge.files import write_json


@click.command(
    epilog="""\b
Examples:
  ssn-bench model.onnx                          # the whole protocol: 1000 + 1000 calls, twice
  ssn-bench model.onnx --budget 30              # shortened to half a minute, and says so
  ssn-bench model.onnx --against runs/first     # beside the eager PyTorch model
  ssn-bench runs/first --plans                  # the fusion's plans, whole model and heads
  ssn-bench wide_resnet50_2 --plans --step      # random weights; the training step as well"""
)
@click.argument("model")
@click.option("--against", type=click.Path(path_type=Path), help="Run folder: time eager PyTorch too.")
@click.option("--backend", default="auto", show_default=True, type=click.Choice(["auto", *BACKENDS]))
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), help="Seconds for the whole run.")
@click.option("--out", type=click.Path(path_type=Path), help="[default: bench.json, or plans.json]")
@click.option("--plans", is_flag=True,
              help="Compare the plans; MODEL is a run folder, or a backbone for random weights.")
@click.option("--size", default="256x256", show_default=True, help="With --plans BACKBONE.")
@click.option("--step", is_flag=True, help="With --plans: time the training step too.")
@click.option("--half-seeds", default=0, show_default=True, type=click.IntRange(0),
              help="With --plans: FP16 errors over so many random weights, or of the run.")
@one_line_errors
def main(
    model: str, against: Optional[Path], backend: str, budget: Optional[float], out: Optional[Path],
    plans: bool, size: str, step: bool, half_seeds: int,
) -> None:
    """Time MODEL by EfficientAD's protocol on this device, beside the paper's figures.

    Latency at batch 1 and throughput at batch 16, from host memory and back; the result is printed
    and written to bench.json with everything it depends on.
    """
    if plans:
        _plans(model, size, step, half_seeds, out or Path("plans.json"))
        return
    out = out or Path("bench.json")
    document = run.bench(Path(model), against, backend, budget)
    write_json(out, document)
    click.echo(report.text(document))
    click.echo(f"wrote {out}")


def _plans(name: str, size: str, step: bool, half_seeds: int, out: Path) -> None:
    try:
        from ssn_bench import plans
        from ssn_train.settings import parse_size
    except ImportError as error:
        raise BackendError(f'--plans needs {error.name}; run: pip install "ssn-edge[demo]"') from None
    document = plans.bench(name, parse_size(size), step, half_seeds)
    write_json(out, document)
    plans.plot(document, out.with_suffix(".png"))
    click.echo(plans.text(document))
    click.echo(f"wrote {out} and {out.with_suffix('.png')}")
