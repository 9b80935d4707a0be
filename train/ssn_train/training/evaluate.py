"""A model in PyTorch over photos."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Sequence

import numpy as np
import torch

from ssn_train.data.datasets import Sample
from ssn_train.network.backbones import Backbone
from ssn_train.network.model import SuperSimpleNet
from ssn_train.report.results import Predictions
from ssn_train.training.feature_cache import Photo, load_images, normalise


def predict(
    model: SuperSimpleNet,
    backbone: Backbone,
    samples: Sequence[Sample],
    device: str = "cpu",
    workers: int = 2,
    batch: int = 16,
    tick: Callable[[int], object] = lambda n: None,
    geometry: str = "stretch",
) -> Predictions:
    """Scores and maps of all samples, batch by batch."""
    scores = np.empty(len(samples), np.float32)
    maps = np.empty((len(samples), *model.image_size), np.float32)
    with ThreadPoolExecutor(max(workers, 1)) as pool, torch.inference_mode():
        for start in range(0, len(samples), batch):
            part = slice(start, start + batch)
            photos = [Photo(s.path) for s in samples[part]]
            images = load_images(photos, model.image_size, pool, geometry)
            anomaly_map, score = model(normalise(images, backbone, device))
            maps[part], scores[part] = anomaly_map[:, 0].cpu().numpy(), score.cpu().numpy()
            tick(len(images))
    return Predictions(tuple(samples), scores, maps, geometry)
