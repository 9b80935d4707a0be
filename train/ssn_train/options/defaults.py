"""What ``ssn-train`` does where nothing is said, by backbone.

The paper's backbone trains as published: steps on whole photos, 300 epochs, its levels, map and heads. A
backbone with a better choice that was measured has an entry in :data:`LEAN`; docs/training.md ("Features,
grid and heads") has the figures behind each number, made by ``ssn-bench --pareto``.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ssn_edge.errors import InputError
from ssn_edge.values import quantity, size_hw

PUBLISHED: Mapping[str, Any] = {
    "trainer": "photos", "levels": ("8", "16"), "grid": None, "scale": 2, "seg_width": 1024,
    "cls_width": 128, "cls_kernel": 5, "adaptor": True, "batch": 32, "rate_scale": 1.0,
    "verdict_source": "score",
}
"""SuperSimpleNet's (sections 3 and 4.3)."""

POSITIONS: Mapping[str, Any] = {
    **PUBLISHED, "trainer": "positions", "cls_width": None, "adaptor": False, "batch": 8, "rate_scale": 3.0,
    "verdict_source": None, "steps": 1000,
}
"""Of the trainer made for minutes, for any backbone."""

LEAN: Mapping[str, Mapping[str, Any]] = {
    "efficientnet_lite0": {**POSITIONS, "levels": ("block5", "block6")},
}
"""Backbones whose choice was measured."""


DISTANCE: Mapping[str, Any] = {
    **POSITIONS, "method": "distance", "scale": 1, "cls_width": 0, "verdict_source": "map_max", "steps": None,
}
"""Of --method distance."""

WITHOUT_EFFECT = {
    "budget": "--budget", "steps": "--steps", "epochs": "--epochs", "batch": "--batch",
    "rate_scale": "--lr-scale", "noise_std": "--noise", "perlin_threshold": "--perlin-threshold",
    "seg_width": "--seg-width", "cls_width": "--cls-width", "cls_kernel": "--cls-kernel",
    "adaptor": "--adaptor", "trainer": "--trainer", "verdict_source": "--verdict-source",
}
"""On a distance: nothing is trained, and the map alone can judge."""

UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def filled(
    options: Mapping[str, Any], published: bool, known: Mapping[str, Any] = {}  # noqa: B006 (only read)
) -> Dict[str, Any]:
    """Settings from the command line's ``options`` (texts, None where nothing was said): what was said, else
    what is ``known`` to be fast enough (:mod:`.known`), else the backbone's. ``published``: the paper's,
    whatever the backbone. InputError for what cannot be read."""
    given = {name: value for name, value in options.items() if value is not None}
    if "budget" in given:
        rivals = [f"--{name}" for name in ("steps", "epochs") if name in given]
        if rivals:
            raise InputError(f"--budget and {rivals[0]}: both are the length; give one")
        given["budget"] = seconds("--budget", given["budget"])
    if "levels" in given:
        given["levels"] = tuple(level.strip() for level in given["levels"].split(","))
    if "grid" in given:
        given.update(_grid(given.pop("grid")))
    chosen = dict(PUBLISHED)
    if not published and given.get("trainer") != "photos":
        chosen = dict(POSITIONS if given.get("trainer") == "positions" else PUBLISHED)
        chosen = dict(LEAN.get(options["backbone"], chosen))
    if given.get("method") == "distance":
        _check_distance(given, published)
        chosen.update(DISTANCE, levels=chosen["levels"])
    if "epochs" in given or "budget" in given:
        chosen.pop("steps", None)
        known = {name: value for name, value in known.items() if name != "steps"}
    chosen.update(known)
    if given.get("cls_width") == 0:
        chosen["verdict_source"] = None  # the map's maximum, unless something else is asked for
    return {**chosen, **given}


def _check_distance(given: Mapping[str, Any], published: bool) -> None:
    if published:
        raise InputError("--method distance: not the paper's; leave --published, --preset and --ablation out")
    useless = [option for name, option in WITHOUT_EFFECT.items() if name in given]
    if useless:
        raise InputError(f"{useless[0]}: has no effect with --method distance, which trains nothing")


def _grid(text: str) -> Dict[str, Any]:
    if text in ("1x", "2x"):
        return {"grid": None, "scale": int(text[0])}
    return {"grid": size_hw("--grid", text, square=True)}


def seconds(option: str, text: str) -> float:
    """``90``, ``60s``, ``10m`` or ``2h`` in seconds; InputError for another text, or for none at all."""
    return quantity(option, text, UNITS, "give a time such as 60s, 10m or 2h")
