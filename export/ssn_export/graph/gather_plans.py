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

from typing import Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_export.graph import folding
from ssn_export.graph.folding import Level, Shapes, Size, Trained
from ssn_export.graph.head_plans import activated, constants, low_bias, map_logits, maximum
from ssn_train.network.operators import pooled_upscale, shifted, sparse_rows, tap_columns

FLOPS_A_BYTE = 100.0
"""Arithmetic that costs as much as a byte from memory, in half on a small card (32 TFLOPS, 288 GB/s)."""


class Gathered(nn.Module):
    """Plan ``gather``, and with ``rows_by_product`` plan ``gather-columns``.

    Segmentation: the product at each level's resolution, then rows and columns in one kernel that computes
    its few rows anew for each column. ``rows_by_product`` writes the rows once to memory instead, for cards
    whose arithmetic is slower.
    """

    seg_constant: Tensor
    last: Tensor
    constant: Tensor
    map_kernel: Tensor

    def __init__(self, w: Trained, shapes: Shapes, rows_by_product: bool = False):
        super().__init__()
        levels = folding.levels(w)
        self.classifies, self.distance = w.classifies, w.distance
        self.seg_levels = nn.ModuleList(
            _Interpolated(hw, shapes.map, rows_by_product) for hw in shapes.levels
        )
        for n, level in enumerate(levels):
            constants(self, **{f"centre{n}": level.centre[:, None, None], f"seg{n}": level.seg.T})
        constants(self, seg_constant=low_bias(self, w, levels, shapes), last=w.last)
        if w.classifies:
            self.tap_levels = nn.ModuleList(
                _taps(level, hw, shapes.map) for level, hw in zip(levels, shapes.levels)
            )
            constants(self, constant=folding.constant_map(w, levels, shapes),
                      map_kernel=w.map_taps.transpose(2, 0, 1)[:, None])
            self.score = _Score(w)

    def forward(self, features: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        centred = [
            (x - self.get_buffer(f"centre{n}")).permute(0, 2, 3, 1) for n, x in enumerate(features)
        ]  # [N, h, w, C_l]
        parts = []
        for n, (x, level) in enumerate(zip(centred, self.seg_levels)):
            low = x.flatten(1, 2) @ self.get_buffer(f"seg{n}")  # [N, hw, S]
            if hasattr(self, f"low{n}"):
                low = low + self.get_buffer(f"low{n}")
            parts.append(level(low))
        hidden = activated(sum(parts[1:], parts[0]) + self.seg_constant, self.distance)  # [N, H, W, S]
        seg = map_logits((hidden * self.last).sum(3), self.distance)  # [N, H, W]
        if not self.classifies:
            return seg, maximum(seg)
        of_map = F.conv2d(seg[:, None], self.map_kernel, padding=self.map_kernel.shape[2] // 2)
        total = self.constant + of_map.permute(0, 2, 3, 1)  # [N, H, W, Q]
        for x, taps in zip(centred, self.tap_levels):
            total = total + taps(x)
        return seg, self.score(total, seg)


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
    """``U_h X U_w^T``: [N, hw, S] -> [N, H, W, S]."""

    rows_matrix: Tensor

    def __init__(self, size: Size, map_hw: Size, rows_by_product: bool):
        super().__init__()
        self.size, self.height, self.by_product = size, map_hw[0], rows_by_product
        rows, columns = (pooled_upscale(*pair) for pair in zip(size, map_hw))
        if rows_by_product:
            constants(self, rows_matrix=rows)
        else:
            self.rows = Gather(rows, 1, 2)
        self.columns = Gather(columns, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = self.size
        if self.by_product:
            left = self.rows_matrix @ x.reshape(-1, h, w * x.shape[2])  # [N, H, w S]
            return self.columns(left.reshape(-1, self.height, w, x.shape[2]))
        return self.columns(self.rows(x.reshape(-1, h, w, x.shape[2])))


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


class _TapProduct(nn.Module):
    """The same where it has many: all taps as one product at low resolution, rows by gathers, columns by a
    product."""

    taps: Tensor
    columns: Tensor

    def __init__(self, level: Level, size: Size, map_hw: Size):
        super().__init__()
        k, _, width, channels = level.taps.shape
        rows, columns = (pooled_upscale(*pair) for pair in zip(size, map_hw))
        self.parts, self.merged = (*size, k, k * width), (map_hw[0], size[1] * k, width)
        self.rows = nn.ModuleList(Gather(one, 1, 2) for one in shifted(rows, k))
        constants(self, taps=level.taps.transpose(3, 0, 1, 2).reshape(channels, -1),
                  columns=tap_columns(columns, k))

    def forward(self, x: Tensor) -> Tensor:
        low = (x.flatten(1, 2) @ self.taps).reshape(-1, *self.parts)  # [N, h, w, k, k Q]
        by_row = [rows(low[:, :, :, i]) for i, rows in enumerate(self.rows)]
        left = sum(by_row[1:], by_row[0])  # [N, H, w, k Q]
        return self.columns @ left.reshape(-1, *self.merged)


def _taps(level: Level, size: Size, map_hw: Size) -> nn.Module:
    """The cheaper form: the convolution computes at the map's height, the product writes and reads k k Q
    channels at low resolution."""
    (h, w), (k, _, width, channels) = size, level.taps.shape
    more_flops = 2 * channels * k * k * width * (map_hw[0] - h) * w
    fewer_bytes = 2 * 2 * (k * k - k * map_hw[0] / h) * width * h * w
    form = _TapConvolution if more_flops <= FLOPS_A_BYTE * fewer_bytes else _TapProduct
    return form(level, size, map_hw)


class _Score(nn.Module):
    """Pooled statistics and the linear layer, as sums: hidden [N, H, W, Q], map [N, H, W] -> logits [N]."""

    def __init__(self, w: Trained):
        super().__init__()
        q = len(w.cls_bias)
        constants(self, largest=w.score[:q], mean=w.score[q:2 * q], of_map=w.score[2 * q:], bias=w.score_bias)

    def forward(self, hidden: Tensor, seg: Tensor) -> Tensor:
        hidden = torch.relu(hidden)
        largest, mean = self.get_buffer("largest"), self.get_buffer("mean")
        pooled = hidden.amax((1, 2)) * largest + hidden.mean((1, 2)) * mean  # [N, Q]
        of_map = self.get_buffer("of_map")
        seg_part = seg.amax((1, 2)) * of_map[0] + seg.mean((1, 2)) * of_map[1]  # [N]
        return pooled.sum(1) + seg_part + self.get_buffer("bias")
