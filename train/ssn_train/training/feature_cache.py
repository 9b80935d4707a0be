"""The frozen backbone's features, computed once instead of once per epoch."""

from __future__ import annotations

import shutil
import tempfile
from typing import IO, Callable, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from ssn_edge.errors import InputError
from ssn_edge.files import PathLike
from ssn_train.training.photo_loader import Photo, PhotoLoader

MEMORY_LIMIT_MIB = 2048
"""Features beyond this are kept in a file that is mapped into memory."""


class FeatureCache:
    """Raw features of ``photos``, all levels, float32, in memory or in a mapped file.

    ``on_progress(n)`` is called as photos are done. ``levels`` are channels-last, [N, h_l, w_l, C_l], since
    positions are read singly; indexing with an index array [B] gives the levels as tensors [B, C_l, h_l,
    w_l].
    """

    def __init__(
        self, loader: PhotoLoader, photos: Sequence[Photo], folder: PathLike,
        on_progress: Callable[[int], object] = lambda count: None,
    ):
        self.levels: List[np.ndarray] = []
        self._files: List[IO[bytes]] = []
        module = loader.backbone.module
        module.eval()  # or BatchNorm would mix the batch's photos into the features
        for part, images in loader.batches(photos):
            with torch.inference_mode():
                levels = module(images)
            channels_last = [level.permute(0, 2, 3, 1).cpu().numpy() for level in levels]
            if not self.levels:
                self._allocate(len(photos), [level.shape[1:] for level in channels_last], folder)
            for store, level in zip(self.levels, channels_last):
                store[part] = level
            on_progress(len(images))

    def _allocate(self, count: int, shapes: Sequence[Sequence[int]], folder: PathLike) -> None:
        nbytes = 4 * count * sum(int(np.prod(shape)) for shape in shapes)
        self.on_disk = nbytes > MEMORY_LIMIT_MIB << 20
        if self.on_disk and nbytes > shutil.disk_usage(folder).free:
            raise InputError(  # a mapped file on a full disk would kill the process
                f"{folder}: the features need {nbytes >> 20} MiB of disk there, less is free; free some "
                "space, choose another --out, or a smaller --size"
            )
        for shape in shapes:
            full = (count, *shape)
            if self.on_disk:
                file = tempfile.NamedTemporaryFile(prefix=".features-", dir=folder)
                self._files.append(file)  # deleted when the cache goes
                self.levels.append(np.memmap(file, np.float32, "w+", shape=full))
            else:
                self.levels.append(np.empty(full, np.float32))

    def chosen(self, rows: np.ndarray) -> FeatureCache:
        """Some photos' features, copied, in the order of ``rows``."""
        part = object.__new__(FeatureCache)
        part.levels, part._files, part.on_disk = [level[rows] for level in self.levels], [], False
        return part

    def __len__(self) -> int:
        return len(self.levels[0])

    def __getitem__(self, index: np.ndarray) -> List[Tensor]:
        return [torch.from_numpy(level[index]).permute(0, 3, 1, 2) for level in self.levels]

    @property
    def first_size(self) -> Tuple[int, int]:
        """(h, w) of the finest level."""
        height, width = self.levels[0].shape[1:3]
        return height, width

    def statistics(self, rows: int) -> Tuple[Tensor, Tensor]:
        """Mean and standard deviation per channel [C] of the first ``rows`` photos, summed in
        float64."""
        means, stds = [], []
        for level in self.levels:
            total, squares = (np.zeros(level.shape[3]) for _ in range(2))
            for image in level[:rows]:
                total += image.sum(axis=(0, 1), dtype=np.float64)
                squares += np.square(image, dtype=np.float64).sum(axis=(0, 1))
            n = level[:rows].size / level.shape[3]
            means.append(total / n)
            stds.append(np.sqrt(np.maximum(squares / n - (total / n) ** 2, 1e-12)))
        mean, std = (torch.from_numpy(np.concatenate(parts)).float() for parts in (means, stds))
        return mean, std
