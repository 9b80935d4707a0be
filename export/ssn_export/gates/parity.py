"""The gate of files and engines: what is too far from the trained model (:mod:`ssn_edge.verdict.parity`) is
not written or kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssn_edge.errors import ModelError
from ssn_edge.verdict.parity import (
    FLOAT_LIMITS,
    HALF_LIMITS,
    MARGINS,
    Parity,
    Reference,
    compare,
    read_reference,
    refusal,
)

__all__ = [
    "FLOAT_LIMITS", "HALF_LIMITS", "MARGINS", "OUTCOMES", "Parity", "Reference", "compare", "gate",
    "read_reference", "write_reference",
]

OUTCOMES = {"export": "nothing was written", "engine": "it was not kept"}
"""What is refused, and what that means."""


def gate(parity: Parity, precision: str, slack: float = 1.0, judged: str = "export") -> None:
    """ModelError naming the figure that exceeds ``slack`` times its limit, and what was ``judged`` (one of
    :data:`OUTCOMES`)."""
    reason = refusal(parity, precision, slack)
    if reason is not None:
        raise ModelError(f"{precision} {judged} refused: {reason}; {OUTCOMES[judged]}")


def write_reference(path: Path, truth: Reference) -> None:
    """A few images with their maps and scores, so that a device can check an engine alone."""
    np.savez_compressed(
        path,
        images=truth.images,
        anomaly_map=truth.maps.astype(np.float32),
        score=truth.scores.astype(np.float32),
    )
