"""The fusion's algebra: trained weights to folded ones, pure functions in float64.

Names as in docs/fusion.md: X_l features of level l with C_l channels on h_l x w_l, map size H x W,
U_l the pooled upscaling of one axis, S_i the shift of kernel row i; S and Q hidden channels of the
segmentation and the classification head, k x k the latter's kernel. Without a classification head Q is 0.
Arrays are channels-last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ssn_train.network.operators import pooled_upscale, shifted

Size = Tuple[int, int]


class Shapes(NamedTuple):
    """Heights and widths: of all ``levels``' features, the finest first, and of the ``map`` of logits."""

    levels: Tuple[Size, ...]
    map: Size


@dataclass(frozen=True)
class Trained:
    """Float64 weights of a trained model's heads, BatchNorm already folded.

    ``adaptor`` [C, C] with ``adaptor_bias`` [C]; ``seg`` [S, C] with ``seg_bias``, ``last`` [S];
    ``taps`` [k, k, Q, C] with ``cls_bias`` [Q], ``map_taps`` [k, k, Q] for the map's channel; ``score``
    [2Q + 2] with ``score_bias`` [1] of the last layer, both empty where Q is 0. ``shift`` and ``scale`` [C]
    standardise the features, which have ``mean`` [C] on training images; ``channels`` are each level's C_l.
    ``adapted_cls`` is false for the variant jims; ``distance``: the map is a root of a sum of squares.
    """

    adaptor: np.ndarray
    adaptor_bias: np.ndarray
    seg: np.ndarray
    seg_bias: np.ndarray
    last: np.ndarray
    taps: np.ndarray
    cls_bias: np.ndarray
    map_taps: np.ndarray
    score: np.ndarray
    score_bias: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    mean: np.ndarray
    channels: Tuple[int, ...]
    adapted_cls: bool
    distance: bool = False

    @property
    def adapts(self) -> bool:
        """Whether the adaptor is anything but the identity."""
        return bool(self.adaptor_bias.any()) or not np.array_equal(self.adaptor, np.eye(len(self.adaptor)))

    @property
    def classifies(self) -> bool:
        """Whether there is a classification head; else the score's logit is the map's maximum."""
        return len(self.cls_bias) > 0

    @property
    def kernel(self) -> int:
        """Rows and columns of the classification head's kernel, odd."""
        return len(self.taps)


@dataclass(frozen=True)
class Level:
    """One level's folded weights, for features from which ``centre`` [C_l] was subtracted.

    ``adapt`` [C, C_l], ``seg`` [S, C_l], ``taps`` [k, k, Q, C_l]. ``offset`` [C_l] is the centre minus the
    standardisation's shift: what the weights make of it is constant and returned by :func:`constant_map` or
    by a bias at low resolution. ``part`` are the level's channels.
    """

    part: slice
    centre: np.ndarray
    offset: np.ndarray
    adapt: np.ndarray
    seg: np.ndarray
    taps: np.ndarray


def batch_norm(
    weight: np.ndarray,
    bias: Optional[np.ndarray],
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float,
) -> Tuple[np.ndarray, np.ndarray]:
    """``gamma (W x + b - mean) / sqrt(var + eps) + beta = W' x + b'`` for weights [K, ...]:
    ``W' = s W``, ``b' = s (b - mean) + beta`` with ``s = gamma / sqrt(var + eps)``."""
    scale = gamma / np.sqrt(var + eps)
    shift = (0.0 if bias is None else bias) - mean
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), scale * shift + beta


def pixels(weight: np.ndarray, std: Sequence[float]) -> np.ndarray:
    """First convolution [K, 3, kh, kw] of RGB in units of ``std`` to one of BGR in 0..255:
    ``W'[:, c] = W[:, 2 - c] / (255 std[2 - c])``. The mean stays outside: zero padding would not
    be zero any more."""
    return (weight / (255 * np.asarray(std))[:, None, None])[:, ::-1].copy()


def half_exact(values: np.ndarray) -> np.ndarray:
    """The nearest float16 values, in float64: a centre that half precision subtracts exactly."""
    return values.astype(np.float16).astype(np.float64)


def levels(trained: Trained) -> Tuple[Level, ...]:
    """``W_l`` of all heads for ``X_l - mu_l``: standardising ``(X - shift) scale`` is
    ``scale (X - mu) + scale (mu - shift)``, so each weight takes ``diag(scale)`` and the second
    part is the constant ``offset``. Composition: ``W_s W_a``, ``W_c[i, j] W_a``."""
    centre = half_exact(trained.mean)
    seg = trained.seg @ trained.adaptor
    taps = trained.taps @ trained.adaptor if trained.adapted_cls else trained.taps
    ends = np.cumsum(trained.channels).tolist()
    found = []
    for part in (slice(end - count, end) for end, count in zip(ends, trained.channels)):
        scale = trained.scale[part]
        found.append(
            Level(
                part=part,
                centre=centre[part],
                offset=centre[part] - trained.shift[part],
                adapt=trained.adaptor[:, part] * scale,
                seg=seg[:, part] * scale,
                taps=taps[..., part] * scale,
            )
        )
    return tuple(found)


def edges(size: Size, level_hw: Size) -> Tuple[np.ndarray, np.ndarray]:
    """``u_h, u_w = U 1`` of rows and columns: a constant 1 that passes upscaling and zero-padded
    pooling lies as ``u_h u_w^T`` on the map, 2/3 on an edge."""
    u_h, u_w = (pooled_upscale(n, m).sum(axis=1) for n, m in zip(level_hw, size))
    return u_h, u_w


def seg_constant(trained: Trained, folded: Sequence[Level], shapes: Shapes) -> np.ndarray:
    """``W_s b + beta_s`` plus the centres' part ``sum_l (W_s W_l mu_l) u_l u_l^T``: [H, W, S]."""
    constant = np.ones(shapes.map)[..., None] * (trained.seg @ trained.adaptor_bias + trained.seg_bias)
    for level, hw in zip(folded, shapes.levels):
        constant = constant + np.outer(*edges(shapes.map, hw))[..., None] * (level.seg @ level.offset)
    return constant


def constant_map(trained: Trained, folded: Sequence[Level], shapes: Shapes) -> np.ndarray:
    """``K`` [H, W, Q]: ``beta_c`` and every constant that enters the zero-padded kernel.

    A constant ``a`` that lies as ``e_h e_w^T`` on the map leaves the kernel as
    ``sum_ij (W_ij a) (S_i e_h)(S_j e_w)^T``, which is less near the border.
    """
    entering = []
    if trained.adapted_cls:
        entering.append((trained.taps @ trained.adaptor_bias, tuple(np.ones(n) for n in shapes.map)))
    for level, hw in zip(folded, shapes.levels):
        entering.append((level.taps @ level.offset, edges(shapes.map, hw)))
    constant = np.zeros((*shapes.map, len(trained.cls_bias))) + trained.cls_bias
    for value, axes in entering:
        by_row, by_column = (shifted(e[:, None], trained.kernel)[..., 0] for e in axes)  # [k, n] each
        constant += np.einsum("iy,jx,ijk->yxk", by_row, by_column, value, optimize=True)
    return constant


def row_kernels(level: Level) -> np.ndarray:
    """Taps as 1 x k convolutions, kernel rows stacked as output channels: [k Q, C_l, 1, k]; row i Q + c
    holds channel c of kernel row i."""
    kernel, _, width, channels = level.taps.shape
    stacked = level.taps.transpose(0, 2, 3, 1)  # [i, Q, C_l, j]
    return stacked.reshape(kernel * width, channels, 1, kernel)
