"""From the segmentation head's logits to the anomaly map.

The map's post-processing (bilinear resize to the input's size, Gaussian of sigma 4;
SuperSimpleNet, section 3.6) is linear and separable, so one matrix per axis does it:
``Y = G_h M G_w^T``. Training, export and the tests all take the matrices from here.
"""

from __future__ import annotations

import numpy as np

SIGMA = 4.0
"""Standard deviation of the map's Gaussian, in pixels of the model's input (section 3.6)."""


def resize_matrix(n_in: int, n_out: int, align_corners: bool = False) -> np.ndarray:
    """1-D bilinear interpolation as a float64 matrix [n_out, n_in]; rows sum to 1.

    ``align_corners=False`` puts samples at pixel centres, ``(i + 0.5) n_in / n_out - 0.5``
    clamped to the border (the anomaly map); ``True`` maps end points onto end points
    (the feature upscaling).
    """
    i = np.arange(n_out, dtype=np.float64)
    if align_corners:
        x = i * ((n_in - 1) / (n_out - 1)) if n_out > 1 else np.zeros(1)
    else:
        x = np.maximum((i + 0.5) * (n_in / n_out) - 0.5, 0.0)
    low = np.minimum(np.floor(x).astype(int), n_in - 1)
    high = np.minimum(low + 1, n_in - 1)
    fraction = x - low
    matrix = np.zeros((n_out, n_in))
    rows = np.arange(n_out)
    np.add.at(matrix, (rows, low), 1.0 - fraction)
    np.add.at(matrix, (rows, high), fraction)
    return matrix


def gaussian_matrix(n: int, sigma: float = SIGMA) -> np.ndarray:
    """1-D Gaussian blur with reflect padding as a float64 matrix [n, n]; rows sum to 1.

    25 taps at sigma 4, as in the published code (``2 * int(3 sigma) + 1``). ``n`` must exceed
    the radius of 12, since a reflection reaches that far: ValueError otherwise.
    """
    radius = int(3 * sigma)
    if n <= radius:
        raise ValueError(f"a Gaussian of radius {radius} needs more than {radius} pixels, got {n}")
    offsets = np.arange(-radius, radius + 1)
    taps = np.exp(-0.5 * (offsets / sigma) ** 2)
    taps /= taps.sum()
    source = np.abs(np.arange(n)[:, None] + offsets)  # reflect at 0
    source = np.where(source > n - 1, 2 * (n - 1) - source, source)  # reflect at n - 1
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.arange(n)[:, None], source), np.broadcast_to(taps, source.shape))
    return matrix


def map_matrix(n_in: int, n_out: int) -> np.ndarray:
    """``G``, one axis of the anomaly map's post-processing: float64 [n_out, n_in]."""
    return gaussian_matrix(n_out) @ resize_matrix(n_in, n_out)
