"""The study: candidates by one seed, the best by several, the chosen confirmed on a third fold."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from ssn_bench.pareto import cells, figures
from ssn_bench.pareto.candidates import (
    CANDIDATES,
    GAUSSIAN,
    NEIGHBOURS,
    PADIM,
    TODAY,
    WITH_SCORE,
    Candidate,
    default,
    long_run,
    named,
)
from ssn_bench.pareto.cells import Cell, Workshop, part_of
from ssn_edge.errors import InputError
from ssn_train.data import datasets
from ssn_train.data.samples import Sample, Selection

BEST = 4
CHOOSING, CONFIRMING = ("first", "second"), ("third",)
CURVE_SEEDS = 3
PHOTOS = (10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class Options:
    seeds: int = 5
    device: str = "cpu"
    workers: int = 2
    weights: Optional[str] = None
    curve: bool = True


def folds_of(root: Path, selection: Selection) -> List[List[Sample]]:
    """Three folds of whole parts: the data set's own, else dealt at random."""
    layout = datasets.scan(root, False, selection.layout)
    if layout.name == "magnetic tiles":
        opened = [
            datasets.open_dataset(root, Selection(fold=fold, layout=selection.layout))
            for fold in range(3)
        ]
        return [list(one.test) for one in opened]
    dataset = datasets.open_dataset(root, selection)
    samples = [*dataset.train, *dataset.test]
    if not any(sample.label for sample in samples):
        raise InputError(f"{root}: no defective photo to compare by; add some in a folder of their own")
    bad = {part_of(sample) for sample in samples if sample.label}
    fold: Dict[str, int] = {}
    for wanted in (True, False):  # defective parts are few: dealt apart
        parts = sorted({part_of(sample) for sample in samples if (part_of(sample) in bad) == wanted})
        random.Random(0).shuffle(parts)
        fold.update({part: number % 3 for number, part in enumerate(parts)})
    return [[sample for sample in samples if fold[part_of(sample)] == number] for number in range(3)]


def run(
    root: Path, selection: Selection, out: Path, options: Options, log: Callable[[str], object]
) -> Dict[str, Any]:
    """All cells, those that are there already from their files; the study's document without speeds."""
    shop = Workshop(folds_of(root, selection), out, options.weights, options.device, options.workers)
    _check(shop, root)

    def made(wanted: Sequence[Cell], what: str) -> Dict[Cell, Dict[str, Any]]:
        log(f"{what}: {len(wanted)} trainings")
        return cells.run(wanted, shop, lambda number, cell: log(f"  {number} {cell.name}"))

    first = made(cells.with_seeds(CANDIDATES, CHOOSING, 1), "every candidate, one seed")
    ranked = sorted(
        (one for one in CANDIDATES if not one.method and one.name != TODAY),
        key=lambda one: -figures.resampled(cells.of(first, one.name, CHOOSING, 1))[0],
    )
    finalists = list(dict.fromkeys([
        default(), *ranked[:BEST], *map(named, (TODAY, PADIM, WITH_SCORE, NEIGHBOURS, GAUSSIAN)),
    ]))
    again = made(cells.with_seeds(finalists, CHOOSING, options.seeds), f"the best, {options.seeds} seeds")
    tested = [*finalists, long_run()]
    last = made(cells.with_seeds(tested, CONFIRMING, options.seeds), "confirmed on the third fold")
    curve: Dict[Cell, Dict[str, Any]] = {}
    if options.curve:
        wanted = [
            Cell(one, "third", seed, photos) for one in _curves() for photos in PHOTOS
            for seed in range(min(options.seeds, CURVE_SEEDS))
        ]
        curve = made(wanted, "the curve over the number of photos")
    return document({**first, **again, **last}, curve, finalists, options.seeds)


def _curves() -> List[Candidate]:
    return [default(), *map(named, (PADIM, GAUSSIAN, NEIGHBOURS))]


def _check(shop: Workshop, root: Path) -> None:
    for number, rows in enumerate(shop.rows):
        labels = shop.labels[rows]
        if labels.all() or not labels.any():
            raise InputError(f"{root}: fold {number} of three lacks good or defective photos; add both")


def document(
    done: Dict[Cell, Dict[str, Any]], curve: Dict[Cell, Dict[str, Any]], finalists: Sequence[Candidate],
    seeds: int,
) -> Dict[str, Any]:
    """Tables: candidates by one seed, finalists by all, the third fold, differences, the curve."""

    def rows(candidates: Sequence[Candidate], splits: Sequence[str], count: int) -> List[Dict[str, Any]]:
        return [
            {
                "name": one.name, "settings": one.settings().to_dict(),
                **figures.summary(cells.of(done, one.name, splits, count)),
            }
            for one in candidates
        ]

    found: Dict[str, Any] = {
        "schema": 1, "kind": "pareto", "seeds": seeds,
        "candidates": rows(CANDIDATES, CHOOSING, 1),
        "finalists": rows(finalists, CHOOSING, seeds),
        "confirmed": rows([*finalists, long_run()], CONFIRMING, seeds),
        "differences": {},
    }
    for part, splits in (("choosing", CHOOSING), ("confirmed", CONFIRMING)):
        ours = cells.of(done, default().name, splits, seeds)
        others = [one.name for one in [*finalists, long_run()] if one != default()]
        found["differences"][part] = {
            f"{default().name} - {name}": figures.difference(ours, theirs)
            for name in others if (theirs := cells.of(done, name, splits, seeds))
        }
        with_score = cells.of(done, WITH_SCORE, splits, seeds)
        found["differences"][part]["score - map maximum"] = figures.score_against_map(with_score)
    found["curve"] = [
        {"name": name, "photos": photos, **figures.summary(documents)}
        for name in (one.name for one in _curves()) for photos in PHOTOS
        if (documents := [
            document for cell, document in curve.items()
            if cell.candidate.name == name and cell.photos == photos and document["photos"] == photos
        ])
    ]
    return found


