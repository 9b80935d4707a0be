"""What the ablations of Table 5 switch: one field for each of the table's columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional

from ssn_edge.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How to build and train; the defaults are SuperSimpleNet.

    ``upscale``: features at twice level 2's size (section 3.1), else at level 2's own.
    ``cls_head``: the classification head judges and is trained; else the map's maximum judges.
    ``anomalies``: ``perlin`` (section 3.3); ``simplenet``, noise over the whole of the second copy;
    ``none``, real defects alone.
    ``overlap``: noise may fall on real defects.
    ``optimised``: focal loss on the map, learning-rate schedule, and the gradient's stop
    (unsupervised) or clipping (supervised). Without it the classification head keeps its focal
    loss, since the paper names no other.
    """

    upscale: bool = True
    cls_head: bool = True
    anomalies: str = "perlin"
    overlap: bool = False
    optimised: bool = True


ABLATIONS: Dict[str, Recipe] = {
    "no_upscale": Recipe(upscale=False),
    "no_cls": Recipe(cls_head=False),
    "no_cls_sn_anom": Recipe(cls_head=False, anomalies="simplenet"),
    "old_train": Recipe(optimised=False),
    "overlap": Recipe(overlap=True),
    "sn_anom": Recipe(anomalies="simplenet"),
    "no_anom": Recipe(anomalies="none"),
    "sn": Recipe(False, False, "simplenet", False, False),
    "sn_ssn_anom": Recipe(False, False, "perlin", False, False),
}
"""The rows of Table 5. ``sn`` is SimpleNet as far as this code's parts go: its losses and noise at
level 2's size, with our optimizer, batches and pooling (docs/paper.md)."""


SUPERVISED_ONLY = ("overlap", "no_anom")
"""Without real defects the one changes nothing and the other leaves nothing to learn."""


def find(name: Optional[str], supervised: bool) -> Recipe:
    """The recipe of ``--ablation NAME``; without a name SuperSimpleNet's.

    Raises InputError for ``no_anom`` without labelled defects: nothing would be left to learn.
    """
    recipe = Recipe() if name is None else ABLATIONS[name]
    if recipe.anomalies == "none" and not supervised:
        raise InputError(
            f"--ablation {name}: trains on real defects alone, and there are none to train on; "
            "give labelled defects and leave --unsupervised out"
        )
    return recipe
