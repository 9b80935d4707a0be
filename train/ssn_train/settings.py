"""The choices of one training run, with the paper's values as defaults (section 4.3)."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

from ssn_edge.errors import InputError
from ssn_train.datasets import Sample

PAPER_NOISE = 0.015
STANDARDISED_NOISE = 0.3
"""For features of unit deviation; docs/training.md has the sweep that chose it."""

MIN_SIZE = 32
"""Below this the map's Gaussian (25 taps) and the two strides leave nothing to look at."""


@dataclass(frozen=True)
class Settings:
    """``steps`` overrides ``epochs``; ``noise_std`` None means the backbone's default;
    ``holdout`` is the share of normal photos kept for calibrating the thresholds."""

    backbone: str
    weights: Optional[str] = None
    variant: str = "icpr"
    size: Tuple[int, int] = (256, 256)
    epochs: int = 300
    steps: Optional[int] = None
    batch: int = 32
    rate_scale: float = 1.0
    noise_std: Optional[float] = None
    perlin_threshold: float = 0.2
    holdout: float = 0.1
    verdict_source: str = "score"
    seed: int = 42
    plain: bool = False
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if min(self.size) < MIN_SIZE:
            raise InputError(f"--size {self.size[0]}x{self.size[1]}: at least {MIN_SIZE}x{MIN_SIZE}")
        if self.batch < 2:
            raise InputError(f"--batch {self.batch}: BatchNorm needs at least 2")
        if self.plain and self.bfloat16:
            raise InputError("--plain and --bfloat16: the plain step is the float32 reference")

    def to_dict(self) -> Dict[str, Any]:
        """As JSON would give it back: tuples are lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    def check_same(self, stored: Dict[str, Any]) -> None:
        """InputError naming the first setting that differs from a stored run's."""
        for name, value in self.to_dict().items():
            if stored.get(name) != value:
                raise InputError(
                    f"--resume: {name} is {value}, the run was started with {stored.get(name)}; "
                    "give the same options, or another --out"
                )


def parse_size(text: str, option: str = "--size") -> Tuple[int, int]:
    """``HxW`` or one number for a square, in pixels."""
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(part.isdigit() for part in parts):
        raise InputError(f"{option} {text}: expected HxW in pixels, such as 256x256")
    return int(parts[0]), int(parts[-1])


def fingerprint(samples: Sequence[Sample]) -> Dict[str, Any]:
    """Number of photos and a hash of their names and file sizes: has the data changed?"""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.path.name} {sample.path.stat().st_size}\n".encode())
    return {"photos": len(samples), "sha256": digest.hexdigest()}
