"""Thresholds of a run: promised by parts that were held back, or estimated by cross-fitting.

Cross-fitting is what heads trained without a part say of it. Where too few good parts can be held back to
promise anything useful, all of them are judged by heads that have not seen them: K further trainings, each
without a K-th of the parts. The shipped heads are others, trained on all parts, so what comes out is an
estimate and is called so everywhere. Their scale differs from training to training; that much is taken out by
standardising, what else differs is not.
"""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Callable, List, Optional, Sequence

import numpy as np
from tqdm import tqdm

from ssn_edge.errors import InputError
from ssn_edge.verdict import calibrating, calibration, promise
from ssn_edge.verdict.calibrating import Scales
from ssn_edge.verdict.calibration import Calibration
from ssn_train.data.datasets import Sample
from ssn_train.options.settings import Settings
from ssn_train.report.results import Predictions
from ssn_train.training.fit import Fitted, fit
from ssn_train.training.photo_loader import PhotoLoader
from ssn_train.training.resume import ResumeFile

FOLDS = 3
USEFUL = 0.1
"""A promise of more false alarms than that is of no use to a line."""

SCALE_PHOTOS = 64
"""Training photos by which scores and maps are brought to one scale, before the thresholds are sought."""

Predict = Callable[[Fitted, PhotoLoader, Sequence[Sample], str], Predictions]


def trainings(settings: Settings, good: Sequence[Sample], held: Sequence[Sample]) -> int:
    """How many further ones estimate the thresholds; 0: the photos that are held back promise them."""
    if settings.cross_fit is not None or not held or settings.false_alarms is not None:
        return settings.cross_fit or 0
    useful = promise.choose(count(held)).on_average <= USEFUL
    enough = count(good) >= promise.parts_for(USEFUL / 2)
    return 0 if useful or not enough else FOLDS


def check(
    settings: Settings, good: Sequence[Sample], held: Sequence[Sample], bad: Sequence[Sample] = ()
) -> None:
    """InputError where neither can hold what was asked for."""
    folds = trainings(settings, good, held)
    if count(good) < 2 * folds:
        raise InputError(f"--cross-fit {folds}: {count(good)} good {unit_of(good)} are too few; give less")
    for inside in folds_of(good, folds, settings.seed) if folds else ():
        without_parts(bad, [good[i] for i in inside])
    if folds:
        held = good
    try:
        promise.choose(count(held), settings.false_alarms, settings.confidence, unit_of(held))
    except InputError as error:
        if held is good:
            raise
        more = f"keep more back (--holdout), or estimate it (--cross-fit {FOLDS})"
        raise InputError(f"{error}; {more}") from None


def promised(
    fitted: Fitted, loader: PhotoLoader, rest: Sequence[Sample], held: Sequence[Sample], settings: Settings,
    predict: Predict,
) -> Calibration:
    """By held-back good photos; without any, the training ones, which are easier: said so."""
    normal = predict(fitted, loader, held or rest, "calibrating")
    scales = None
    if _source(settings) == "either":
        scales = _scales(fitted, loader, rest, predict)  # by photos that are not calibrated on
    kind, about = "promise", f"{len(held)} held-back photos"
    if not held:
        kind, about = "none", f"{len(rest)} photos that were trained on"
    return _made(normal.scores, normal.map_max, held or rest, settings, scales, kind, about)


def estimated(
    fitted: Fitted, loader: PhotoLoader, good: Sequence[Sample], bad: Sequence[Sample], settings: Settings,
    folds: int, run: Path, predict: Predict,
) -> Calibration:
    """By ``folds`` other heads than the shipped ones, which have seen all photos. An interrupted training
    goes on where it was. Raises Interrupted."""
    ours = _scales(fitted, loader, good, predict)
    scores, peaks = np.empty(len(good)), np.empty(len(good))
    for number, inside in enumerate(folds_of(good, folds, settings.seed)):
        left_out = set(inside)
        rest = [sample for i, sample in enumerate(good) if i not in left_out]
        learnt = without_parts(bad, [good[i] for i in inside])
        own = dataclasses.replace(
            settings, seed=settings.seed + 1 + number, steps=len(fitted.history) or None, budget=None
        )
        file = ResumeFile(run / f"cross-fit-{number + 1}.safetensors", own, ())
        other = fit(own, loader, [*rest, *learnt], file, file.path.exists())
        theirs = _scales(other, loader, rest, predict)
        said = predict(other, loader, [good[i] for i in inside], f"cross-fitting {number + 1}/{folds}")
        scores[inside], peaks[inside] = calibrating.rescaled(said.scores, said.map_max, theirs, ours)
    about = f"{len(good)} photos by {folds} trainings without them"
    return _made(scores, peaks, good, settings, ours, "estimate", about)


def without_parts(bad: Sequence[Sample], good: Sequence[Sample]) -> List[Sample]:
    """Defective photos of other parts than ``good`` ones: heads that learnt a part have seen it. InputError
    where none is left of some."""
    parts = {sample.part for sample in good if sample.part}
    rest = [sample for sample in bad if sample.part not in parts]
    if bad and not rest:
        raise InputError("--cross-fit: all defects to train on are of parts left out at once; give more or 0")
    return rest


def folds_of(samples: Sequence[Sample], folds: int, seed: int) -> List[List[int]]:
    """The samples' indices in groups of whole parts, seeded."""
    parts = calibrating.indices([sample.part for sample in samples])
    order = list(range(parts.max(initial=-1) + 1))
    random.Random(seed).shuffle(order)
    fold_of = {part: place % folds for place, part in enumerate(order)}
    return [[i for i, part in enumerate(parts) if fold_of[part] == fold] for fold in range(folds)]


def remove(run: Path) -> None:
    """What interrupted trainings have left."""
    for path in run.glob("cross-fit-*.safetensors"):
        path.unlink()


def _made(
    scores: np.ndarray, peaks: np.ndarray, samples: Sequence[Sample], settings: Settings,
    scales: Optional[Scales], kind: str, about: str,
) -> Calibration:
    found = calibrating.calibrate(
        scores, peaks, [sample.part for sample in samples], _source(settings), scales, settings.false_alarms,
        settings.confidence, unit_of(samples),
    )
    if found.blind:
        tqdm.write(
            f"warning: {found.promise.k} of {found.promise.n} sound {found.promise.unit} have a score of 1, "
            "the largest there is, so that nothing can be NG; train with --verdict-source map_max or either"
        )
    return calibration.made_of(found, calibration.TRAINING, kind, library="PyTorch", source=about)


def _scales(fitted: Fitted, loader: PhotoLoader, known: Sequence[Sample], predict: Predict) -> Scales:
    few = predict(fitted, loader, spread(known, SCALE_PHOTOS), "scaling")
    return calibrating.scales_of(few.scores, few.map_max)


def _source(settings: Settings) -> str:
    source = settings.verdict_source  # settled by now
    return source if source and settings.recipe(True).cls_head else "map_max"


def count(samples: Sequence[Sample]) -> int:
    """Parts; a photo of which nothing is known is one of its own."""
    return calibrating.count([sample.part for sample in samples])


def unit_of(samples: Sequence[Sample]) -> str:
    """What is counted: parts where it is known which photos show the same one."""
    return "parts" if any(sample.part for sample in samples) else "photos"


def spread(samples: Sequence[Sample], count: int) -> List[Sample]:
    """``count`` samples at even distances, so that every kind of defect has a chance."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    return [samples[i] for i in places]
