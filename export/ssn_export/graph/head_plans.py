"""The plans: where the linear part between features and heads is computed.

All compute the same numbers (docs/fusion.md). A plan is a module from the raw feature levels, the finest
first, to map logits [N, H, W] and score logits [N]. The folded ones are channels-last: positions x
channels matrices, no large transposes. A model without classification head has no node of one in any plan:
its score's logit is the largest of the map's. S, Q and k are the heads' widths and the kernel, as in
:mod:`.folding`.
"""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_export.graph import folding
from ssn_export.graph.folding import Shapes, Trained
from ssn_train.network.model import LEAKY_SLOPE, SuperSimpleNet
from ssn_train.network.operators import pooled_upscale, tap_columns, tap_rows


def trained(model: SuperSimpleNet, mean: Optional[Sequence[float]] = None) -> Trained:
    """The heads' weights with their BatchNorm folded; ``mean`` [C] of raw features (default: the shift of
    the standardisation)."""
    p = {k: v.double().numpy() for k, v in model.state_dict().items() if not k.startswith("backbone.")}
    heads = model.discriminator

    def folded(head: str, norm: nn.BatchNorm2d) -> Tuple[np.ndarray, np.ndarray]:
        name = f"discriminator.{head}"
        gamma, beta, mean, var = (
            p[f"{name}.1.{key}"] for key in ("weight", "bias", "running_mean", "running_var")
        )
        weight, bias = p[f"{name}.0.weight"], p[f"{name}.0.bias"]
        return folding.batch_norm(weight, bias, gamma, beta, mean, var, norm.eps)

    seg, seg_bias = folded("seg", heads.seg_layers[1])
    if heads.classifies:
        cls, cls_bias = folded("dec_head", heads.cls_layers[1])
        score, score_bias = p["discriminator.fc_score.weight"][0], p["discriminator.fc_score.bias"]
    else:
        cls, cls_bias, score, score_bias = np.zeros((0, sum(model.channels) + 1, 1, 1)), *[np.zeros(0)] * 3
    return Trained(
        adaptor=p["feature_adaptor.projection.weight"][:, :, 0, 0],
        adaptor_bias=p["feature_adaptor.projection.bias"],
        seg=seg[:, :, 0, 0],
        seg_bias=seg_bias,
        last=p["discriminator.seg.3.weight"][0, :, 0, 0],
        taps=cls[:, :-1].transpose(2, 3, 0, 1),
        cls_bias=cls_bias,
        map_taps=cls[:, -1].transpose(1, 2, 0),
        score=score,
        score_bias=score_bias,
        shift=p["feature_shift"],
        scale=p["feature_scale"],
        mean=p["feature_shift"] if mean is None else np.asarray(mean, np.float64),
        channels=model.channels,
        adapted_cls=model.variant == "icpr",
        distance=model.shape.distance,
    )


class Score(nn.Module):
    """Pooled statistics and the linear layer, as sums: hidden [N, H, W, Q], or its positions on other
    ``axes``, and map [N, H, W] -> logits [N]. A concatenation and a product for so few numbers would be four
    kernels more on a GPU."""

    bias: Tensor

    def __init__(self, w: Trained):
        super().__init__()
        q = len(w.cls_bias)
        constants(self, largest=w.score[:q], mean=w.score[q : 2 * q], of_map=w.score[2 * q :],
                  bias=w.score_bias)

    def forward(self, hidden: Tensor, seg: Tensor, axes: Tuple[int, int] = (1, 2)) -> Tensor:
        hidden = torch.relu(hidden)
        largest, mean, of_map = (self.get_buffer(name) for name in ("largest", "mean", "of_map"))
        pooled = hidden.amax(axes) * largest + hidden.mean(axes) * mean  # [N, Q]
        return pooled.sum(1) + seg.amax((1, 2)) * of_map[0] + seg.mean((1, 2)) * of_map[1] + self.bias  # [N]


def activated(hidden: Tensor, distance: bool) -> Tensor:
    """The segmentation head's non-linearity."""
    return hidden * hidden if distance else F.leaky_relu(hidden, LEAKY_SLOPE)


def map_logits(summed: Tensor, distance: bool) -> Tensor:
    return summed.sqrt() if distance else summed


def maximum(seg: Tensor) -> Tensor:
    """The score's logits [N] of a model without classification head, from map logits [N, H, W]."""
    return seg.amax((1, 2))


class AsTrained(nn.Module):
    """Plan ``none``: standardise, upscale and pool, adaptor, both heads, all at the map's size.

    Plan ``adaptor`` (``early``): the adaptor's products at low resolution, then as ``none``.
    """

    adaptor: Tensor
    adaptor_bias: Tensor
    seg: Tensor
    seg_bias: Tensor
    last: Tensor
    taps: Tensor
    cls_bias: Tensor

    def __init__(self, w: Trained, shapes: Shapes, early: bool = False):
        super().__init__()
        self.early, self.classifies, self.distance = early, w.classifies, w.distance
        self.shows_pooled = w.classifies and not w.adapted_cls
        self.adapts = w.adapts
        self.upscale = _Upscale(shapes)
        levels = folding.levels(w)
        for n, level in enumerate(levels):
            constants(
                self,
                **{
                    f"shift{n}": w.shift[level.part][:, None, None],
                    f"scale{n}": w.scale[level.part][:, None, None],
                    f"centre{n}": level.centre[:, None, None],
                    f"adapt{n}": level.adapt[:, :, None, None],
                    f"offset{n}": level.adapt @ level.offset,
                },
            )
        constants(
            self,
            adaptor=w.adaptor[:, :, None, None], adaptor_bias=w.adaptor_bias,
            seg=w.seg[:, :, None, None], seg_bias=w.seg_bias, last=w.last[None, :, None, None],
        )
        if w.classifies:
            constants(self, taps=w.taps.transpose(2, 3, 0, 1), cls_bias=w.cls_bias)
            self.map_part = MapPart(w)
            self.score = Score(w)

    def forward(self, features: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        if self.early:
            adapted = self._adapt_early(features)  # [N, C, H, W]
            pooled = self._pool(features) if self.shows_pooled else adapted
        else:
            pooled = self._pool(features)  # [N, C, H, W]
            adapted = pooled
            if self.adapts:
                adapted = F.conv2d(pooled, self.adaptor, self.adaptor_bias)  # [N, C, H, W]
        hidden = activated(F.conv2d(adapted, self.seg, self.seg_bias), self.distance)  # [N, S, H, W]
        seg = map_logits(F.conv2d(hidden, self.last), self.distance)  # [N, 1, H, W]
        if not self.classifies:
            return seg[:, 0], maximum(seg[:, 0])
        seen = pooled if self.shows_pooled else adapted  # [N, C, H, W]
        hidden = F.conv2d(seen, self.taps, self.cls_bias, padding=self.taps.shape[2] // 2)  # [N, Q, H, W]
        hidden = (hidden + self.map_part(seg)).permute(0, 2, 3, 1)  # [N, H, W, Q]
        return seg[:, 0], self.score(hidden, seg[:, 0])

    def _pool(self, features: Sequence[Tensor]) -> Tensor:
        """Standardised, upscaled and pooled: [N, C, H, W]."""
        standard = [
            (x - self.get_buffer(f"shift{n}")) * self.get_buffer(f"scale{n}")  # [N, C_l, h_l, w_l]
            for n, x in enumerate(features)
        ]
        return torch.cat([self.upscale(x, n) for n, x in enumerate(standard)], dim=1)

    def _adapt_early(self, features: Sequence[Tensor]) -> Tensor:
        """The adaptor at each level's own resolution, then upscaled: [N, C, H, W]."""
        parts = []
        for n, x in enumerate(features):
            centred = x - self.get_buffer(f"centre{n}")  # [N, C_l, h_l, w_l]
            low = F.conv2d(centred, self.get_buffer(f"adapt{n}"), self.get_buffer(f"offset{n}"))
            parts.append(self.upscale(low, n))  # [N, C, h_l, w_l] -> [N, C, H, W]
        return sum(parts[1:], parts[0]) + self.adaptor_bias[:, None, None]


class Full(nn.Module):
    """Plan ``full``: every channel product at low resolution, both heads' first layers composed with
    the adaptor; the map's size is met only behind the two spatial products."""

    columns: Tensor
    tap_columns: Tensor
    seg_constant: Tensor
    last: Tensor
    constant: Tensor

    def __init__(self, w: Trained, shapes: Shapes):
        super().__init__()
        levels = folding.levels(w)
        self.sizes, self.map_hw = shapes
        self.classifies, self.distance = w.classifies, w.distance
        self.kernel, self.cls_width = w.kernel, len(w.cls_bias)
        columns, tap_cols = [], []
        for n, (level, hw) in enumerate(zip(levels, shapes.levels)):
            rows_u, columns_u = (pooled_upscale(*pair) for pair in zip(hw, shapes.map))
            constants(self, **{f"centre{n}": level.centre[:, None, None], f"seg{n}": level.seg.T,
                               f"rows{n}": rows_u})
            columns.append(columns_u)
            if w.classifies:
                taps = level.taps.transpose(0, 3, 1, 2).reshape(w.kernel, level.taps.shape[3], -1)
                constants(self, **{f"taps{n}": taps, f"tap_rows{n}": tap_rows(rows_u, w.kernel)})
                tap_cols.append(tap_columns(columns_u, w.kernel))
        constants(
            self,
            columns=np.concatenate(columns, axis=1),
            seg_constant=low_bias(self, w, levels, shapes),
            last=w.last[:, None],
        )
        if w.classifies:
            constants(self, tap_columns=np.concatenate(tap_cols, axis=1),
                      constant=folding.constant_map(w, levels, shapes))
            self.map_part = UnfoldedMapPart(w)
            self.score = Score(w)

    def forward(self, features: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        seg, cls = [], []
        for n, feature in enumerate(features):
            centred = feature - self.get_buffer(f"centre{n}")  # [N, C_l, h, w]
            x = centred.flatten(2).transpose(1, 2)  # [N, hw, C_l]
            seg.append(self._seg_rows(n, x))
            if self.classifies:
                cls.append(self._tap_rows(n, x))
        hidden = self.columns @ torch.cat(seg, dim=2) + self.seg_constant  # [N, H, W, S]
        hidden = activated(hidden, self.distance)
        seg_logits = map_logits((hidden @ self.last)[..., 0], self.distance)  # [N, H, W]
        if not self.classifies:
            return seg_logits, maximum(seg_logits)
        hidden = self.tap_columns @ torch.cat(cls, dim=2) + self.constant  # [N, H, W, Q]
        hidden = hidden + self.map_part(seg_logits)
        return seg_logits, self.score(hidden, seg_logits)

    def _seg_rows(self, n: int, x: Tensor) -> Tensor:
        """The segmentation head's product of level n [N, hw, C_l], upscaled along rows: [N, H, w, S]."""
        h, w = self.sizes[n]
        low = x @ self.get_buffer(f"seg{n}")  # [N, hw, S]
        if hasattr(self, f"low{n}"):
            low = low + self.get_buffer(f"low{n}")
        left = self.get_buffer(f"rows{n}") @ low.reshape(-1, h, w * low.shape[-1])  # [N, H, w S]
        return left.reshape(-1, self.map_hw[0], w, low.shape[-1])

    def _tap_rows(self, n: int, x: Tensor) -> Tensor:
        """The same of all taps of the classification head: [N, H, w k, Q]."""
        h, w = self.sizes[n]
        low = x[:, None] @ self.get_buffer(f"taps{n}")  # [N, k, hw, k Q]
        left = self.get_buffer(f"tap_rows{n}") @ low.reshape(-1, self.kernel * h, w * low.shape[-1])
        return left.reshape(-1, self.map_hw[0], w * self.kernel, self.cls_width)


class RowFirst(nn.Module):
    """Plan ``row-first``: convolutions instead of matrix products where the work is, for light
    backbones and INT8. Features are widened to the map's width; the segmentation head is one
    composed 1x1 convolution at full size; the classification head one 1 x k convolution per kernel
    row at the features' height, then one product along columns."""

    seg: Tensor
    seg_constant: Tensor
    last: Tensor
    constant: Tensor

    def __init__(self, w: Trained, shapes: Shapes):
        super().__init__()
        levels = folding.levels(w)
        self.classifies, self.distance = w.classifies, w.distance
        self.kernel, self.cls_width = w.kernel, len(w.cls_bias)
        for n, (level, hw) in enumerate(zip(levels, shapes.levels)):
            rows, columns = (pooled_upscale(*pair) for pair in zip(hw, shapes.map))
            constants(self, **{f"centre{n}": level.centre[:, None, None], f"rows{n}": rows,
                               f"columns{n}": columns.T})
            if w.classifies:
                constants(self, **{f"kernel{n}": folding.row_kernels(level),
                                   f"tap_rows{n}": tap_rows(rows, w.kernel)})
        constants(
            self,
            seg=np.concatenate([level.seg for level in levels], axis=1)[:, :, None, None],
            seg_constant=folding.seg_constant(w, levels, shapes).transpose(2, 0, 1),
            last=w.last[None, :, None, None],
        )
        if w.classifies:
            constants(self, constant=folding.constant_map(w, levels, shapes).transpose(2, 0, 1))
            self.map_part = MapPart(w)
            self.score = Score(w)

    def forward(self, features: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        wide = [
            (x - self.get_buffer(f"centre{n}")) @ self.get_buffer(f"columns{n}")  # [N, C_l, h, W]
            for n, x in enumerate(features)
        ]
        full = torch.cat([self.get_buffer(f"rows{n}") @ x for n, x in enumerate(wide)], dim=1)  # [N, C, H, W]
        hidden = activated(F.conv2d(full, self.seg) + self.seg_constant, self.distance)  # [N, S, H, W]
        seg = map_logits(F.conv2d(hidden, self.last), self.distance)  # [N, 1, H, W]
        if not self.classifies:
            return seg[:, 0], maximum(seg[:, 0])
        total = self.constant + self.map_part(seg)  # [N, Q, H, W]
        for n, x in enumerate(wide):
            kernel = self.get_buffer(f"kernel{n}")
            by_row = F.conv2d(x, kernel, padding=(0, self.kernel // 2))  # [N, k Q, h, W]
            parts = by_row.reshape(-1, self.kernel, self.cls_width, *by_row.shape[2:]).transpose(1, 2)
            stacked = parts.reshape(-1, self.cls_width, self.kernel * by_row.shape[2], by_row.shape[3])
            total = total + self.get_buffer(f"tap_rows{n}") @ stacked  # of [N, Q, k h, W]
        return seg[:, 0], self.score(total, seg[:, 0], (2, 3))


class MapPart(nn.Module):
    """The map's own channel through the k x k kernel: [N, 1, H, W] -> [N, Q, H, W]. Its own convolution: as
    one more channel beside the features it would cost a copy of all of them."""

    kernel: Tensor

    def __init__(self, w: Trained):
        super().__init__()
        constants(self, kernel=w.map_taps.transpose(2, 0, 1)[:, None])

    def forward(self, seg: Tensor) -> Tensor:
        return F.conv2d(seg, self.kernel, padding=self.kernel.shape[2] // 2)


class UnfoldedMapPart(nn.Module):
    """The same channels-last, [N, H, W] -> [N, H, W, Q], for CPUs: there a transposition of all Q channels
    costs more than k x k copies of one (plan ``full`` by OpenVINO 5 %)."""

    unfold: Tensor
    weight: Tensor

    def __init__(self, w: Trained):
        super().__init__()
        self.reach, taps = w.kernel // 2, w.kernel**2
        unfold = np.eye(taps).reshape(taps, 1, w.kernel, w.kernel)
        constants(self, unfold=unfold, weight=w.map_taps.reshape(taps, -1))

    def forward(self, seg_logits: Tensor) -> Tensor:
        neighbours = F.conv2d(seg_logits[:, None], self.unfold, padding=self.reach)  # [N, k k, H, W]
        return neighbours.permute(0, 2, 3, 1) @ self.weight


class _Upscale(nn.Module):
    """``U_h X U_w^T`` of any level, [N, C, h, w] -> [N, C, H, W]."""

    def __init__(self, shapes: Shapes):
        super().__init__()
        for n, hw in enumerate(shapes.levels):
            rows, columns = (pooled_upscale(*pair) for pair in zip(hw, shapes.map))
            constants(self, **{f"rows{n}": rows, f"columns{n}": columns.T})

    def forward(self, x: Tensor, n: int) -> Tensor:
        return self.get_buffer(f"rows{n}") @ x @ self.get_buffer(f"columns{n}")


def low_bias(
    module: nn.Module, w: Trained, levels: Sequence[folding.Level], shapes: Shapes
) -> np.ndarray:
    """Where the segmentation head's constants go.

    Standardised features have centres that are zero but for rounding: their rest is added at low
    resolution (``low0``, ``low1``, ...) and a vector [S] is left. Otherwise the constants are a map
    [H, W, S], since an offset at low resolution is what centring removes.
    """
    if max(float(np.abs(w.scale[level.part] * level.offset).max()) for level in levels) > 1e-2:
        return folding.seg_constant(w, levels, shapes)
    for n, level in enumerate(levels):
        constants(module, **{f"low{n}": level.seg @ level.offset})
    return w.seg @ w.adaptor_bias + w.seg_bias


def constants(module: nn.Module, **arrays: np.ndarray) -> None:
    """Register arrays as float64 buffers."""
    for name, array in arrays.items():
        module.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array, np.float64)))


def shapes_of(model: SuperSimpleNet) -> Shapes:
    """Of the features and of the segmentation map for the model's input size."""
    assert model.backbone is not None
    parameter = next(model.backbone.parameters())
    with torch.inference_mode():
        levels: List[Tensor] = model.backbone(parameter.new_zeros(1, 3, *model.image_size))
    sizes = tuple((level.shape[2], level.shape[3]) for level in levels)
    return Shapes(sizes, model.shape.map_size(sizes[0]))
