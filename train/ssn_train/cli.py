"""``ssn-train``: a folder of photos to a run folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import click
from click.core import ParameterSource

from ssn_edge import inventory
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.errors import InputError, needs
from ssn_edge.model.schema import GEOMETRIES, VERDICT_SOURCES, Verdict
from ssn_edge.values import share, size_hw, whole_number
from ssn_edge.verdict.promise import Promise
from ssn_train.data import accounts, datasets
from ssn_train.data.checking import BITS
from ssn_train.data.datasets import DataSet
from ssn_train.options import defaults, known
from ssn_train.options.settings import METHODS, TRAINERS, Settings, presets
from ssn_train.report import line_figures

MOST_FOLDS = 20


def _use_preset(context: click.Context, option: click.Parameter, name: Optional[str]) -> Optional[str]:
    """The preset's values become the defaults; what is given by hand wins."""
    if name is not None:
        context.default_map = {**(context.default_map or {}), **presets()[name]["options"]}
    return name


@click.command(
    epilog="""\b
Examples:
  ssn-train photos/ --out runs/first                   # photos/good, and photos/bad if there is one
  ssn-train mvtec/bottle --out runs/bottle --backbone wide_resnet50_2
  ssn-train photos/ --out runs/long --budget 10m        # ten minutes of steps in place of less than one
  ssn-train photos/ --out runs/few --method distance    # ten good photos, say: nothing to train
  ssn-train photos/ --out runs/fast --target "10 ms"    # after ssn-bench --pareto photos/
  ssn-train photos/ --out runs/first --strict          # end if labelled data would not be used
  ssn-train photos/ --out runs/first --part 'sn(\\d+)'   # sn0042_top.png and sn0042_side.png: one part
  ssn-train photos/ --out runs/first --resume          # after Ctrl-C or a power cut
  ssn-train mvtec/ --preset mvtec --categories all --seeds 5         # the paper's Table 3
  ssn-train KolektorSDD2/ --preset ksdd2 --seeds 5 --ablation all    # Table 5 on one data set"""
)
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", "run", type=click.Path(path_type=Path),
              help="Run folder to make.  [default: runs/ and the preset's or data's name]")
@click.option("--preset", type=click.Choice(sorted(presets())), callback=_use_preset, is_eager=True,
              help="The paper's settings for its data sets (tiles: ours).")
@click.option("--categories", help="Of data sets with several: a name, a,b or all.")
@click.option("--folds", default="0", show_default=True, help="Of cross-validated data sets: 0, 0,2 or all.")
@click.option("--seeds", type=click.IntRange(min=1),
              help="That many runs, of --seed and the next ones, and a table.")
@click.option("--ablation", help="Rows of the paper's Table 5 (docs/paper.md): a name, a,b or all.")
@click.option("--unsupervised", is_flag=True, help="Ignore labelled defects in training.")
@click.option("--segmented", type=click.IntRange(min=0),
              help="Defects that keep their masks: KolektorSDD2 a number, SensumSODF per cent.")
@click.option("--backbone", default="efficientnet_lite0", show_default=True,
              help="wide_resnet50_2 (the paper's), resnet18, resnet50, or any timm model.")
@click.option("--weights", help="A .safetensors or .pth file, or 'random'; default: package or download.")
@click.option("--variant", default="icpr", show_default=True, type=click.Choice(["icpr", "jims"]),
              help="Classification head on adapted features (icpr) or on those before the adaptor.")
@click.option("--levels", metavar="A,B[,C]",
              help="Two or three feature levels, the finest first: strides (8,16), blocks counted from 1 "
                   "(block5,block6) or timm's stages (layer2,layer3).  [default: the backbone's]")
@click.option("--grid", metavar="HxW|1x|2x",
              help="Size of the anomaly map before it is scaled to the photo's: cells, or so many times the "
                   "finest level's.  [default: the backbone's]")
@click.option("--seg-width", type=click.IntRange(1, 4096), help="Channels of the segmentation head.")
@click.option("--cls-width", type=click.IntRange(0, 4096),
              help="Channels of the classification head; 0: none, the map's maximum is the score.  [default: "
                   "128 with labelled defects or where it is to judge, else the backbone's]")
@click.option("--adaptor/--no-adaptor", default=None,
              help="Train the feature adaptor, as published, or leave it out.  [default: the backbone's]")
@click.option("--cls-kernel", type=click.IntRange(1, 15), help="Its rows and columns, an odd number.")
@click.option("--size", default="256x256", show_default=True, help="Model input, HxW in pixels.")
@click.option("--layout", type=click.Choice(sorted(datasets.LAYOUTS)),
              help="What DATA is, where it is not recognised as meant.  [default: by looking at it]")
@click.option("--part", metavar="REGEX|TABLE",
              help="What names the part that a photo shows, so that all photos of a part are trained on or "
                   "none: an expression found in the file's name, '^([^_]+)_' for example (with a / in it in "
                   "the path below DATA: '([^/]+)/[^/]+$'), or a .csv with the header file,part.  [default: "
                   "DATA/parts.csv, or the groups of DATA/split.json, if there]")
@click.option("--strict", is_flag=True,
              help="End where something looks like labelled data and is not used, or a photo is broken.")
@click.option("--bits", default="auto", show_default=True, type=click.Choice(["auto", *map(str, BITS)]),
              help="Those in use of 16-bit photos, as Mono12's 12; kept in the model.")
@click.option("--geometry", default="stretch", show_default=True, type=click.Choice(GEOMETRIES),
              help="How photos get that size: as published, or with proportions kept and a border.")
@click.option("--method", type=click.Choice(METHODS),
              help="Trained heads, or the distance of features from those of good photos, which is fitted in "
                   "seconds and good where photos are few.  [default: trained]")
@click.option("--trainer", type=click.Choice(TRAINERS),
              help="What a step sees: 2,048 positions drawn from all photos, which takes minutes, or whole "
                   "photos, as published.  [default: positions for efficientnet_lite0, else photos]")
@click.option("--published", is_flag=True,
              help="The paper's levels, map, heads, step and schedule, with any backbone: hours on a CPU.")
@click.option("--budget", metavar="TIME",
              help="Length as the time that the steps take, such as 60s or 10m: measured, then planned.")
@click.option("--target", metavar="TIME",
              help="The best known setting that takes at most TIME a frame, such as '10 ms', on the device "
                   "where ssn-bench --pareto measured it.")
@click.option("--known", default=known.FILE, show_default=True, type=click.Path(path_type=Path),
              help="With --target: what ssn-bench --pareto wrote.")
@click.option("--epochs", type=click.IntRange(min=1),
              help="Length in epochs.  [default: 300 on whole photos]")
@click.option("--steps", type=click.IntRange(min=1), help="Length in steps.  [default: 300 on positions]")
@click.option("--batch", type=click.IntRange(min=2),
              help="Photos of a step.  [default: 32; on positions 8, for the classification head]")
@click.option("--lr-scale", "rate_scale", type=click.FloatRange(min=0, min_open=True),
              help="Factor on the paper's learning rates; 3 suits short runs.  [default: 1; on positions 3]")
@click.option("--noise", "noise_std", type=click.FloatRange(min=0, min_open=True),
              help="Deviation of the synthetic anomalies.  [default: 0.015 for wide_resnet50_2, else 0.3]")
@click.option("--perlin-threshold", type=float,
              help="Higher for smaller and thinner anomalies.  [default: 0.2; with labelled defects 0.6]")
@click.option("--holdout", default=0.1, show_default=True, type=click.FloatRange(0, 0.5),
              help="Share of good photos kept back to calibrate the thresholds.")
@click.option("--false-alarms", default="auto", show_default=True,
              help="Share of sound photos that may be called NG, such as 1%, if it can be promised.")
@click.option("--confidence", type=click.FloatRange(0.5, 1, max_open=True),
              help="Hold --false-alarms with this confidence, 0.95 for example.  [default: on average]")
@click.option("--cross-fit", default="auto", show_default=True, metavar="K",
              help="Estimate the thresholds by K further trainings, each without a K-th of the good parts; "
                   "auto: 3 where fewer than 9 could be held back, which promise nothing useful; 0: never.")
@click.option("--verdict-source", type=click.Choice(VERDICT_SOURCES),
              help="What decides OK or NG: classification score, the map's maximum, or either of them, "
                   "each with its threshold. A value at its threshold is NG.  [default: the score where "
                   "there is a classification head]")
@click.option("--seed", default=42, show_default=True, type=click.IntRange(min=0))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--workers", default=os.cpu_count() or 1, show_default="CPUs",
              type=click.IntRange(min=1), help="Threads that read photos.")
@click.option("--plain", is_flag=True, help="The naive step, as a reference: same loss, slower.")
@click.option("--bfloat16", is_flag=True,
              help="Large products in bfloat16: twice as fast where the CPU has AMX.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run, same options.")
@click.pass_context
@one_line_errors
def main(context: click.Context, data: Path, run: Optional[Path], preset: Optional[str],
         categories: Optional[str], folds: str, seeds: Optional[int], ablation: Optional[str],
         unsupervised: bool, segmented: Optional[int], size: str, seed: int, device: str,
         workers: int, resume: bool, layout: Optional[str], part: Optional[str], strict: bool, bits: str,
         false_alarms: str, cross_fit: str, published: bool, target: Optional[str],
         **options: Any) -> None:
    """Train SuperSimpleNet on the photos in DATA and evaluate it on the labelled test photos.

    DATA is a folder of photos (good/, optionally defects in folders of any name, masks, or a labelling
    tool's files), MVTec AD, VisA, KolektorSDD2, SensumSODF, or the magnetic tiles. What was recognised is
    shown, and what is not used is named, before anything runs. Where there are defects to train on,
    training is supervised.
    The run folder holds the model, metrics.json, predictions.csv, report.html and pictures;
    ssn-export takes it from there. With --seeds, or several categories, folds or ablations,
    every combination is trained (the same command goes on after an interruption) and a table written.
    """
    scanned = datasets.scan(data, unsupervised, layout)

    with needs("train"):
        import torch

        from ssn_train.training import devices, many_runs
        from ssn_train.training.fit import Interrupted
    found = _known(options.pop("known"), target, options["backbone"], published or preset is not None)
    options["size"] = size_hw("--size", size, square=True)
    if context.get_parameter_source("size") is ParameterSource.DEFAULT and found:
        options["size"] = found["size"]
    if published and options["trainer"] == "positions":
        raise InputError("--published and --trainer positions: the published step sees whole photos")
    settings = Settings(
        seed=seed,
        selection=datasets.Selection(None, 0, unsupervised, segmented, layout, part),
        bits=None if bits == "auto" else int(bits), cross_fit=_trainings(cross_fit),
        false_alarms=None if false_alarms == "auto" else share("--false-alarms", false_alarms),
        **defaults.filled(
            _length(context, options), published or bool(preset) or ablation is not None, found
        ),
    )
    seed_list = range(seed, seed + (seeds or 1))
    cells = many_runs.cells(scanned, categories, folds, ablation, seed_list)
    chosen = presets()[preset] if preset else {}
    if scanned.name not in chosen.get("layouts", [scanned.name]):  # its settings, not its table
        chosen = {**chosen, "data": f"{scanned.name} with the settings of {preset}", "table": None}
    by_hand = context.get_parameter_source("size") is ParameterSource.COMMANDLINE
    task = many_runs.Task(
        data.resolve().name, settings, cells, chosen,
        {} if by_hand else chosen.get("sizes", {}), _changed(context, chosen),
    )
    dataset = datasets.open_dataset(data, task.settings_of(cells[0]).selection)
    _show(dataset, strict)
    task = many_runs.check(task, dataset, ablation == "all")
    single = seeds is None and len(cells) == 1
    out = run or Path("runs") / (preset or data.resolve().name)
    try:
        if single:
            _one_run(task, dataset, out, devices.chosen(device), workers, resume, strict)
        else:
            _many_runs(task, data, out, devices.chosen(device), workers, resume)
    except Interrupted as stop:
        again = " and --resume" if single else ""
        click.echo(f"{stop}; go on with the same command{again}", err=True)
        sys.exit(130)
    except torch.OutOfMemoryError:
        raise InputError(f"--batch {settings.batch}: out of GPU memory; halve it") from None


def _known(path: Path, target: Optional[str], backbone: str, published: bool) -> Dict[str, Any]:
    """What ``--target`` decides; nothing without."""
    if target is None:
        return {}
    if published:
        raise InputError("--target with --published or --preset: those settings are the paper's; give one")
    choice = known.best(path, known.milliseconds(target), backbone)
    click.echo(choice.words)
    return choice.settings


def _length(context: click.Context, options: Dict[str, Any]) -> Dict[str, Any]:
    """The options, without a preset's epochs where a budget is given by hand."""
    of_preset = context.get_parameter_source("epochs") is ParameterSource.DEFAULT_MAP
    if options["budget"] is not None and of_preset:
        return {**options, "epochs": None}
    return options


def _trainings(text: str) -> Optional[int]:
    """``--cross-fit``: None for auto."""
    found = whole_number(text)
    if text != "auto" and (found is None or found == 1 or found > MOST_FOLDS):
        raise InputError(f"--cross-fit {text}: give auto, 0, or 2 to {MOST_FOLDS}")
    return found


def _changed(context: click.Context, preset: Dict[str, Any]) -> List[str]:
    """The options of training that were given by hand beside a preset, as they were given."""
    if not preset:
        return []
    harmless = {"data", "run", "preset", "categories", "seeds", "ablation", "device", "workers",
                "resume", "verdict_source", "false_alarms", "confidence", "cross_fit", "strict", "known"}
    names = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    given = [
        name for name in context.params
        if name not in harmless and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    values = {name: context.params[name] for name in given}
    return [names[k] if v is True else f"{names[k]} {v}" for k, v in values.items()]


def _show(dataset: DataSet, strict: bool) -> None:
    """The layout as it was recognised, with what is not used; a warning comes first, and ends it if
    strict."""
    rows = accounts.rows_of(dataset)
    alarm = inventory.alarm(dataset.root, rows)
    if alarm and strict:
        raise InputError(f"{alarm}; rename the folders, move them away, or leave --strict out")
    if alarm:
        click.echo(f"warning: {alarm}", err=True)
    for line in accounts.tree(dataset, rows):
        click.echo(line)


def _one_run(
    task: Any, dataset: DataSet, out: Path, device: str, workers: int, resume: bool, strict: bool
) -> None:
    from ssn_train.training import training_run

    settings = task.settings_of(task.cells[0])
    _print(training_run.train(dataset, settings, out, device, workers, resume, strict), out)


def _many_runs(task: Any, data: Path, out: Path, device: str, workers: int, resume: bool) -> None:
    from ssn_train.training import many_runs

    if resume:
        raise InputError("--resume: not needed with several runs; the same command goes on by itself")
    paths = many_runs.run_all(task, data, out, device, workers, click.echo)
    for path in paths:
        if path.suffix == ".md":
            click.echo(path.read_text(encoding="utf-8"))
    click.echo("written: " + ", ".join(str(path) for path in paths))


def _print(document: Dict[str, Any], run: Path) -> None:
    for name, value in document["metrics"].items():
        click.echo(f"  {name:24s} {value:.4f}")
    for kind, row in document.get("per_defect", {}).items():
        click.echo(
            f"  {kind:24s} {row['I-AUROC']:.4f} by score, "
            f"{row['I-AUROC (map maximum)']:.4f} by map maximum ({row['n']} images)"
        )
    verdict = Verdict(**document["verdict"])
    click.echo(f"  {verdict.rule} ({verdict.method})")
    found = document["calibration"]
    more = Promise(found["n"], found["k"], found["confidence"], found["unit"]).more(
        document["run"]["settings"].get("confidence")
    )
    if found["kind"] == "promise" and more:
        click.echo(f"  for less: {more} {found['unit']}, here or by ssn-calibrate on the line")
    if "at_threshold" in document:
        counts = ", ".join(f"{v} {k}" for k, v in document["at_threshold"].items())
        click.echo(f"  at this threshold: {counts}")
    for line in line_figures.lines(document["line"]) if "line" in document else ():
        click.echo(f"  {line}")
    click.echo(f"{run}: model, metrics.json, report.html, pictures.  Next: ssn-export {run} --out model.ssn")
