"""What is compared: settings of ``ssn-train`` by name, and methods that need no training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Mapping, Tuple

from ssn_train.network.design import Design
from ssn_train.options.defaults import LEAN, POSITIONS, PUBLISHED
from ssn_train.options.recipe import Recipe
from ssn_train.options.settings import Settings

BACKBONE = "efficientnet_lite0"


POSITIONS_512: Mapping[str, Any] = {
    **POSITIONS, "levels": ("block5", "block6"), "scale": 1, "seg_width": 512,
    "steps": 300,
}
"""What the candidates' changes are changes of."""

BEFORE = {**PUBLISHED, "steps": 300, "batch": 8, "rate_scale": 3.0}
"""What the project advised for short runs before there were steps on positions."""

MINUTE = 30
"""Such steps that two cores take in a minute."""


@dataclass(frozen=True)
class Candidate:
    """``changes`` are fields of :class:`ssn_train.options.settings.Settings` that differ from POSITIONS_512;
    ``method`` is a name of :data:`ssn_bench.pareto.bar.METHODS`, "" for trained heads."""

    name: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    method: str = ""

    def settings(self, seed: int = 0) -> Settings:
        """The whole settings; heads as for unsupervised training."""
        chosen = {**POSITIONS_512, "backbone": BACKBONE, **self.changes}
        return Settings(**chosen, seed=seed).settled(supervised=False)

    @property
    def design(self) -> Design:
        return Design(**self.settings().design(Recipe()))

    @property
    def features(self) -> Tuple[Any, ...]:
        """Candidates that agree in it share their features."""
        settings = self.settings()
        return settings.backbone, settings.size, settings.levels


TODAY, PADIM, GAUSSIAN, NEIGHBOURS = "as before", "PaDiM", "one Gaussian", "nearest neighbours"
WITH_SCORE = "512 wide, classification head"

CANDIDATES = (
    Candidate("512 wide"),
    Candidate(TODAY, BEFORE),
    Candidate("as before, in a minute", {**BEFORE, "steps": MINUTE}),
    Candidate("8,16 at 2x, 1024 wide", {"levels": ("8", "16"), "scale": 2, "seg_width": 1024}),
    Candidate("8,16 at 1x, 512 wide", {"levels": ("8", "16")}),
    Candidate("128 wide", {"seg_width": 128}),
    Candidate("256 wide", {"seg_width": 256}),
    Candidate("1024 wide", {"seg_width": 1024}),
    Candidate("512 wide at 2x", {"scale": 2}),
    Candidate("1024 wide at 2x", {"scale": 2, "seg_width": 1024}),
    Candidate("1024 wide at 2x, 1000 steps", {"scale": 2, "seg_width": 1024, "steps": 1000}),
    Candidate("512 wide at 8x8", {"grid": (8, 8)}),
    Candidate("block3,block5,block6 at 1x", {"levels": ("block3", "block5", "block6")}),
    Candidate("block4,block6", {"levels": ("block4", "block6")}),
    Candidate("block5,block7", {"levels": ("block5", "block7")}),
    Candidate("block6,block7 at 2x", {"levels": ("block6", "block7"), "scale": 2}),
    Candidate("512 wide, adaptor", {"adaptor": True}),
    Candidate(WITH_SCORE, {"cls_width": 128}),
    Candidate("512 wide, 100 steps", {"steps": 100}),
    Candidate("512 wide, 1000 steps", {"steps": 1000}),
    Candidate("512 wide, rates times 10", {"rate_scale": 10.0}),
    Candidate("1024 wide, rates times 10", {"rate_scale": 10.0, "seg_width": 1024}),
    Candidate("512 wide, noise 0.2", {"noise_std": 0.2}),
    Candidate("512 wide, noise 0.5", {"noise_std": 0.5}),
    Candidate("512 wide, 192x192", {"size": (192, 192)}),
    Candidate("512 wide, 320x320", {"size": (320, 320)}),
    Candidate(PADIM, method="padim"),
    Candidate("PaDiM on 8,16 at 1x", {"levels": ("8", "16")}, "padim"),
    Candidate(NEIGHBOURS, method="neighbours"),
    Candidate(GAUSSIAN, method="gaussian"),
)


def named(name: str) -> Candidate:
    return next(one for one in CANDIDATES if one.name == name)


def default() -> Candidate:
    """The candidate that is the backbone's default."""
    wanted = Settings(**LEAN[BACKBONE], backbone=BACKBONE).settled(supervised=False)
    return next(one for one in CANDIDATES if not one.method and one.settings(wanted.seed) == wanted)


def long_run() -> Candidate:
    """The default, three times as long."""
    steps = 3 * (default().settings().steps or 0)
    name = default().name.rpartition(", ")[0]
    return Candidate(f"{name}, {steps} steps", {**default().changes, "steps": steps})
