"""The eager PyTorch model under the same protocol: what a user of the published code runs."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np
import torch

from ssn_train import checkpoint
from ssn_train.cache import normalise


def open_eager(run: Path) -> Callable[[np.ndarray], object]:
    """A function from uint8 BGR [N, H, W, 3] to map and score in host memory, on the CPU."""
    model, _, backbone = checkpoint.load_model(run)

    @torch.inference_mode()
    def infer(images: np.ndarray) -> object:
        anomaly_map, score = model(normalise(images, backbone))
        return anomaly_map.numpy(), score.numpy()

    return infer


def version() -> str:
    return f"PyTorch {torch.__version__} eager, {torch.get_num_threads()} threads"
