"""SuperSimpleNet (ICPR 2024, section 3) as its published code computes it.

Module and parameter names are the published code's, so its state dictionaries load. Shapes: B images, C
channels of all levels together, h_l x w_l a level's map, H x W the segmentation map, S and K the heads'
widths; the paper has two levels (its 2 and 3), H x W = 2h x 2w of the first, S = 1024, K = 128
(:mod:`ssn_train.network.design`).
"""

from __future__ import annotations

import functools
from typing import List, Optional, Sequence, Tuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_train.network import design
from ssn_train.network.design import Design
from ssn_train.network.map_matrices import map_matrix

VARIANTS = ("icpr", "jims")
"""Which features the classification head sees: the adapted ones (the conference paper), or those
before the adaptor (the journal's extension; anomalib 2.x)."""

LEAKY_SLOPE = 0.2


class FeatureAdaptor(nn.Module):
    """The linear layer of section 3.2 as a 1x1 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.projection = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.projection(pooled)


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


class Discriminator(nn.Module):
    """Segmentation and classification heads (section 3.4); without the latter (``shape.cls_width`` 0) the
    score's logit is the map's maximum."""

    def __init__(self, channels: int, stop_grad: bool, shape: Design = design.PAPER):
        super().__init__()
        self.stop_grad = stop_grad
        width = channels if shape.distance else shape.seg_width
        self.seg = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=1),
            nn.BatchNorm2d(width),
            Square() if shape.distance else nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(width, 1, kernel_size=1, bias=False),
            *([Root()] if shape.distance else []),
        )
        self.classifies = shape.cls_width > 0
        if self.classifies:
            self.dec_head = nn.Sequential(
                nn.Conv2d(channels + 1, shape.cls_width, kernel_size=shape.cls_kernel, padding="same"),
                nn.BatchNorm2d(shape.cls_width),
                nn.ReLU(),
            )
            self.fc_score = nn.Linear(2 * shape.cls_width + 2, 1)

    @property
    def seg_layers(self) -> Tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]:
        """The segmentation head's layers with weights."""
        first, norm, _, last = self.seg[:4]
        return cast(nn.Conv2d, first), cast(nn.BatchNorm2d, norm), cast(nn.Conv2d, last)

    @property
    def cls_layers(self) -> Tuple[nn.Conv2d, nn.BatchNorm2d]:
        """The classification head's convolution and its normalisation."""
        return cast(nn.Conv2d, self.dec_head[0]), cast(nn.BatchNorm2d, self.dec_head[1])

    def classify(self, features: Tensor, seg_logits: Tensor) -> Tensor:
        """Score logits [B] from features [B, C, H, W] and their map [B, 1, H, W].

        Unsupervised training stops the gradient of all three uses of the map (into the
        convolution, its maximum, its mean), never that of the features.
        """
        if not self.classifies:
            return seg_logits.amax((1, 2, 3))
        seg = seg_logits.detach() if self.stop_grad else seg_logits
        return self._pool(self.dec_head(torch.cat([features, seg], dim=1)), seg)

    def score(self, features_part: Tensor, seg: Tensor) -> Tensor:
        """Score logits [B] where the features' part of the convolution [B, K, H, W] is known."""
        conv, norm = self.cls_layers
        map_part = F.conv2d(seg, conv.weight[:, -1:], conv.bias, padding=conv.kernel_size[0] // 2)
        hidden = F.relu(norm(features_part + map_part))  # [B, K, H, W]
        return self._pool(hidden, seg)

    def _pool(self, x: Tensor, seg: Tensor) -> Tensor:
        pooled = [x.amax((2, 3)), x.mean((2, 3)), seg.amax((2, 3)), seg.mean((2, 3))]
        return self.fc_score(torch.cat(pooled, dim=1))[:, 0]  # [B, 2K + 2] -> [B]

    def forward(self, adapted: Tensor, features: Tensor) -> Tuple[Tensor, Tensor]:
        """Map logits [B, 1, H, W] of adapted features, and score logits [B] of what the variant
        shows the classification head."""
        seg_logits = self.seg(adapted)
        return seg_logits, self.classify(features, seg_logits)


class SuperSimpleNet(nn.Module):
    """Frozen backbone, upscaled features, adaptor and the two heads.

    ``backbone`` maps images [B, 3, height, width] (normalised, RGB) to two or three feature levels with
    ``channels`` channels each, the finest first. ``stop_grad`` is the unsupervised setting, ``variant`` one
    of :data:`VARIANTS` (ValueError otherwise), ``shape`` the map's size and the heads' widths.
    The standardisation of the features (:meth:`set_statistics`) is the identity until set: the
    paper's backbone trains without it.
    """

    feature_shift: Tensor
    feature_scale: Tensor

    def __init__(
        self,
        backbone: Optional[nn.Module],
        channels: Sequence[int],
        image_size: Tuple[int, int],
        stop_grad: bool = True,
        variant: str = "icpr",
        shape: Design = design.PAPER,
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant {variant!r}; one of {', '.join(VARIANTS)}")
        self.variant = variant
        self.shape = shape
        self.backbone = backbone
        self.channels: Tuple[int, ...] = tuple(channels)
        self.image_size: Tuple[int, int] = (image_size[0], image_size[1])
        self.feature_adaptor = FeatureAdaptor(sum(channels))
        self.discriminator = Discriminator(sum(channels), stop_grad, shape)
        self.register_buffer("feature_shift", torch.zeros(sum(channels)))
        self.register_buffer("feature_scale", torch.ones(sum(channels)))
        self.feature_adaptor.apply(_initialise)
        self.discriminator.apply(_initialise)  # never the backbone: it comes with its weights
        if not shape.adaptor:
            nn.init.eye_(self.feature_adaptor.projection.weight[:, :, 0, 0])
            nn.init.zeros_(cast(Tensor, self.feature_adaptor.projection.bias))
            self.feature_adaptor.requires_grad_(False)
        if backbone is not None:
            backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> SuperSimpleNet:
        """Training mode for the heads; the backbone always stays in evaluation mode."""
        super().train(mode)
        if self.backbone is not None:
            self.backbone.eval()
        return self

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Standardise each feature channel ([C] each) before upscaling."""
        self.feature_shift.copy_(mean)
        self.feature_scale.copy_(1 / std)

    @torch.no_grad()
    def features(self, images: Tensor) -> List[Tensor]:
        """Raw backbone features of all levels: [B, C_l, h_l, w_l] each."""
        assert self.backbone is not None
        return list(self.backbone(images))

    def standardise(self, features: Sequence[Tensor]) -> List[Tensor]:
        """All raw levels with the statistics of :meth:`set_statistics` applied."""
        shifts = self.feature_shift[:, None, None].split(self.channels)
        scales = self.feature_scale[:, None, None].split(self.channels)
        return [(x - shift) * scale for x, shift, scale in zip(features, shifts, scales)]

    def upscale(self, features: Sequence[Tensor]) -> Tensor:
        """Standardise, resize all levels to the map's size, concatenate: [B, C, H, W].

        align_corners=True as published, so level 3 is not exactly scaled by four at odd sizes.
        """
        size = self.shape.map_size(features[0].shape[2:])
        return torch.cat(
            [
                F.interpolate(level, size=size, mode="bilinear", align_corners=True)
                for level in self.standardise(features)
            ],
            dim=1,
        )

    def pool(self, upscaled: Tensor) -> Tensor:
        """3x3 neighbourhood average; zeros outside count (section 3.1)."""
        return F.avg_pool2d(upscaled, kernel_size=3, stride=1, padding=1)

    def head_inputs(self, features: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        """What the segmentation and the classification head see, [B, C, H, W] each, from the raw
        levels: the adapted features and, by variant, the same or those before the adaptor."""
        pooled = self.pool(self.upscale(features))
        adapted = self.feature_adaptor(pooled)
        return adapted, (pooled if self.variant == "jims" else adapted)

    def anomaly_map(self, seg_logits: Tensor) -> Tensor:
        """Resize to the input's size and blur (section 3.6): logits [B, 1, height, width].

        Exact in the logits' dtype up to its rounding; the matrices are computed in float64.
        """
        g_h, g_w = (
            _map_matrix(n_in, n_out).to(seg_logits)
            for n_in, n_out in zip(seg_logits.shape[2:], self.image_size)
        )
        return g_h @ seg_logits @ g_w.T

    def predict(self, features: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        """Anomaly map [B, 1, height, width] (logits) and score [B] (0 to 1) from features."""
        seg_logits, score_logit = self.discriminator(*self.head_inputs(features))
        return self.anomaly_map(seg_logits), torch.sigmoid(score_logit)

    def forward(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        """Anomaly map and score of normalised RGB images [B, 3, height, width]."""
        return self.predict(self.features(images))


@functools.lru_cache(maxsize=8)
def _map_matrix(n_in: int, n_out: int) -> Tensor:
    """``map_matrix`` as a tensor, computed once per size: it would be a part of every frame."""
    return torch.from_numpy(map_matrix(n_in, n_out))


def _initialise(module: nn.Module) -> None:
    """Xavier normal, as published."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_normal_(module.weight)
