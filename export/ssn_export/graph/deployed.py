"""The module that is exported: camera pixels in, anomaly map and score out."""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ssn_export.graph.backbone_folding import deployable
from ssn_export.graph.camera_resize import FRONTS
from ssn_export.graph.folding import Shapes, Trained
from ssn_export.graph.gather_plans import Composed, Gathered
from ssn_export.graph.head_plans import AsTrained, Full, RowFirst, constants, shapes_of, trained
from ssn_train.network.backbones import Backbone
from ssn_train.network.map_matrices import map_matrix
from ssn_train.network.model import SuperSimpleNet

CPU_PLANS: Dict[str, Callable[[Trained, Shapes], nn.Module]] = {
    "none": AsTrained,
    "adaptor": lambda weights, shapes: AsTrained(weights, shapes, early=True),
    "full": Full,
    "row-first": RowFirst,
}
"""What ``--plan auto`` times."""

PLANS: Dict[str, Callable[[Trained, Shapes], nn.Module]] = {
    **CPU_PLANS,
    "gather": Gathered,
    "gather-columns": lambda weights, shapes: Gathered(weights, shapes, rows_by_product=True),
    "gather-composed": Composed,
}
"""With those that only a GPU's compiler makes fast."""


class GraphOptions(NamedTuple):
    """What is exported beside the plan: ``frame`` (height, width) of the camera with its resize in
    the graph, ``front`` how (:data:`.camera_resize.FRONTS`)."""

    frame: Optional[Tuple[int, int]] = None
    front: str = "gather"


class Deployed(nn.Module):
    """uint8 BGR [N, height, width, 3] -> map logits [N, height, width], score [N].

    All constants are computed in float64. ``mean`` [C] are the features' means on training images:
    subtracted before the products, returned exactly behind them, so that half precision carries
    no large common offset.
    """

    pixel_mean: Tensor
    map_rows: Tensor
    map_columns: Tensor

    def __init__(
        self,
        model: SuperSimpleNet,
        backbone: Backbone,
        plan: str = "none",
        mean: Optional[Sequence[float]] = None,
        options: Optional[GraphOptions] = None,
    ):
        super().__init__()
        height, width = model.image_size
        options = options or GraphOptions()
        self.front = FRONTS[options.front](options.frame, model.image_size) if options.frame else None
        assert model.backbone is not None
        self.backbone, pixel_mean = deployable(model.backbone, backbone, model.image_size)
        shapes = shapes_of(model)
        self.heads = PLANS[plan](trained(model, mean), shapes)
        constants(
            self,
            pixel_mean=pixel_mean,
            map_rows=map_matrix(shapes.map[0], height),
            map_columns=map_matrix(shapes.map[1], width).T,
        )

    def forward(self, image: Tensor) -> Tuple[Tensor, Tensor]:
        pixels = image.to(self.map_rows.dtype)
        if self.front is not None:
            pixels = self.front(pixels)
        features = self.backbone((pixels - self.pixel_mean).permute(0, 3, 1, 2))
        seg_logits, score_logit = self.heads(features)
        anomaly_map = self.map_rows @ seg_logits @ self.map_columns
        return anomaly_map, torch.sigmoid(score_logit)
