"""The bar: methods that remember features in place of training heads, by scikit-learn.

They see what the segmentation head sees: standardised features, upscaled and pooled, at each position of the
map. Their maps are resized and blurred as ours. Covariances are Ledoit's and Wolf's, which choose their
shrinkage: on the magnetic tiles PaDiM was better with them than with a hundredth of the identity, as
published.
"""

from __future__ import annotations

from typing import Callable, Dict

import numpy as np

MEMORY = 10_000
"""Positions that nearest neighbours remember, drawn at random."""

Maps = np.ndarray


def padim(train: np.ndarray, test: np.ndarray, seed: int) -> Maps:
    """A Gaussian at each position (PaDiM; Defard and others, 2021): the Mahalanobis distance, [M, H, W], of
    ``test`` [M, H, W, C] given ``train`` [N, H, W, C]. ``seed`` changes nothing."""
    from sklearn.covariance import LedoitWolf

    found = np.empty(test.shape[:3])
    for row, column in np.ndindex(*test.shape[1:3]):
        gaussian = LedoitWolf().fit(train[:, row, column])
        found[:, row, column] = gaussian.mahalanobis(test[:, row, column])
    return np.sqrt(found)


def gaussian(train: np.ndarray, test: np.ndarray, seed: int) -> Maps:
    """One Gaussian for all positions; else as :func:`padim`."""
    from sklearn.covariance import LedoitWolf

    fitted = LedoitWolf().fit(train.reshape(-1, train.shape[-1]))
    return np.sqrt(fitted.mahalanobis(test.reshape(-1, test.shape[-1]))).reshape(test.shape[:3])


def neighbours(train: np.ndarray, test: np.ndarray, seed: int) -> Maps:
    """The distance to the nearest of MEMORY positions of ``train``, drawn by ``seed``; else as
    :func:`padim`."""
    from sklearn.neighbors import NearestNeighbors

    rows = train.reshape(-1, train.shape[-1])
    kept = np.random.default_rng(seed).permutation(len(rows))[:MEMORY]
    memory = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(rows[kept])
    distances, _ = memory.kneighbors(test.reshape(-1, test.shape[-1]))
    return distances[:, 0].reshape(test.shape[:3])


METHODS: Dict[str, Callable[[np.ndarray, np.ndarray, int], Maps]] = {
    "padim": padim, "gaussian": gaussian, "neighbours": neighbours,
}
