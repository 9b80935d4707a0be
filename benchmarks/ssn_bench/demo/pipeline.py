"""``python -m ssn_bench.demo``: the whole pipeline on made-up surfaces, or on your photos.

Makes data, trains, exports, benchmarks and runs the detector over a clip by calling the four
commands as a user would, prints each command, and ends with one table and one picture. What is
already there is not made again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import click
import cv2
import matplotlib
import numpy as np
from sklearn.metrics import roc_auc_score

from ssn_bench.demo import surfaces
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.detector import Detector
from ssn_edge.errors import InputError
from ssn_edge.files import replacing
from ssn_edge.frames.image_files import read_image
from ssn_edge.frames.pixels import resize, resize_mask
from ssn_edge.model import bundle
from ssn_edge.model.bundle import MANIFEST
from ssn_edge.values import size_hw
from ssn_edge.verdict import drawing
from ssn_train.data.datasets import DataSet, Sample, open_dataset
from ssn_train.data.truth import read_truth

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend comes first)

SIZE = "128x128"
TRAINING = ["--size", SIZE, "--levels", "8,16"]
"""At so small a size the default's deeper levels have 8x8 and 4x4 cells: they find as much, and mark it
worse."""

BENCH_SECONDS = 24
SITE = "clip"
"""The calibration on sound frames of the film whose rest is judged."""

CLIP_DEFECT_PIXELS = 200
"""A clip's frame counts as defective from so many defect pixels on: less is just entering."""


@click.command()
@click.option("--out", default="demo", show_default=True, type=click.Path(path_type=Path))
@click.option("--textures", default="fabric", show_default=True,
              help=f"Comma-separated of {', '.join(surfaces.TEXTURES)}; or all.")
@click.option("--data", type=click.Path(path_type=Path), help="Your own photos instead.")
@click.option("--steps", type=click.IntRange(min=1), help="[default: ssn-train's]")
@one_line_errors
def main(out: Path, textures: str, data: Optional[Path], steps: Optional[int]) -> None:
    """Photos to verdicts in a few minutes: train, export, benchmark, run."""
    started = time.perf_counter()
    if data is not None:
        rows = [_pipeline(data, out / data.resolve().name, steps, clip=None)]
    else:
        rows = [_texture(name, out, steps) for name in _names(textures)]
    click.echo()
    click.echo(_table(rows))
    click.echo(
        f"{time.perf_counter() - started:.0f} s in all. The picture: "
        + ", ".join(str(row["picture"]) for row in rows)
    )


def _names(textures: str) -> List[str]:
    names = list(surfaces.TEXTURES) if textures == "all" else textures.split(",")
    for name in names:
        if name not in surfaces.TEXTURES:
            raise InputError(f"--textures {name}: choose from {', '.join(surfaces.TEXTURES)}, all")
    return names


def _texture(name: str, out: Path, steps: Optional[int]) -> Dict[str, Any]:
    """Data, clip and pipeline of one texture."""
    data, clip = out / "data" / name, out / "data" / f"{name}.avi"
    sound = clip.with_suffix(".sound.avi")
    if not data.exists():
        with click.progressbar(length=1, label=f"drawing {name}", file=sys.stderr) as bar:

            def on_progress(done: int, total: int) -> None:
                bar.length = total
                bar.update(done - bar.pos)

            surfaces.write_dataset(data, name, progress=on_progress)
    truth = data.with_suffix(".clip.json")
    if not truth.exists() or not sound.exists():
        truth.write_text(json.dumps(surfaces.write_clip(clip, name, sound_path=sound)))
    row = _pipeline(data, out / name, steps, clip, sound)
    row["baseline"] = pixel_baseline(open_dataset(data))
    shown = json.loads(truth.read_text())
    for lines, by in (("clip-training", "thresholds of training"), ("clip", f"calibrated on {sound.name}")):
        click.echo("the clip, " + _clip_verdicts(out / name / f"{lines}.jsonl", shown, by))
    return row


def _pipeline(
    data: Path, folder: Path, steps: Optional[int], clip: Optional[Path], sound: Optional[Path] = None
) -> Dict[str, Any]:
    """Train, export, benchmark, calibrate on a sound stretch of the film, run; returns the table's row."""
    run, model, bench = folder / "run", folder / "model.ssn", folder / "bench.json"
    if not (run / "model.safetensors").exists():
        resume = ["--resume"] if (run / "resume.safetensors").exists() else []
        length = [] if steps is None else ["--steps", steps]
        command("ssn-train", data, "--out", run, *TRAINING, *length, *resume)
    if not (model / MANIFEST).exists():
        command("ssn-export", run, "--out", model, "--fp16")
    if not bench.exists():
        arguments = ["--protocol", "supersimplenet", "--budget", BENCH_SECONDS]
        command("ssn-bench", model, run, *arguments, "--out", bench)
    dataset = open_dataset(data)
    if clip is not None:
        if SITE not in bundle.read(model).history:
            command("ssn-calibrate", model, sound, "--name", SITE)
        for name, more in (("clip-training", ["--calibration", "training"]),
                           ("clip", ["--save", folder / "overlays"])):
            command("ssn-run", model, clip, "--json", folder / f"{name}.jsonl", *more, quiet=True)
    else:
        command("ssn-run", model, dataset.train[0].path.parent, "--max-frames", 50, quiet=True)
    picture = folder / "verdicts.png"
    verdict_picture(picture, model, dataset)
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    timing = json.loads(bench.read_text())
    deployed = timing["contenders"][0]
    return {
        "name": data.name,
        "I-AUROC": metrics.get("I-AUROC"),
        "by map": metrics.get("I-AUROC (map maximum)"),
        "AUPRO": metrics.get("AUPRO"),
        "ms": deployed["latency"]["median_ms"],
        "img/s": deployed["throughput"]["images_per_second"],
        "shortened": timing["shortened"],
        "device": deployed["device"],
        "picture": picture,
    }


def command(name: str, *arguments: Any, quiet: bool = False) -> None:
    """Run one of our commands in this interpreter's environment and show it."""
    words = [str(argument) for argument in arguments]
    click.secho(f"\n$ {name} {' '.join(words)}", bold=True)
    word = name.replace("-", "_")
    module = f"ssn_edge.commands.{word}" if name in ("ssn-run", "ssn-calibrate") else f"{word}.cli"
    code = f"import sys; from {module} import main; sys.argv[0] = {name!r}; main()"
    output = subprocess.PIPE if quiet else None
    done = subprocess.run([sys.executable, "-c", code, *words], stdout=output, text=True)
    if quiet:
        lines = done.stdout.splitlines()
        click.echo("\n".join([*lines[:4], "...", *lines[-2:]] if len(lines) > 7 else lines))
    if done.returncode:
        sys.exit(done.returncode)


def pixel_baseline(dataset: DataSet) -> float:
    """I-AUROC of a per-pixel mean and standard deviation: what needs no network at all.

    The largest deviation of a grey pixel from the training photos' mean at that place.
    """
    size = size_hw("SIZE", SIZE)

    def grey(samples: Sequence[Sample]) -> np.ndarray:
        photos = (resize(read_image(s.path), size) for s in samples)
        return np.stack([cv2.cvtColor(p, cv2.COLOR_BGR2GRAY) for p in photos]).astype(np.float64)

    train, test = grey(dataset.train), grey(dataset.test)
    z = np.abs(test - train.mean(0)) / (train.std(0) + 1e-6)
    return float(roc_auc_score([s.label for s in dataset.test], z.max((1, 2))))


def _clip_verdicts(path: Path, defect_pixels: List[int], by: str) -> str:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    called = {line["number"] for line in lines if line["is_defect"]}
    judged = {line["number"] for line in lines}
    bad = [number for number, n in enumerate(defect_pixels) if n >= CLIP_DEFECT_PIXELS]
    sound = [number for number, n in enumerate(defect_pixels) if n == 0 and number in judged]
    hit, false = len(called.intersection(bad)), len(called.intersection(sound))
    return (
        f"{by}: {hit} of {len(bad)} frames with a defect called NG, "
        f"{false} of {len(sound)} sound frames called NG"
    )


def verdict_picture(path: Path, model: Path, dataset: DataSet, rows: int = 6) -> None:
    """Input, truth, anomaly map and verdict side by side, by the deployed detector."""
    samples = _examples(dataset, rows)
    with Detector.open(model) as detector:
        size, pixel = detector.info.size_hw, detector.info.verdict.pixel_threshold
        figure, axes = plt.subplots(len(samples), 4, figsize=(9, 2.35 * len(samples)), squeeze=False)
        images = [read_image(sample.path, detector.reading) for sample in samples]
        results = [(s, image, detector.detect(image)) for s, image in zip(samples, images)]
        low = min(float(np.median(d.anomaly_map)) for _, _, d in results)
        for row, (sample, image, detection) in zip(axes, results):
            mask = np.zeros(size, bool)
            if sample.mask is not None:
                mask = resize_mask(read_truth(sample.mask, None, detector.reading), size)
            heat = drawing.heatmap(detection.anomaly_map, low, 2 * pixel - low)
            shown = (resize(image, size), mask * np.uint8(255), heat)
            panels = [*shown, drawing.overlay(image, detection, pixel)]
            for axis, panel in zip(row, panels):
                axis.axis("off")
                axis.imshow(panel[..., ::-1] if panel.ndim == 3 else panel, cmap="gray", vmin=0, vmax=255)
            row[0].set_title(sample.defect, fontsize=9, loc="left")
    for axis, name in zip(axes[0], ("input", "truth", "anomaly map", "verdict")):
        axis.annotate(name, (0.5, 1.2), xycoords="axes fraction", ha="center", weight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, bbox_inches="tight")
    plt.close(figure)


def _examples(dataset: DataSet, rows: int) -> List[Sample]:
    """One of each kind of defect, then good ones; training photos where nothing is labelled."""
    pool = dataset.test or dataset.train
    kinds = list(dict.fromkeys(s.defect for s in pool if s.label))
    chosen = [next(s for s in pool if s.defect == kind) for kind in kinds][: rows - 1]
    return chosen + [s for s in pool if not s.label][: rows - len(chosen)]


def _table(rows: List[Dict[str, Any]]) -> str:
    def figure(value: Optional[float]) -> str:
        return "-" if value is None else f"{value:.3f}"

    lines = [f"{'data':22s}{'I-AUROC':>9s}{'AUPRO':>8s}{'ms':>8s}{'img/s':>8s}"]
    for row in rows:
        lines.append(
            f"{row['name'][:21]:22s}{figure(row['I-AUROC']):>9s}{figure(row['AUPRO']):>8s}"
            f"{row['ms']:8.2f}{row['img/s']:8.1f}"
        )
        lines.append(f"{'  by map maximum':22s}{figure(row['by map']):>9s}")
        if "baseline" in row:
            lines.append(f"{'  pixel mean/deviation':22s}{figure(row['baseline']):>9s}")
    shortened = ", shortened benchmark, not the protocol" if any(r["shortened"] for r in rows) else ""
    lines.append(f"ms at batch 1, img/s at batch 16, {SIZE}, {rows[0]['device']}{shortened}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
