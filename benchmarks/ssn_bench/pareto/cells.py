"""One cell of the comparison: a candidate trained on one side's sound photos and judged on the other's."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch

from ssn_bench.pareto.bar import METHODS
from ssn_bench.pareto.candidates import Candidate
from ssn_edge.files import write_json
from ssn_train.data.samples import Sample
from ssn_train.network import backbones
from ssn_train.network.model import SuperSimpleNet
from ssn_train.report import metrics
from ssn_train.report.results import load_masks
from ssn_train.training.feature_cache import FeatureCache
from ssn_train.training.fit import fit
from ssn_train.training.photo_loader import Photo, PhotoLoader
from ssn_train.training.resume import ResumeFile

SPLITS = {"first": ((0,), 1), "second": ((1,), 0), "third": ((0, 1), 2)}
"""Folds whose sound photos are trained on, and the one that is tested: two to choose by, one to confirm."""

MASK_SIZE = (256, 256)
"""AUPRO is taken at this size, whatever the model's."""


@dataclass(frozen=True)
class Cell:
    """``photos``: so many sound ones are trained on, of whole parts; None: all."""

    candidate: Candidate
    split: str
    seed: int
    photos: Optional[int] = None

    @property
    def name(self) -> str:
        count = f", {self.photos} photos" if self.photos else ""
        return f"{self.candidate.name}, {self.split}, seed {self.seed}{count}"

    @property
    def file(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.name) + ".json"


def part_of(sample: Sample) -> str:
    """A photo of which nothing is known is a part of its own."""
    return sample.part or str(sample.path)


@dataclass
class Workshop:
    """What cells share: the photos of all ``folds``, features of one kind at a time, masks."""

    folds: Sequence[Sequence[Sample]]
    out: Path
    weights: Optional[str]
    device: str
    workers: int

    def __post_init__(self) -> None:
        self.samples: List[Sample] = [sample for fold in self.folds for sample in fold]
        ends = np.cumsum([0, *map(len, self.folds)])
        self.rows = [np.arange(a, b) for a, b in zip(ends, ends[1:])]
        self.labels = np.array([sample.label for sample in self.samples])
        self.masks = load_masks(self.samples, MASK_SIZE)
        self._kind: Tuple[Any, ...] = ()

    def features(self, candidate: Candidate) -> Tuple[PhotoLoader, FeatureCache, float]:
        """Loader and features of all photos, and seconds a photo that they took."""
        if self._kind != candidate.features:
            settings = candidate.settings()
            backbone = backbones.create(settings.backbone, settings.levels)
            backbones.load_weights(backbone, self.weights)
            backbone.module.to(self.device).eval().requires_grad_(False)
            loader = PhotoLoader(backbone, settings.size, settings.geometry, self.device, self.workers)
            start = time.perf_counter()
            cache = FeatureCache(loader, [Photo(sample.path) for sample in self.samples], self.out)
            per_photo = (time.perf_counter() - start) / len(self.samples)
            self._kind, self._made = candidate.features, (loader, cache, per_photo)
        return self._made

    def training_rows(self, cell: Cell) -> np.ndarray:
        """Sound photos of the cell's training folds; of ``photos`` of them whole parts, drawn by the seed."""
        rows = np.concatenate([self.rows[fold] for fold in SPLITS[cell.split][0]])
        rows = rows[self.labels[rows] == 0]
        if cell.photos is None:
            return rows
        parts = list(dict.fromkeys(part_of(self.samples[row]) for row in rows))
        np.random.default_rng(cell.seed).shuffle(parts)
        place = {part: number for number, part in enumerate(parts)}
        ranked = sorted(rows, key=lambda row: place[part_of(self.samples[row])])
        return np.sort(np.array(ranked[: cell.photos]))


def run(
    cells: Sequence[Cell], shop: Workshop, on_done: Callable[[int, Cell], object] = lambda number, cell: None
) -> Dict[Cell, Dict[str, Any]]:
    """Every cell's document, from its file where that is there; others are made, features by features."""
    folder = shop.out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [cell for cell in cells if not (folder / cell.file).exists()]
    waiting.sort(key=lambda cell: str(cell.candidate.features))
    with ThreadPoolExecutor(max(1, shop.workers // 2)) as pool:
        pending: List[Future] = []
        for number, cell in enumerate(waiting):
            make = _maps(cell, shop)
            made = make if cell.candidate.method else _done(make())
            pending.append(pool.submit(_judge, made, cell, shop, folder / cell.file))
            if len(pending) > shop.workers:
                pending.pop(0).result()
            on_done(number + 1, cell)
        for one in pending:
            one.result()
    return {cell: _read(folder / cell.file, cell) for cell in cells}


def _read(path: Path, cell: Cell) -> Dict[str, Any]:
    """A cell's file, which another version's settings may have made."""
    document = json.loads(path.read_text(encoding="utf-8"))
    cell.candidate.settings(cell.seed).check_same(document["settings"], f"{path}:")
    return document


Made = Tuple[np.ndarray, np.ndarray, Dict[str, Any]]
"""Maps [M, H, W] and scores [M] of the tested photos, and what it took."""


def _done(made: Made) -> Callable[[], Made]:
    return lambda: made


def _maps(cell: Cell, shop: Workshop) -> Callable[[], Made]:
    """What makes the maps: features are read at once, since the next cell may need others."""
    loader, cache, per_photo = shop.features(cell.candidate)
    rows, tested = shop.training_rows(cell), shop.rows[SPLITS[cell.split][1]]
    about = {"photos": len(rows), "features_seconds_a_photo": per_photo}
    make = _remembered if cell.candidate.method else _trained
    known, apart = cache.chosen(rows), cache.chosen(tested)

    def maps() -> Made:
        start = time.perf_counter()
        found, scores, more = make(cell, shop, loader, known, apart, rows)
        return found, scores, {**about, "seconds": time.perf_counter() - start, **more}

    return maps


def _trained(
    cell: Cell, shop: Workshop, loader: PhotoLoader, known: FeatureCache, tested: FeatureCache,
    rows: np.ndarray,
) -> Made:
    settings = cell.candidate.settings(cell.seed)
    path = shop.out / "cells" / f"{cell.file}.safetensors"
    file = ResumeFile(path, settings, ())
    fitted = fit(settings, loader, [shop.samples[row] for row in rows], file, path.exists(), known)
    maps, scores = [], []
    with torch.inference_mode():
        for part in np.array_split(np.arange(len(tested)), -(-len(tested) // 16)):
            found = fitted.model.predict([level.to(shop.device) for level in tested[part]])
            maps.append(found[0][:, 0].cpu().numpy())
            scores.append(found[1].cpu().numpy())
    path.unlink(missing_ok=True)
    more = {"seconds": fitted.seconds, "steps": len(fitted.history)}
    return np.concatenate(maps), np.concatenate(scores), more


def _remembered(
    cell: Cell, shop: Workshop, loader: PhotoLoader, known: FeatureCache, tested: FeatureCache,
    rows: np.ndarray,
) -> Made:
    settings, backbone = cell.candidate.settings(cell.seed), loader.backbone
    model = SuperSimpleNet(None, backbone.channels, settings.size, shape=cell.candidate.design).eval()
    model.set_statistics(*known.statistics(len(known)))

    def positions(cache: FeatureCache) -> np.ndarray:
        parts = [
            model.pool(model.upscale(cache[part])).permute(0, 2, 3, 1).numpy()
            for part in np.array_split(np.arange(len(cache)), -(-len(cache) // 16))
        ]
        return np.concatenate(parts)

    with torch.inference_mode():
        found = METHODS[cell.candidate.method](positions(known), positions(tested), cell.seed)
        maps = model.anomaly_map(torch.from_numpy(found).float()[:, None])[:, 0].numpy()
    return maps, maps.max(axis=(1, 2)), {}


def _judge(
    make: Callable[[], Made], cell: Cell, shop: Workshop, path: Path
) -> None:
    """What the maps say of each photo, and how well they localise; into the cell's file."""
    maps, scores, about = make()
    tested = shop.rows[SPLITS[cell.split][1]]
    peaks = maps.max(axis=(1, 2))
    if maps.shape[1:] != MASK_SIZE:
        maps = torch.nn.functional.interpolate(
            torch.from_numpy(maps)[:, None], size=MASK_SIZE, mode="bilinear"
        )[:, 0].numpy()
    known = np.array([not s.label or s.mask is not None for s in (shop.samples[row] for row in tested)])
    write_json(path, {
        "candidate": cell.candidate.name, "split": cell.split, "seed": cell.seed, "asked_photos": cell.photos,
        "verdict_source": cell.candidate.settings().verdict_source, "device": shop.device, **about,
        "settings": cell.candidate.settings(cell.seed).to_dict(),
        "AUPRO": metrics.aupro(maps[known], shop.masks[tested][known]),
        "labels": shop.labels[tested].tolist(),
        "parts": [shop.samples[row].part or shop.samples[row].path.name for row in tested],
        "map_max": [float(f"{v:.6g}") for v in peaks.tolist()],
        "score": [float(f"{v:.9g}") for v in scores.tolist()],
    })


def with_seeds(names: Sequence[Candidate], splits: Sequence[str], seeds: int) -> List[Cell]:
    """Methods without chance have one seed."""
    return [
        Cell(one, split, seed) for one in names for split in splits
        for seed in range(1 if one.method in ("padim", "gaussian") else seeds)
    ]


def of(
    cells: Dict[Cell, Dict[str, Any]], name: str, splits: Sequence[str], seeds: int
) -> List[Dict[str, Any]]:
    """The documents of one candidate's cells, all photos."""
    return [
        document for cell, document in cells.items()
        if cell.candidate.name == name and cell.split in splits and cell.seed < seeds and cell.photos is None
    ]

