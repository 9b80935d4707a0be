"""A contender ready to be timed, the images it is given, and the file that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

from ssn_bench.measure.protocol import Call
from ssn_edge.backends import selection
from ssn_edge.detector import Detector
from ssn_edge.errors import InputError
from ssn_edge.files import sha256
from ssn_edge.model import bundle


class ReadyContender(NamedTuple):
    """A contender ready to be called on ``batch`` images; ``about`` is what its report says of it."""

    call: Call
    batch: int
    about: Dict[str, Any]
    path: Optional[Path]


def noise(batch: int, size_hw: Tuple[int, int], seed: int = 0) -> np.ndarray:
    """Seeded uint8 images [batch, height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (batch, *size_hw, 3), dtype=np.uint8)


def file_of(model: Path, detector: Detector) -> Dict[str, str]:
    """Name and digest of the file that runs; of a bundle ``model.ssn/float32-1a2b3c4d.onnx``."""
    shown = f"{model.name}/{detector.path.name}" if bundle.is_bundle(model) else model.name
    return {"file": shown, "sha256": sha256(detector.path)}


def graph_of(model: Path, choice: selection.Choice) -> Path:
    """The ONNX file that runs, or that a bundle's engine was built from. InputError for a plain file of
    another kind, whose graph nobody knows."""
    if choice.path.suffix == ".onnx":
        return choice.path
    if bundle.is_bundle(model):
        found = bundle.read(model)
        built = {one.name: one.engine.onnx_sha256 for one in found.entries if one.engine is not None}
        for entry in found.entries:
            if entry.sha256 == built.get(choice.path.name):
                return bundle.check(found, entry)
    raise InputError(
        f"{model}: the graph that {choice.path.name} was made of is needed; give the bundle that has it, or "
        "an .onnx file"
    )
