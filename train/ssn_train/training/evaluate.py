"""A model in PyTorch over photos."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
import torch

from ssn_train.data.datasets import Sample
from ssn_train.network.model import SuperSimpleNet
from ssn_train.report.results import Predictions
from ssn_train.training.photo_loader import Photo, PhotoLoader


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
