"""``ssn-train``: a folder of photos to a run folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Dict, Optional

import click

from ssn_edge.cli import one_line_errors
from ssn_edge.errors import InputError


@click.command(
    epilog="""\b
Examples:
  ssn-train photos/ --out runs/first                   # photos/good, and photos/bad if there is one
  ssn-train mvtec/bottle --out runs/bottle --backbone wide_resnet50_2
  ssn-train photos/ --out runs/quick --steps 600 --batch 8 --lr-scale 3
  ssn-train photos/ --out runs/first --resume          # after Ctrl-C or a power cut"""
)
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", "run", required=True, type=click.Path(path_type=Path), help="Run folder to make.")
@click.option("--backbone", default="efficientnet_lite0", show_default=True,
              help="wide_resnet50_2 (the paper's), resnet18, resnet50, or any timm model.")
@click.option("--weights", help="A .safetensors or .pth file, or 'random'; default: package or download.")
@click.option("--variant", default="icpr", show_default=True, type=click.Choice(["icpr", "jims"]),
              help="Classification head on adapted features (icpr) or on those before the adaptor.")
@click.option("--size", default="256x256", show_default=True, help="Model input, HxW in pixels.")
@click.option("--epochs", default=300, show_default=True, type=click.IntRange(min=1))
@click.option("--steps", type=click.IntRange(min=1), help="Length in steps, in place of --epochs.")
@click.option("--batch", default=32, show_default=True, type=click.IntRange(min=2))
@click.option("--lr-scale", default=1.0, show_default=True, type=click.FloatRange(min=0, min_open=True),
              help="Factor on the paper's learning rates; 3 suits short runs.")
@click.option("--noise", type=click.FloatRange(min=0, min_open=True),
              help="Deviation of the synthetic anomalies.  [default: 0.015 for wide_resnet50_2, else 0.3]")
@click.option("--perlin-threshold", default=0.2, show_default=True, type=float,
              help="0.2 for large defects, 0.6 for small and thin ones.")
@click.option("--holdout", default=0.1, show_default=True, type=click.FloatRange(0, 0.5),
              help="Share of good photos kept back to calibrate the thresholds.")
@click.option("--verdict-source", default="score", show_default=True,
              type=click.Choice(["score", "map_max"]),
              help="What decides OK or NG: classification score, or the map's maximum.")
@click.option("--seed", default=42, show_default=True, type=click.IntRange(min=0))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--workers", default=os.cpu_count() or 1, show_default="processors",
              type=click.IntRange(min=1), help="Threads that read photos.")
@click.option("--plain", is_flag=True, help="The naive step, as a reference: same loss, slower.")
@click.option("--bfloat16", is_flag=True,
              help="Large products in bfloat16: twice as fast where the processor has AMX.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run, same options.")
@one_line_errors
def main(data: Path, run: Path, size: str, lr_scale: float, noise: Optional[float], device: str,
         workers: int, resume: bool, **options: Any) -> None:
    """Train SuperSimpleNet on the good photos in DATA and evaluate it on the labelled ones.

    DATA is a folder of photos (good/, optionally bad/ and masks/), an MVTec AD category, or the
    magnetic tile data set. The run folder holds the model, metrics.json, predictions.csv and
    pictures; ssn-export takes it from there.
    """
    from ssn_train import datasets

    dataset = datasets.open_dataset(data)
    click.echo(dataset.describe())

    import torch

    from ssn_train import run as training_run
    from ssn_train.fit import Interrupted
    from ssn_train.settings import Settings, parse_size

    settings = Settings(size=parse_size(size), rate_scale=lr_scale, noise_std=noise, **options)
    try:
        document = training_run.train(dataset, settings, run, _device(device), workers, resume)
    except Interrupted as stop:
        click.echo(f"{stop}; go on with the same command and --resume", err=True)
        sys.exit(130)
    except torch.OutOfMemoryError:
        raise InputError(f"--batch {settings.batch}: out of GPU memory; halve it") from None
    _print(document, run)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0][:100]}; use cpu") from None
    return name


def _print(document: Dict[str, Any], run: Path) -> None:
    for name, value in document["metrics"].items():
        click.echo(f"  {name:24s} {value:.4f}")
    for kind, row in document.get("per_defect", {}).items():
        click.echo(
            f"  {kind:24s} {row['I-AUROC']:.4f} by score, "
            f"{row['I-AUROC (map maximum)']:.4f} by map maximum ({row['n']} images)"
        )
    verdict = document["verdict"]
    click.echo(
        f"  NG from {verdict['source']} >= {verdict['image_threshold']:.4g} "
        f"({verdict['method']}, n = {verdict['n']})"
    )
    if "at_threshold" in document:
        counts = ", ".join(f"{v} {k}" for k, v in document["at_threshold"].items())
        click.echo(f"  at this threshold: {counts}")
    click.echo(f"{run}: model, metrics.json, pictures.  Next: ssn-export {run} --out model.onnx")
