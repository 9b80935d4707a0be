"""The choices of one training run, with the paper's values as defaults (section 4.3)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

from ssn_edge.errors import InputError
from ssn_edge.frames.decoding import Reading
from ssn_train.data.datasets import Sample, Selection
from ssn_train.options import recipe
from ssn_train.options.recipe import Recipe

PAPER_NOISE = 0.015
STANDARDISED_NOISE = 0.3
"""For features of unit standard deviation; docs/training.md has the sweep that chose it."""

UNSUPERVISED_THRESHOLD, SUPERVISED_THRESHOLD = 0.2, 0.6
"""The published code recommends its MVTec AD settings for one's own normal photos, and those of
SensumSODF for labelled ones."""

METHODS = ("trained", "distance")
"""Heads, or the distance from the normal features' Gaussian."""

TRAINERS = ("positions", "photos")
"""What a step sees: positions of the map drawn from all photos, or whole photos, as published."""

CLS_WIDTH = 128
"""The paper's."""

MIN_GRID = 4
MIN_SIZE = 32
"""Below this the map's Gaussian (25 taps) and the two strides leave nothing to look at."""


@dataclass(frozen=True)
class Settings:
    """``method`` is one of :data:`METHODS`; ``trainer`` is one of :data:`TRAINERS`, which count ``batch``
    photos or a number of positions as a step; ``levels`` to ``adaptor`` are the fields of
    :class:`ssn_train.network.design.Design` (``cls_width`` None: a classification head where labelled defects
    train it or it is to judge). ``steps`` overrides ``epochs``, and ``budget`` (seconds of steps) both;
    ``noise_std`` None means the backbone's default; ``perlin_threshold`` None the paper's for this
    supervision; ``bits`` of 16-bit photos, None what they use; ``orientation``: of tags, always "applied" by
    now; ``false_alarms`` is the share of sound photos that may alarm (None: the least that can be promised),
    on average or with ``confidence``; ``holdout`` is the share of normal photos kept for calibrating the
    thresholds; ``cross_fit`` further trainings estimate them instead (None: where so few can be kept that
    they promise nothing useful); ``verdict_source`` None: the score where there is a classification head,
    else the map's maximum; ``selection`` is what was taken of the data set (category, fold, ...)."""

    backbone: str
    weights: Optional[str] = None
    variant: str = "icpr"
    size: Tuple[int, int] = (256, 256)
    geometry: str = "stretch"
    bits: Optional[int] = None
    orientation: str = "applied"
    epochs: int = 300
    steps: Optional[int] = None
    batch: int = 32
    rate_scale: float = 1.0
    noise_std: Optional[float] = None
    perlin_threshold: Optional[float] = None
    holdout: float = 0.1
    false_alarms: Optional[float] = None
    confidence: Optional[float] = None
    cross_fit: Optional[int] = 0
    verdict_source: Optional[str] = "score"
    method: str = "trained"
    trainer: str = "photos"
    levels: Tuple[str, ...] = ("8", "16")
    grid: Optional[Tuple[int, int]] = None
    scale: int = 2
    seg_width: int = 1024
    cls_width: Optional[int] = 128
    cls_kernel: int = 5
    adaptor: bool = True
    budget: Optional[float] = None
    seed: int = 42
    plain: bool = False
    bfloat16: bool = False
    ablation: Optional[str] = None
    selection: Selection = Selection()

    def __post_init__(self) -> None:
        if min(self.size) < MIN_SIZE:
            raise InputError(f"--size {self.size[0]}x{self.size[1]}: at least {MIN_SIZE}x{MIN_SIZE}")
        for name in ("rate_scale", "noise_std", "perlin_threshold", "holdout", "confidence"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise InputError(f"{name} is {value}; give a finite number")
        if self.grid and min(self.grid) < MIN_GRID:
            raise InputError(f"--grid {self.grid[0]}x{self.grid[1]}: at least {MIN_GRID}x{MIN_GRID}")
        if self.grid and (self.grid[0] > self.size[0] or self.grid[1] > self.size[1]):
            raise InputError(
                f"--grid {self.grid[0]}x{self.grid[1]}: finer than the photos' {self.size[0]}x{self.size[1]}"
            )
        if self.cls_kernel % 2 == 0:
            raise InputError(f"--cls-kernel {self.cls_kernel}: give an odd number, which has a middle")
        if self.cls_width == 0 and self.verdict_source in ("score", "either"):
            raise InputError(
                f"--verdict-source {self.verdict_source}: --cls-width 0 leaves no classification head to "
                "judge by; give map_max, or a width"
            )
        if self.trainer == "positions":
            self._check_positions()
        if self.batch < 2:
            raise InputError(f"--batch {self.batch}: BatchNorm needs at least 2")
        if self.plain and self.bfloat16:
            raise InputError("--plain and --bfloat16: the plain step is the float32 reference")

    def _check_positions(self) -> None:
        for name in ("plain", "bfloat16", "ablation"):
            if getattr(self, name):
                raise InputError(
                    f"--{name}: of steps on whole photos; give --trainer photos, or --published for the "
                    "paper's run"
                )

    def settled(self, supervised: bool) -> Settings:
        """With what depends on the supervision: whether there is a classification head, and what judges."""
        if self.method == "distance" and supervised:
            raise InputError(
                "--method distance: learns from good photos alone, and there are labelled defects to train "
                "on; add --unsupervised, which tests on them"
            )
        width, source = self.cls_width, self.verdict_source
        if width is None:
            width = CLS_WIDTH if supervised or source in ("score", "either") else 0
        if source is None:
            source = "score" if width else "map_max"
        return dataclasses.replace(self, cls_width=width, verdict_source=source)

    def design(self, recipe: Recipe) -> Dict[str, Any]:
        """Fields of :class:`ssn_train.network.design.Design` for ``recipe``."""
        grid, scale = (self.grid, self.scale) if recipe.upscale else (None, 1)
        return {
            "levels": self.levels, "grid": grid, "scale": scale, "seg_width": self.seg_width,
            "cls_width": self.cls_width, "cls_kernel": self.cls_kernel, "adaptor": self.adaptor,
            "distance": self.method == "distance",
        }

    @property
    def reading(self) -> Reading:
        """How files become pixels; with ``bits`` None as if all were used."""
        return Reading(self.bits or 16, self.orientation)

    def recipe(self, supervised: bool) -> Recipe:
        """What ``ablation`` switches; InputError where it needs defects and there are none."""
        return recipe.find(self.ablation, supervised)

    def mask_threshold(self, supervised: bool) -> float:
        """Threshold of the Perlin masks: as asked for, else the paper's (section 4.3)."""
        if self.perlin_threshold is not None:
            return self.perlin_threshold
        return SUPERVISED_THRESHOLD if supervised else UNSUPERVISED_THRESHOLD

    def to_dict(self) -> Dict[str, Any]:
        """As JSON would give it back: tuples are lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    def check_same(self, stored: Dict[str, Any], where: str = "--resume:") -> None:
        """InputError naming the first setting that differs from a stored run's."""
        known = {  # of runs from before the choice
            "geometry": "stretch", "orientation": "ignored", "false_alarms": None, "confidence": None,
            "cross_fit": 0, "method": "trained", "trainer": "photos", "levels": ["8", "16"],
            "grid": None, "scale": 2, "seg_width": 1024, "cls_width": 128, "cls_kernel": 5,
            "adaptor": True, "budget": None,
            **stored,
        }
        known["selection"] = {"layout": None, "part": None, **known.get("selection", {})}
        ours = self.to_dict()
        for name in sorted(ours, key=lambda name: name != "trainer"):  # others' defaults depend on it
            value, before = ours[name], known.get(name)
            if (name, value) == ("bits", None):
                continue  # found in the photos
            if before != value:
                option = f" (--trainer {before})" if name == "trainer" else ""
                raise InputError(
                    f"{where} {name} is {value}, the run was started with {before}{option}; "
                    "give the same options, or another --out"
                )


def presets() -> Dict[str, Any]:
    """The data sets' settings by name (presets.json)."""
    return json.loads(Path(__file__).with_name("presets.json").read_text(encoding="utf-8"))


def fingerprint(samples: Sequence[Sample]) -> Dict[str, Any]:
    """Number of photos and a hash of their names and file sizes: has the data changed?"""
    digest = hashlib.sha256()
    for sample in samples:
        size = sample.path.stat().st_size if sample.path.exists() else None
        digest.update(os.fsencode(sample.path.name) + f" {size}\n".encode())
    return {"photos": len(samples), "sha256": digest.hexdigest()}
