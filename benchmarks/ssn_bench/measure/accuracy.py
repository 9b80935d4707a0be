"""Accuracy of the deployed file: labelled photos through the runtime, beside what training measured.

No torch. The test photos are those that training tested; a gap means that export, back end or
pre-processing changed the detector.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ssn_bench.measure import environment
from ssn_bench.measure.ready import file_of
from ssn_edge.detector import Detector
from ssn_edge.errors import InputError
from ssn_edge.files import sha256
from ssn_edge.frames.image_files import read_image
from ssn_edge.model import bundle
from ssn_edge.model.schema import ModelInfo
from ssn_edge.verdict.calibration import TRAINING
from ssn_train.data import checking
from ssn_train.data.datasets import open_dataset
from ssn_train.data.samples import Sample, Selection
from ssn_train.report import line_figures, results
from ssn_train.report.results import Predictions

COMPARED = ("I-AUROC", "I-AUROC (map maximum)", "AP-det", "P-AUROC", "AP-loc", "AUPRO")

METRIC_GAP = {"float32": 0.002, "float16": 0.01}
"""Most that a metric may differ from training's; the precision's own rounding moves ranks a little."""

SCORE_GAP = {"float32": 1e-3, "float16": 3e-2}
"""Most that one photo's score may differ; the export's verdict margin for float16 (docs/files.md)."""

WORST = 10

Key = Tuple[str, ...]


def bench(
    model: Path, backend: str, data: Path, select: Selection, run: Optional[Path],
    on_progress: Callable[[float], object], precision: Optional[str] = None, threads: Optional[int] = None,
) -> Dict[str, Any]:
    """Judge the labelled photos of ``data`` with the file; with the run folder compare it with training.

    Raises InputError where the photos are others than those training tested, or the run is another.
    """
    dataset = open_dataset(data, select)
    samples = checking.check_samples(dataset.test, dataset.good_masks, checking.Findings())
    if not samples:
        raise InputError(f"{data}: no labelled test photos; they lie in test/ or bad/ (docs/training.md)")
    trained = None
    name = TRAINING if run is not None and _has_trainings(model) else None
    with Detector.open(model, backend, precision=precision, calibration=name, threads=threads) as detector:
        info = detector.info
        if run is not None:
            trained = _trained(run, info, samples)
        scores = np.empty(len(samples), np.float32)
        maps = np.empty((len(samples), *info.size_hw), np.float32)
        called = np.empty(len(samples), bool)
        for number, sample in enumerate(samples):
            found = detector.detect(read_image(sample.path, detector.reading))
            scores[number], maps[number], called[number] = found.score, found.anomaly_map, found.is_defect
            on_progress((number + 1) / len(samples))
        reading = detector.reading
        backend_name, about = detector.backend_name, file_of(model, detector)
    said = Predictions(tuple(samples), scores, maps, info.geometry, reading)
    masks = results.load_masks(samples, info.size_hw, info.geometry, reading)
    document = results.report(said, masks, info.verdict)
    document.update(
        schema=1, kind="accuracy", model=about,
        backend=backend_name, precision=info.precision, environment=environment.describe(),
    )
    if trained is not None:
        document["training"] = _compare(document, trained, said, called, info.precision)
    return document


def _has_trainings(model: Path) -> bool:
    """Whether a bundle keeps training's thresholds, which its run judged by, beside those from the line."""
    return bundle.is_bundle(model) and any(
        entry.label == TRAINING for entry in bundle.read(model).of_role("calibration")
    )


def _trained(run: Path, info: ModelInfo, samples: Sequence[Sample]) -> Dict[str, Any]:
    """The run's metrics, and each photo's score and verdict in the order of ``samples``."""
    weights, table = run / "model.safetensors", run / "predictions.csv"
    for path in (weights, table):
        if not path.is_file():
            raise InputError(f"{path}: no such file; --run takes a finished run folder of ssn-train")
    if sha256(weights) != info.checkpoint_sha256:
        raise InputError(f"{run}: the model file is another run's; give its own, or export again")
    with open(table, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = {_key(Path(row["file"])): row for row in csv.DictReader(file)}
    missing = [sample.path for sample in samples if _key(sample.path) not in rows]
    if missing or len(rows) != len(samples):
        example = f", {missing[0]} for one" if missing else ""
        raise InputError(
            f"{run} tested {len(rows)} photos, these are {len(samples)}, {len(missing)} of them "
            f"others{example}; give training's data, --category and --fold"
        )
    ordered = [rows[_key(sample.path)] for sample in samples]
    return {
        "metrics": json.loads((run / "metrics.json").read_text())["metrics"],
        "score": np.array([float(row["score"]) for row in ordered]),
        "called": np.array([row["is_defect"] == "1" for row in ordered]),
    }


def _key(path: Path) -> Key:
    """What stays of a photo's path when its data set moves."""
    return path.resolve().parts[-3:]


def _compare(
    document: Dict[str, Any], trained: Dict[str, Any], said: Predictions, called: np.ndarray,
    precision: str,
) -> Dict[str, Any]:
    differences = np.abs(said.scores - trained["score"])
    order = np.argsort(-differences)[:WORST]
    gaps = {}
    for name in COMPARED:
        ours, theirs = document["metrics"].get(name), trained["metrics"].get(name)
        if ours is not None and theirs is not None and np.isfinite(ours):
            gaps[name] = ours - theirs
    failed = [
        f"{name} differs by {gap:+.4f} (allowed {METRIC_GAP[precision]})"
        for name, gap in gaps.items() if abs(gap) > METRIC_GAP[precision]
    ]
    if differences.max() > SCORE_GAP[precision]:
        failed.append(f"a photo's score differs by {differences.max():.4f} (allowed {SCORE_GAP[precision]})")
    return {
        "metrics": trained["metrics"],
        "gaps": gaps,
        "largest_score_difference": float(differences.max()),
        "verdicts_changed": int((called != trained["called"]).sum()),
        "failed": failed,
        "worst": [
            {
                "file": str(said.samples[i].path), "deployed": float(said.scores[i]),
                "training": float(trained["score"][i]),
                "verdict_changed": bool(called[i] != trained["called"][i]),
            }
            for i in order
        ],
    }


def text(document: Dict[str, Any]) -> str:
    """What ``ssn-bench --data`` prints."""
    images, training = document["images"], document.get("training")
    lines = [
        f"{document['model']['file']}, {document['backend']}, {document['precision']}: "
        f"{images['good']} good and {images['defective']} defective photos",
        f"{'':26s}{'deployed':>10s}" + (f"{'training':>10s}{'gap':>10s}" if training else ""),
    ]
    for name in COMPARED:
        if name not in document["metrics"]:
            continue
        value = document["metrics"][name]
        line = f"{name:26s}{value:10.4f}"
        if training and name in training["gaps"]:
            line += f"{training['metrics'][name]:10.4f}{training['gaps'][name]:+10.4f}"
        lines.append(line)
    at = document["at_threshold"]
    lines.append(
        f"at its threshold: {at['false alarms']} false alarms of {images['good']}, "
        f"{at['missed defects']} missed of {images['defective']}"
    )
    lines += line_figures.lines(document["line"])
    if training is None:
        lines.append("Not compared with training: give --run RUN.")
        return "\n".join(lines)
    lines.append(
        f"verdicts changed: {training['verdicts_changed']}; largest difference of a score "
        f"{training['largest_score_difference']:.2e}"
    )
    if training["failed"]:
        lines += ["GAP: " + "; ".join(training["failed"]), "the photos that differ most:"]
        lines += _worst(training["worst"])
    else:
        lines.append("no gap: the deployed file is the detector that was trained")
    return "\n".join(lines)


def _worst(rows: List[Dict[str, Any]]) -> List[str]:
    return [
        f"  {row['deployed']:.4f} instead of {row['training']:.4f}"
        f"{', verdict changed' if row['verdict_changed'] else ''}  {row['file']}"
        for row in rows
    ]
