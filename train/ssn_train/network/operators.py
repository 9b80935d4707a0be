"""The fusion's operators of one axis, float64 matrices: upscaling, pooling, kernel shifts.

Upscaling and pooling act on rows and columns apart and never mix channels; 1x1 convolutions mix
channels and never pixels. So they commute, and both the fast training step (:mod:`ssn_train.steps.fast_step`)
and the exported graph apply the channel mixing at the features' own low resolution.
docs/fusion.md has the derivation; U, S and V below are its names.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from ssn_train.network.map_matrices import resize_matrix


def pooled_upscale(n_in: int, n_out: int) -> np.ndarray:
    """``U = P B`` [n_out, n_in]: bilinear upscaling B (end points onto end points), then the 3-tap
    mean P with zeros outside, so the first and last row sum to 2/3."""
    band = np.eye(n_out) + np.eye(n_out, k=1) + np.eye(n_out, k=-1)
    return band / 3 @ resize_matrix(n_in, n_out, align_corners=True)


def shifted(u: np.ndarray, kernel: int) -> np.ndarray:
    """``S_i U`` for each of ``kernel`` (odd) rows i [kernel, n_out, n_in]: row y of it is row
    ``y + i - kernel // 2`` of U, zero outside, as a zero-padded convolution reads it."""
    reach = kernel // 2
    padded = np.pad(u, ((reach, reach), (0, 0)))
    return np.stack([padded[i : i + len(u)] for i in range(kernel)])


def tap_rows(u: np.ndarray, kernel: int) -> np.ndarray:
    """``V_h`` [n_out, kernel n_in] whose column i n_in + y belongs to kernel row i, low-res row y."""
    return np.concatenate(list(shifted(u, kernel)), axis=1)


def tap_columns(u: np.ndarray, kernel: int) -> np.ndarray:
    """``V_w`` [n_out, n_in kernel] whose column x kernel + j belongs to low-res column x, kernel
    column j."""
    return shifted(u, kernel).transpose(1, 2, 0).reshape(len(u), -1)


def sparse_rows(u: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The entries of each row of U [n_out, n_in] that are not zero: ``places`` int64 and ``weights`` float64,
    [T, n_out] each, with T the most that any row has, so that row y of ``U X`` is
    ``sum_t weights[t, y] X[places[t, y]]``. Rows with fewer repeat a place with weight 0."""
    count = max(1, int((u != 0).sum(axis=1).max()))
    places = np.zeros((count, len(u)), np.int64)
    weights = np.zeros((count, len(u)))
    for y, row in enumerate(u):
        found = np.flatnonzero(row)
        places[: len(found), y], weights[: len(found), y] = found, row[found]
        places[len(found) :, y] = found[-1] if len(found) else 0
    return places, weights
