"""Photos on the disk to the backbone's input, batch by batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from ssn_edge.frames.decoding import Reading
from ssn_edge.frames.image_files import read_image
from ssn_edge.frames.placement import fit_image
from ssn_train.network.backbones import Backbone


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
