"""A whole training run: data in, a run folder with model, metrics and pictures out."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import cv2
import numpy as np
import timm
import torch
from tqdm import tqdm

from ssn_edge import inventory
from ssn_edge.errors import InputError
from ssn_edge.files import write_json
from ssn_edge.frames.image_files import read_image, write_image
from ssn_edge.frames.placement import fit_image
from ssn_edge.model.schema import Verdict
from ssn_edge.verdict import calibration
from ssn_edge.verdict.calibration import Calibration
from ssn_train.data import checking, datasets
from ssn_train.data.datasets import DataSet, Sample
from ssn_train.network import backbones
from ssn_train.network.backbones import Backbone
from ssn_train.network.design import PAPER
from ssn_train.network.losses import Loss
from ssn_train.options.settings import Settings, fingerprint
from ssn_train.parts import tables
from ssn_train.report import plots, results, review
from ssn_train.report.results import Predictions
from ssn_train.training import checkpoint, photo_loader, proposed_parts, thresholds
from ssn_train.training.checkpoint import MODEL_FILE, RESUME_FILE, Header
from ssn_train.training.fit import Fitted, fit
from ssn_train.training.photo_loader import PhotoLoader
from ssn_train.training.resume import ResumeFile, photos_of
from ssn_train.training.supervision import describe

REFERENCE_EACH = 4
"""Photos of each kind (training, good test, defective test) kept beside the model."""


def train(
    dataset: DataSet, settings: Settings, run: Path, device: str, workers: int, resume: bool,
    strict: bool = False,
) -> Dict[str, Any]:
    """Train, calibrate, evaluate and write the run folder; returns the content of metrics.json.

    Raises InputError for data or options that cannot be used, Interrupted (with a resumable run
    folder) when a signal asked to stop.
    """
    _check_folder(run, resume)
    asked, given = settings, dataset
    if resume:
        dataset = proposed_parts.again(dataset, run, settings.selection)
        file = ResumeFile(run / RESUME_FILE, asked, photos_of(dataset))
        file.check()
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32: by default cuDNN rounds to 10 bits
    backbone = backbones.create(settings.backbone, settings.levels)
    source = backbones.load_weights(backbone, settings.weights)
    backbone.module.to(device).eval().requires_grad_(False)
    loader = PhotoLoader(backbone, settings.size, settings.geometry, device, workers)
    usable, test, settings = _check(dataset, settings, strict)
    settings = settings.settled(any(sample.label for sample in usable))
    _make_folder(run)  # only now: nothing is left of data that cannot be used
    loader = dataclasses.replace(loader, reading=settings.reading)
    if not resume:
        dataset = _with_parts(dataset, [*usable, *test], loader, run, settings)
        usable, test = _as_checked(dataset, [*usable, *test])
        _check_counts(dataset, usable, settings)
        file = ResumeFile(run / RESUME_FILE, asked, photos_of(dataset))
    bad = [sample for sample in usable if sample.label]
    rest, held = datasets.hold_back(usable, settings.holdout, settings.seed)
    good = [sample for sample in usable if not sample.label]
    folds = thresholds.trainings(settings, good, held)
    if folds:
        rest, held = good, []
        tqdm.write(f"thresholds by {folds} further trainings on parts of the photos: an estimate "
                   "(--cross-fit 0 holds photos back instead); for a promise run ssn-calibrate on the line")
    tqdm.write(f"training: {describe(bad)}")
    tqdm.write(_network_words(backbone, settings))
    fitted = fit(settings, loader, [*rest, *bad], file, resume)
    if folds:
        calibrated = thresholds.estimated(fitted, loader, good, bad, settings, folds, run, _predict)
    else:
        calibrated = thresholds.promised(fitted, loader, rest, held, settings, _predict)
    verdict = calibrated.verdict
    predictions = _predict(fitted, loader, test, "evaluating")
    masks = results.load_masks(test, settings.size, settings.geometry, settings.reading)
    document = results.report(predictions, masks, verdict) if test else {"metrics": {}}
    document["data"] = fingerprint([*given.train, *given.test])
    document.update(
        verdict=dataclasses.asdict(verdict), run=_environment(settings, fitted, source, device, bool(bad)),
        calibration={**calibration.to_document(calibrated), "values": "in model.safetensors"},
    )
    document["run"]["parts"] = dataset.grouping
    header = _header(fitted, backbone, source, settings, calibrated, [*rest, *bad])
    _write(run, document, predictions, masks, verdict, fitted)
    write_reference(run / "reference", rest, test, settings)
    checkpoint.save_model(run / MODEL_FILE, fitted.model, header)  # last: it marks the run done
    file.path.unlink(missing_ok=True)
    thresholds.remove(run)
    return document


def _network_words(backbone: Backbone, settings: Settings) -> str:
    """What is trained: ``features at stride 8 (40 channels) and ...; heads of 1024 and 128 channels``."""
    heads = f"heads of {settings.seg_width} and {settings.cls_width} channels"
    if settings.method == "distance":
        heads = "no heads, the distance from the good photos' features"
    elif not settings.cls_width:
        heads = f"a segmentation head of {settings.seg_width} channels, whose map's maximum is the score"
    return f"{backbone.name}, features at {backbone.words()}; {heads}"


def _with_parts(
    dataset: DataSet, checked: Sequence[Sample], loader: PhotoLoader, run: Path, settings: Settings
) -> DataSet:
    """The run's parts.csv says by which parts it was split: those that were given, else those that the photos
    show clearly."""
    proposed_parts.write(run / tables.NAME, dataset.root, dataset.parts)
    if dataset.grouping or not (dataset.split_here or settings.holdout):
        return dataset
    whole = [sample.path for sample in checked]
    return proposed_parts.find(dataset, whole, loader, run, settings.selection)


def _as_checked(
    dataset: DataSet, checked: Sequence[Sample]
) -> Tuple[Tuple[Sample, ...], Tuple[Sample, ...]]:
    """Samples to train on and to test on as reading left them: without what cannot be used."""
    by_path = {sample.path: sample for sample in checked}

    def known(samples: Sequence[Sample]) -> Tuple[Sample, ...]:
        there = [sample for sample in samples if sample.path in by_path]
        return tuple(dataclasses.replace(by_path[sample.path], part=sample.part) for sample in there)

    return known(dataset.train), known(dataset.test)


def _check_folder(run: Path, resume: bool) -> None:
    if (run / MODEL_FILE).exists():
        raise InputError(f"{run}: already holds a finished run; choose another --out")
    waiting = (run / RESUME_FILE).exists()
    if waiting and not resume:
        raise InputError(f"{run}: holds an interrupted run; add --resume, or choose another --out")
    if resume and not waiting:
        raise InputError(f"{run}: nothing to resume there; leave --resume out")
    there = next(path for path in (run, *run.resolve().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"{run}: cannot be made, {there} is no folder to write in; choose another --out")


def _make_folder(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{run}: cannot be made ({error.strerror}); choose another --out") from None


def _check(
    dataset: DataSet, settings: Settings, strict: bool
) -> Tuple[Tuple[Sample, ...], Tuple[Sample, ...], Settings]:
    """Read everything once before hours of training: what is usable, and the settings with the bits found."""
    with tqdm(total=len(dataset.train) + len(dataset.test), desc="checking photos", unit="img") as bar:
        found = checking.check(dataset, settings.bits, bar.update)
    for line in found.lines(dataset.root):
        tqdm.write(line)
    alarm = inventory.alarm(dataset.root, found.rows())
    if alarm and strict:
        raise InputError(f"{alarm}; mend or remove them, or leave --strict out")
    _check_counts(dataset, found.train, settings)
    return found.train, found.test, dataclasses.replace(settings, bits=settings.bits or found.bits or None)


def _check_counts(dataset: DataSet, usable: Sequence[Sample], settings: Settings) -> None:
    """Enough to train on, and to promise what is asked for: now, not after hours."""
    rest, kept = datasets.hold_back(usable, settings.holdout, settings.seed)
    held, good = len(kept), [sample for sample in usable if not sample.label]
    if len(rest) < 2:
        backed = f", {held} of them held back; at least 3 are needed, or --holdout 0" if held else ""
        raise InputError(
            f"{dataset.root}: {len(good)} readable good photo{'s' * (len(good) != 1)}"
            f"{backed or '; at least 2 are needed'}"
        )
    if settings.holdout and not held and not settings.cross_fit:
        raise InputError(
            f"{dataset.root}: no part of which all photos to train on are good can be held back (parts by "
            f"{dataset.grouping}); take photos of more parts, or give --holdout 0"
        )
    if held or settings.cross_fit:
        thresholds.check(settings, good, kept, [sample for sample in usable if sample.label])
    elif settings.false_alarms is not None:
        raise InputError("--false-alarms with --holdout 0: photos that were trained on promise nothing")


def _predict(fitted: Fitted, loader: PhotoLoader, samples: Sequence[Sample], what: str) -> Predictions:
    with tqdm(total=len(samples), desc=what, unit="img", disable=not samples) as bar:
        return photo_loader.predict(fitted.model, loader, samples, bar.update)


def _environment(
    settings: Settings, fitted: Fitted, source: str, device: str, supervised: bool
) -> Dict[str, Any]:
    cuda = device.startswith("cuda")
    return {
        "supervised": supervised,
        "settings": settings.to_dict(),
        "weights": source,
        "steps": len(fitted.history),
        "training_seconds": round(fitted.seconds, 1),
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "opencv": cv2.__version__,
            "numpy": np.__version__,
        },
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _header(
    fitted: Fitted,
    backbone: Backbone,
    source: str,
    settings: Settings,
    calibrated: Calibration,
    samples: Sequence[Sample],
) -> Header:
    return Header(
        backbone=backbone.name,
        timm_name=backbone.timm_name,
        weights=source,
        mean=backbone.mean,
        std=backbone.std,
        height=settings.size[0],
        width=settings.size[1],
        feature_mean=tuple(fitted.feature_mean.tolist()),
        feature_std=tuple(fitted.feature_std.tolist()),
        standardise=backbone.standardise,
        variant=settings.variant,
        design=None if fitted.model.shape == PAPER else dataclasses.asdict(fitted.model.shape),
        settings=settings.to_dict(),
        data=fingerprint(samples),
        verdict=calibrated.verdict,
        calibration=calibration.to_document(calibrated),
    )


def _write(
    run: Path,
    document: Dict[str, Any],
    predictions: Predictions,
    masks: np.ndarray,
    verdict: Verdict,
    fitted: Fitted,
) -> None:
    write_json(run / "metrics.json", document)
    results.write_predictions(run / "predictions.csv", predictions, verdict)
    if len(fitted.history):
        plots.loss_curve(run / "loss.png", fitted.history)
    plots.write_all(run, predictions, masks, verdict)
    title, terms = "/".join(run.resolve().parts[-2:]), Loss._fields
    page = review.content(title, document, predictions, masks, verdict, fitted.history, terms)
    review.write(run / "report.html", page)


def write_reference(
    folder: Path, train: Sequence[Sample], test: Sequence[Sample], settings: Settings
) -> List[Path]:
    """A few photos at the model's size, for the export's comparison on real images."""
    good = [s for s in test if not s.label]
    bad = [s for s in test if s.label]
    chosen = [s for group in (train, good, bad) for s in thresholds.spread(group, REFERENCE_EACH)]
    paths = [folder / f"{i:02d}-{s.defect}.png" for i, s in enumerate(chosen)]
    for path, sample in zip(paths, chosen):
        photo = read_image(sample.path, settings.reading)
        write_image(path, fit_image(photo, settings.size, settings.geometry))
    return paths
