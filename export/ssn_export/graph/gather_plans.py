"""Plans shaped for NVIDIA's compiler: interpolation by gathers in place of products with matrices.

A row of the pooled upscaling has few entries that are not zero: three at most where the map is at least
twice as fine as the level. So ``U X`` is a sum of so many rows of X with coefficients, and a Gather with
constant indices is arithmetic to the compiler, which joins it with what follows. The channel products stay at
low resolution as in plan ``full``; interpolation, bias, non-linearity and the product with the last layer
become one kernel, and the hidden channels of the map's size never reach memory. docs/fusion.md has the
compiler's figures.

Tensors are channels-last, as the compiler lays them out: a gather along rows of a channels-first tensor is a
kernel of its own. Names as in :mod:`.folding`.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_export.graph import folding
from ssn_export.graph.folding import Level, Shapes, Size, Trained
from ssn_export.graph.head_plans import (
    MapPart,
    Score,
    activated,
    constants,
    low_bias,
    map_logits,
    maximum,
)
from ssn_train.network.operators import pooled_upscale, shifted, sparse_rows, tap_columns

FLOPS_A_BYTE = 111.0
"""Arithmetic that costs as much as a byte from memory, in half on a small card (RTX A2000: 32 TFLOPS,
288 GB/s); larger ones have more."""


class Gathered(nn.Module):
    """Plan ``gather``, and with ``rows_by_product`` plan ``gather-columns``.

    Segmentation: the product at each level's resolution, then rows and columns in one kernel that computes
    its few rows anew for each column. ``rows_by_product`` writes the rows once to memory instead, for cards
    whose arithmetic is slower.
    """

    seg_constant: Tensor
    last: Tensor

    def __init__(self, w: Trained, shapes: Shapes, rows_by_product: bool = False):
        super().__init__()
        levels = folding.levels(w)
        self.distance = w.distance
        self.spread = nn.ModuleList(
            _Interpolated(hw, shapes.map, rows_by_product) for hw in shapes.levels
        )
        self.centring = Centring(levels)
        for n, level in enumerate(levels):
            constants(self, **{f"seg{n}": level.seg.T})
        constants(self, seg_constant=low_bias(self, w, levels, shapes), last=w.last)
        self.judged = Judged(w, levels, shapes) if w.classifies else None

    def forward(self, features: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        centred = self.centring(features)  # [N, h, w, C_l]
        parts = []
        for n, (x, spread) in enumerate(zip(centred, self.spread)):
            low = x.flatten(1, 2) @ self.get_buffer(f"seg{n}")  # [N, hw, S]
            if hasattr(self, f"low{n}"):
                low = low + self.get_buffer(f"low{n}")
            parts.append(spread(low.reshape(*x.shape[:3], -1)))
        hidden = activated(sum(parts[1:], parts[0]) + self.seg_constant, self.distance)  # [N, H, W, S]
        seg = map_logits((hidden * self.last).sum(3), self.distance)  # [N, H, W]
        return seg, maximum(seg) if self.judged is None else self.judged(centred, seg)


class Composed(nn.Module):
    """Plan ``gather-composed``: features upscaled by gathers in one kernel, then the segmentation head as a
    composed 1x1 convolution at the map's size, as in plan ``row-first``: most products, least scalar work."""

    seg: Tensor
    seg_bias: Tensor
    last: Tensor

    def __init__(self, w: Trained, shapes: Shapes):
        super().__init__()
        levels = folding.levels(w)
        self.distance = w.distance
        self.spread = nn.ModuleList(_Interpolated(hw, shapes.map, False) for hw in shapes.levels)
        self.centring = Centring(levels)
        for n, level in enumerate(levels):
            constants(self, **{f"offset{n}": level.offset})
        constants(
            self, seg=np.concatenate([level.seg for level in levels], axis=1)[:, :, None, None],
            seg_bias=w.seg @ w.adaptor_bias + w.seg_bias, last=w.last[None, :, None, None],
        )
        self.judged = Judged(w, levels, shapes) if w.classifies else None

    def forward(self, features: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        centred = self.centring(features)  # [N, h, w, C_l]
        standing = [x + self.get_buffer(f"offset{n}") for n, x in enumerate(centred)]
        full = torch.cat([spread(x) for x, spread in zip(standing, self.spread)], dim=3)  # [N, H, W, C]
        hidden = activated(F.conv2d(full.permute(0, 3, 1, 2), self.seg, self.seg_bias), self.distance)
        seg = map_logits(F.conv2d(hidden, self.last)[:, 0], self.distance)  # of [N, S, H, W]: [N, H, W]
        return seg, maximum(seg) if self.judged is None else self.judged(centred, seg)


class Centring(nn.Module):
    """Features minus their centres, channels-last: [N, C_l, h, w] -> [N, h, w, C_l]."""

    def __init__(self, levels: Sequence[Level]):
        super().__init__()
        for n, level in enumerate(levels):
            constants(self, **{f"centre{n}": level.centre[:, None, None]})

    def forward(self, features: Sequence[Tensor]) -> List[Tensor]:
        return [(x - self.get_buffer(f"centre{n}")).permute(0, 2, 3, 1) for n, x in enumerate(features)]


class Judged(nn.Module):
    """The classification head: centred features, each [N, h, w, C_l], and map [N, H, W] -> logits [N]."""

    constant: Tensor
    columns: Tensor

    def __init__(self, w: Trained, levels: Sequence[Level], shapes: Shapes):
        super().__init__()
        forms = [_taps(level, hw, shapes.map) for level, hw in zip(levels, shapes.levels)]
        self.levels = nn.ModuleList(forms)
        columns = [one.columns_matrix for one in forms if isinstance(one, _TapRows)]
        if columns:
            constants(self, columns=np.concatenate(columns, axis=1))
        constants(self, constant=folding.constant_map(w, levels, shapes))
        self.map_part, self.score = MapPart(w), Score(w)

    def forward(self, centred: Sequence[Tensor], seg: Tensor) -> Tensor:
        total = self.constant + self.map_part(seg[:, None]).permute(0, 2, 3, 1)  # [N, H, W, Q]
        rows = []
        for x, taps in zip(centred, self.levels):
            if isinstance(taps, _TapRows):
                rows.append(taps(x))  # [N, H, w k, Q]
            else:
                total = total + taps(x)
        if rows:
            total = total + self.columns @ torch.cat(rows, dim=2)
        return cast(Tensor, self.score(total, seg))


class Gather(nn.Module):
    """``matrix`` [n_out, n_in] times an axis of a tensor, by its entries that are not zero."""

    def __init__(self, matrix: np.ndarray, axis: int, behind: int):
        super().__init__()
        self.axis = axis
        places, weights = sparse_rows(matrix)
        self.count = len(places)
        for t in range(self.count):
            self.register_buffer(f"place{t}", torch.from_numpy(places[t]))
            constants(self, **{f"weight{t}": weights[t].reshape(-1, *[1] * behind)})

    def forward(self, x: Tensor) -> Tensor:
        terms = [
            x.index_select(self.axis, self.get_buffer(f"place{t}")) * self.get_buffer(f"weight{t}")
            for t in range(self.count)
        ]
        return sum(terms[1:], terms[0])


class _Interpolated(nn.Module):
    """``U_h X U_w^T`` of each channel: [N, h, w, K] -> [N, H, W, K]."""

    rows_matrix: Tensor

    def __init__(self, size: Size, map_hw: Size, rows_by_product: bool):
        super().__init__()
        self.left, self.by_product = (map_hw[0], size[1]), rows_by_product
        rows, columns = (pooled_upscale(*pair) for pair in zip(size, map_hw))
        if rows_by_product:
            constants(self, rows_matrix=rows)
        else:
            self.rows = Gather(rows, 1, 2)
        self.columns = Gather(columns, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.by_product:
            return cast(Tensor, self.columns(self.rows(x)))
        left = self.rows_matrix @ x.flatten(2)  # [N, H, w K]
        return cast(Tensor, self.columns(left.reshape(-1, *self.left, x.shape[3])))


class _TapConvolution(nn.Module):
    """A level's part of the classification head where it has few channels: rows by gathers, all kernel rows
    as one k x 1 convolution at the map's height, columns by gathers: [N, h, w, C_l] -> [N, H, W, Q]."""

    kernel: Tensor

    def __init__(self, level: Level, size: Size, map_hw: Size):
        super().__init__()
        k, _, width, channels = level.taps.shape
        rows, columns = (pooled_upscale(*pair) for pair in zip(size, map_hw))
        self.rows, self.columns = Gather(rows, 1, 2), Gather(tap_columns(columns, k), 2, 1)
        self.merged = (map_hw[0], size[1] * k, width)
        constants(self, kernel=level.taps.transpose(1, 2, 3, 0).reshape(k * width, channels, k, 1))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows(x).permute(0, 3, 1, 2)  # [N, C_l, H, w]
        by_column = F.conv2d(rows, self.kernel, padding=(self.kernel.shape[2] // 2, 0))  # [N, k Q, H, w]
        return self.columns(by_column.permute(0, 2, 3, 1).reshape(-1, *self.merged))


class _TapRows(nn.Module):
    """The same where it has many, up to the columns: all taps as one product at low resolution, rows by
    gathers: [N, h, w, C_l] -> [N, H, w k, Q]. The columns of all such levels are one product behind: gathers
    there would compute every row anew for every column, k x k times three by three terms."""

    taps: Tensor

    def __init__(self, level: Level, size: Size, map_hw: Size):
        super().__init__()
        k, _, width, channels = level.taps.shape
        rows, columns = (pooled_upscale(*pair) for pair in zip(size, map_hw))
        self.parts, self.merged = (*size, k, k * width), (map_hw[0], size[1] * k, width)
        self.rows = nn.ModuleList(Gather(one, 1, 2) for one in shifted(rows, k))
        self.columns_matrix = tap_columns(columns, k)  # [W, w k]
        constants(self, taps=level.taps.reshape(-1, channels))

    def forward(self, x: Tensor) -> Tensor:
        # The weight stands on the left: the compiler joins products of the same features, which is good for
        # one image, and for a range of batches took 25 times the memory with both weights on the right.
        low = (self.taps @ x.flatten(1, 2).transpose(1, 2)).transpose(1, 2)  # [N, hw, k k Q]
        low = low.reshape(-1, *self.parts)  # [N, h, w, k, k Q]
        by_row = [rows(low[:, :, :, i]) for i, rows in enumerate(self.rows)]
        return sum(by_row[1:], by_row[0]).reshape(-1, *self.merged)  # of [N, H, w, k Q]


def _taps(level: Level, size: Size, map_hw: Size) -> nn.Module:
    """The cheaper form: the convolution computes at the map's height, the product writes and reads k k Q
    channels at low resolution, and its columns at the map's size."""
    (h, w), (k, _, width, channels) = size, level.taps.shape
    more_flops = 2 * channels * k * k * width * (map_hw[0] - h) * w
    fewer_bytes = 2 * 2 * width * (k * k * h * w + map_hw[0] * map_hw[1])
    form = _TapConvolution if more_flops <= FLOPS_A_BYTE * fewer_bytes else _TapRows
    return form(level, size, map_hw)
