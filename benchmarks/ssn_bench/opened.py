"""A contender ready to be timed, and the images it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

from ssn_bench.protocol import Call


class Opened(NamedTuple):
    """A contender ready to be called on ``batch`` images; ``about`` is what its report says of it."""

    call: Call
    batch: int
    about: Dict[str, Any]
    path: Optional[Path]


def noise(batch: int, size_hw: Tuple[int, int], seed: int = 0) -> np.ndarray:
    """Seeded uint8 images [batch, height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (batch, *size_hw, 3), dtype=np.uint8)
