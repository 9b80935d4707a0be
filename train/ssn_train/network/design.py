"""What a model is built of around its backbone: levels, the map's size, the heads' widths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple


@dataclass(frozen=True)
class Design:
    """``levels`` of the backbone, the finest first (:func:`ssn_train.network.backbones.create`); ``grid`` the
    segmentation map's (H, W), None for ``scale`` times the first level's; ``seg_width`` and ``cls_width``
    hidden channels of the heads, the latter's 0 for none; ``cls_kernel`` rows and columns of the
    classification head's convolution; ``adaptor`` False keeps the feature adaptor at the identity;
    ``distance``: the map is a distance (:mod:`ssn_train.training.distance`), the segmentation head as wide as
    the features. The defaults are the paper's (sections 3.1 and 3.4)."""

    levels: Tuple[str, ...] = ("8", "16")
    grid: Optional[Tuple[int, int]] = None
    scale: int = 2
    seg_width: int = 1024
    cls_width: int = 128
    cls_kernel: int = 5
    adaptor: bool = True
    distance: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Design:
        """From what ``dataclasses.asdict`` made of one, through JSON; TypeError for other fields."""
        grid = document.get("grid")
        pair = None if grid is None else (grid[0], grid[1])
        return cls(**{**document, "levels": tuple(document["levels"]), "grid": pair})

    def map_size(self, first_level_hw: Sequence[int]) -> Tuple[int, int]:
        """(H, W) of the segmentation map for the first level's (h, w)."""
        height, width = first_level_hw
        return self.grid or (self.scale * height, self.scale * width)


PAPER = Design()
