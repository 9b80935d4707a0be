"""SuperSimpleNet (ICPR 2024, section 3) as its published code computes it.

Module and parameter names are the published code's, so its state dictionaries load. The names
of the stages in shapes: B images, C = C2 + C3 channels of both levels, h x w the level-2 map,
H x W = 2h x 2w the segmentation map.
"""

from __future__ import annotations

import functools
from typing import List, Optional, Sequence, Tuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_train.network.map_matrices import map_matrix

VARIANTS = ("icpr", "jims")
"""Which features the classification head sees: the adapted ones (the conference paper), or those
before the adaptor (the journal's extension; anomalib 2.x)."""

SEG_HIDDEN = 1024
CLS_HIDDEN = 128
LEAKY_SLOPE = 0.2


class FeatureAdaptor(nn.Module):
    """The linear layer of section 3.2 as a 1x1 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.projection = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.projection(pooled)


class Discriminator(nn.Module):
    """Segmentation and classification heads (section 3.4)."""

    def __init__(self, channels: int, stop_grad: bool):
        super().__init__()
        self.stop_grad = stop_grad
        self.seg = nn.Sequential(
            nn.Conv2d(channels, SEG_HIDDEN, kernel_size=1),
            nn.BatchNorm2d(SEG_HIDDEN),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(SEG_HIDDEN, 1, kernel_size=1, bias=False),
        )
        self.dec_head = nn.Sequential(
            nn.Conv2d(channels + 1, CLS_HIDDEN, kernel_size=5, padding="same"),
            nn.BatchNorm2d(CLS_HIDDEN),
            nn.ReLU(),
        )
        self.fc_score = nn.Linear(2 * CLS_HIDDEN + 2, 1)

    @property
    def seg_layers(self) -> Tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]:
        """The segmentation head's layers with weights."""
        first, norm, _, last = self.seg
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
        seg = seg_logits.detach() if self.stop_grad else seg_logits
        return self._pool(self.dec_head(torch.cat([features, seg], dim=1)), seg)

    def score(self, features_part: Tensor, seg: Tensor) -> Tensor:
        """Score logits [B] where the features' part of the convolution [B, 128, H, W] is known."""
        conv, norm = self.cls_layers
        map_part = F.conv2d(seg, conv.weight[:, -1:], conv.bias, padding=conv.kernel_size[0] // 2)
        hidden = F.relu(norm(features_part + map_part))  # [B, 128, H, W]
        return self._pool(hidden, seg)

    def _pool(self, x: Tensor, seg: Tensor) -> Tensor:
        pooled = [x.amax((2, 3)), x.mean((2, 3)), seg.amax((2, 3)), seg.mean((2, 3))]
        return self.fc_score(torch.cat(pooled, dim=1))[:, 0]  # [B, 258] -> [B]

    def forward(self, adapted: Tensor, features: Tensor) -> Tuple[Tensor, Tensor]:
        """Map logits [B, 1, H, W] of adapted features, and score logits [B] of what the variant
        shows the classification head."""
        seg_logits = self.seg(adapted)
        return seg_logits, self.classify(features, seg_logits)


class SuperSimpleNet(nn.Module):
    """Frozen backbone, upscaled features, adaptor and the two heads.

    ``backbone`` maps images [B, 3, height, width] (normalised, RGB) to two feature levels at
    strides 8 and 16 with ``channels`` channels each. ``stop_grad`` is the unsupervised setting,
    ``variant`` one of :data:`VARIANTS` (ValueError otherwise), ``upscale`` False the ablation.
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
        upscale: bool = True,
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant {variant!r}; one of {', '.join(VARIANTS)}")
        self.variant = variant
        self.upscales = upscale
        self.backbone = backbone
        self.channels: Tuple[int, int] = (channels[0], channels[1])
        self.image_size: Tuple[int, int] = (image_size[0], image_size[1])
        self.feature_adaptor = FeatureAdaptor(sum(channels))
        self.discriminator = Discriminator(sum(channels), stop_grad)
        self.register_buffer("feature_shift", torch.zeros(sum(channels)))
        self.register_buffer("feature_scale", torch.ones(sum(channels)))
        self.feature_adaptor.apply(_initialise)
        self.discriminator.apply(_initialise)  # never the backbone: it comes with its weights
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
    def features(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        """Raw backbone features of both levels: [B, C2, h, w] and [B, C3, h', w']."""
        assert self.backbone is not None
        level2, level3 = self.backbone(images)
        return level2, level3

    def standardise(self, features: Sequence[Tensor]) -> List[Tensor]:
        """Both raw levels with the statistics of :meth:`set_statistics` applied."""
        shifts = self.feature_shift[:, None, None].split(self.channels)
        scales = self.feature_scale[:, None, None].split(self.channels)
        return [(x - shift) * scale for x, shift, scale in zip(features, shifts, scales)]

    def map_size(self, level2_hw: Sequence[int]) -> Tuple[int, int]:
        """(H, W) of the segmentation map for level 2's (h, w): twice as large, unless ablated."""
        height, width = level2_hw
        return (2 * height, 2 * width) if self.upscales else (height, width)

    def upscale(self, features: Sequence[Tensor]) -> Tensor:
        """Standardise, resize both levels to the map's size, concatenate: [B, C, H, W].

        align_corners=True as published, so level 3 is not exactly scaled by four at odd sizes.
        """
        size = self.map_size(features[0].shape[2:])
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
