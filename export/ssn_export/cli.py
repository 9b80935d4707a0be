"""``ssn-export``: a run folder to a deployable model file."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from ssn_edge.backends import BACKENDS
from ssn_edge.cli import one_line_errors
from ssn_edge.errors import BackendError


@click.command(
    epilog="""\b
Examples:
  ssn-export runs/first --out model.onnx
  ssn-export runs/first --out model.onnx --fp16        # model.fp16.onnx as well
  ssn-export runs/first --out model.onnx --plan none   # no fusion, for comparison
  ssn-export runs/first --out model.onnx --verdict     # outputs mask and is_defect as well
  ssn-export runs/first --out model.onnx --frame 1080x1920 --data frames/"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Model file.  [default: RUN/model.onnx]")
@click.option("--fp16", is_flag=True, help="Also write a typed half-precision graph, NAME.fp16.onnx.")
@click.option("--data", type=click.Path(path_type=Path),
              help="Images to compare on.  [default: RUN/reference]")
@click.option("--plan", default="auto", show_default=True,
              type=click.Choice(["auto", "none", "adaptor", "full", "row-first"]),
              help="How the heads are computed; auto times all and takes the fastest.")
@click.option("--backend", default="auto", show_default=True, type=click.Choice(["auto", *BACKENDS]),
              help="Library that --plan auto times on.")
@click.option("--frame", help="Camera resolution HxW: frames go in as they are, the graph resizes.")
@click.option("--verdict", is_flag=True, help="Thresholds in the graph: outputs mask and is_defect, uint8.")
@one_line_errors
def main(run: Path, out: Optional[Path], fp16: bool, data: Optional[Path], plan: str, backend: str,
         frame: Optional[str], verdict: bool) -> None:
    """Export the trained model in RUN to ONNX, once it agrees with PyTorch on real images.

    The file describes itself: input size, verdict and thresholds, backbone, and the errors
    measured against the trained model are inside. Beyond tolerance nothing is written.
    """
    try:
        from ssn_export import run as export_run
        from ssn_train.settings import parse_size
    except ImportError as error:
        raise BackendError(f'{error.name} is missing; run: pip install "ssn-edge[export]"') from None
    size = parse_size(frame, "--frame") if frame else None
    request = export_run.Request(
        out or run / "model.onnx", fp16, data, plan, backend, size, verdict
    )
    paths = export_run.export(run, request, click.echo)
    for path in paths:
        click.echo(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    click.echo(f"Next: ssn-run {paths[0]} SOURCE, or ssn-bench {paths[0]}")
