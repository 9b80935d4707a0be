"""The module that is exported: camera pixels in, anomaly map, score and verdict out."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from ssn_edge.postprocess import map_matrix
from ssn_edge.schema import Verdict
from ssn_export import fold
from ssn_export.frame import FRONTS
from ssn_export.plans import PLANS, constants, feature_sizes, trained
from ssn_export.surgery import deployable
from ssn_train.backbones import Backbone
from ssn_train.model import SuperSimpleNet


class Options(NamedTuple):
    """What is exported beside the plan: ``frame`` (height, width) of the camera with its resize in
    the graph, ``front`` how (:data:`ssn_export.frame.FRONTS`), ``verdict`` thresholds inside."""

    frame: Optional[Tuple[int, int]] = None
    front: str = "gather"
    verdict: Optional[Verdict] = None


class Deployed(nn.Module):
    """uint8 BGR [N, height, width, 3] -> map logits [N, height, width], score [N]; with a verdict
    also mask uint8 [N, height, width] and is_defect uint8 [N].

    All constants are computed in float64. ``mean`` [C] are the features' means on training images:
    subtracted before the products, returned exactly behind them, so that half precision carries
    no large common offset.
    """

    def __init__(
        self,
        model: SuperSimpleNet,
        backbone: Backbone,
        plan: str = "none",
        mean: Optional[Sequence[float]] = None,
        options: Optional[Options] = None,
    ):
        super().__init__()
        height, width = model.image_size
        options = options or Options()
        self.front = FRONTS[options.front](options.frame, model.image_size) if options.frame else None
        self.backbone, pixel_mean = deployable(model.backbone, backbone, model.image_size)
        sizes = feature_sizes(model)
        self.heads = PLANS[plan](trained(model, mean), sizes)
        map_hw = fold.map_size(sizes)
        self.verdict = options.verdict
        constants(
            self,
            pixel_mean=pixel_mean,
            map_rows=map_matrix(map_hw[0], height),
            map_columns=map_matrix(map_hw[1], width).T,
        )

    def forward(self, image: Tensor) -> Tuple[Tensor, ...]:
        pixels = image.to(self.map_rows.dtype)
        if self.front is not None:
            pixels = self.front(pixels)
        features = self.backbone((pixels - self.pixel_mean).permute(0, 3, 1, 2))
        seg_logits, score_logit = self.heads(features)
        anomaly_map = self.map_rows @ seg_logits @ self.map_columns
        score = torch.sigmoid(score_logit)
        if self.verdict is None:
            return anomaly_map, score
        return (anomaly_map, score, *self._judge(anomaly_map, score))

    def _judge(self, anomaly_map: Tensor, score: Tensor) -> Tuple[Tensor, Tensor]:
        """The runtime's comparisons: float32 pixels against the threshold's nearest float32, the
        image's float32 value against the exact threshold, so against the next float32 above."""
        pixel, image = thresholds(self.verdict)
        value = score if self.verdict.source == "score" else anomaly_map.amax((1, 2))
        mask, is_defect = anomaly_map >= pixel, value >= image
        return tuple(v.to(anomaly_map.dtype).to(torch.uint8) for v in (mask, is_defect))


def thresholds(verdict: Verdict) -> Tuple[float, float]:
    """Pixel and image threshold as the float32 values that give the runtime's verdicts."""
    image = np.float32(verdict.image_threshold)
    if float(image) < verdict.image_threshold:
        image = np.nextafter(image, np.float32(np.inf))
    return float(np.float32(verdict.pixel_threshold)), float(image)
