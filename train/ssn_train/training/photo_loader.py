"""Photos on the disk to a network's input, and through it, batch by batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssn_edge.frames.decoding import Reading
from ssn_edge.frames.image_files import read_image
from ssn_edge.frames.placement import fit_image
from ssn_train.data.datasets import Sample
from ssn_train.network.backbones import Backbone
from ssn_train.network.model import SuperSimpleNet
from ssn_train.parts import likeness
from ssn_train.report.results import Predictions

COMPARED_SIZE, COMPARED_GRID = (128, 128), 4
"""Photos are compared at this size, by each feature's mean in so many cells across and down."""


class Photo(NamedTuple):
    """A file, and the axes (0 vertical, 1 horizontal) along which its pixels are flipped."""

    path: Path
    flip: Tuple[int, ...] = ()


@dataclass(frozen=True)
class PhotoLoader:
    """How a run reads photos: stretched or letterboxed (``geometry``) to ``size_hw``, normalised for the
    backbone, on ``device``, by ``workers`` threads; ``reading``: how files become pixels."""

    backbone: Backbone
    size_hw: Tuple[int, int]
    geometry: str = "stretch"
    device: str = "cpu"
    workers: int = 2
    reading: Reading = Reading()

    def batches(self, photos: Sequence[Photo], batch: int = 16) -> Iterator[Tuple[slice, Tensor]]:
        """Which photos, and their float32 RGB [n, 3, H, W]."""
        with ThreadPoolExecutor(max(self.workers, 1)) as pool:
            for start in range(0, len(photos), batch):
                part = slice(start, min(start + batch, len(photos)))
                images = np.stack(list(pool.map(self.image, photos[part])))
                yield part, normalise(images, self.backbone, self.device)

    def image(self, photo: Photo) -> np.ndarray:
        """One photo at the model's size: uint8 BGR [H, W, 3]."""
        upright = read_image(photo.path, self.reading)
        return np.flip(fit_image(upright, self.size_hw, self.geometry), photo.flip)


def normalise(images: np.ndarray, backbone: Backbone, device: str = "cpu") -> Tensor:
    """uint8 BGR [N, H, W, 3] to what the backbone takes: float32 RGB [N, 3, H, W]."""
    rgb = torch.from_numpy(np.ascontiguousarray(images[..., ::-1])).to(device)
    mean = torch.tensor(backbone.mean, device=device)
    std = torch.tensor(backbone.std, device=device)
    return ((rgb.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def predict(
    model: SuperSimpleNet, loader: PhotoLoader, samples: Sequence[Sample],
    on_progress: Callable[[int], object] = lambda count: None,
) -> Predictions:
    """Scores and maps of all samples, batch by batch; ``on_progress(n)`` is called as photos are done."""
    scores = np.empty(len(samples), np.float32)
    maps = np.empty((len(samples), *model.image_size), np.float32)
    with torch.inference_mode():
        for part, images in loader.batches([Photo(sample.path) for sample in samples]):
            anomaly_map, score = model(images)
            maps[part], scores[part] = anomaly_map[:, 0].cpu().numpy(), score.cpu().numpy()
            on_progress(len(images))
    return Predictions(tuple(samples), scores, maps, loader.geometry, loader.reading)


def descriptors(
    loader: PhotoLoader, photos: Sequence[Path], on_progress: Callable[[int], object] = lambda count: None
) -> np.ndarray:
    """float32 [N, D] of unit length: both of the backbone's levels on a coarse grid (likeness.unit_rows)."""
    small, module = replace(loader, size_hw=COMPARED_SIZE, geometry="stretch"), loader.backbone.module
    module.eval()
    rows = []
    for _, images in small.batches([Photo(path) for path in photos]):
        with torch.inference_mode():
            levels = [F.adaptive_avg_pool2d(level, COMPARED_GRID).flatten(2) for level in module(images)]
        rows.append(torch.cat(levels, 1).cpu().numpy())
        on_progress(len(images))
    return likeness.unit_rows(np.concatenate(rows))
