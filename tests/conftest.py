"""Shared fixtures: where outside data lies, a detector with known answers, a name in shared memory."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import numpy as np
import pytest

from ssn_edge import Detector
from ssn_edge.sources import shared_memory

BESIDE = Path(__file__).resolve().parents[2] / "shared"


def _outside(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set {variable} to the folder")
    return folder


@pytest.fixture(scope="session")
def golden():
    """Loads one file of golden vectors made by the published code; skips where they are absent."""
    folder = _outside("SSN_GOLDEN", BESIDE / "golden")

    def load(name: str):
        return np.load(folder / f"{name}.npz", allow_pickle=False)

    return load


@pytest.fixture(scope="session")
def tiles() -> Path:
    """The magnetic tile data set; skips where it is absent."""
    return _outside("SSN_TILES", BESIDE / "data" / "magnetic-tile")


@pytest.fixture(scope="session")
def simulation() -> Path:
    """Stand-ins for libcuda and libnvinfer; skips where they are absent."""
    return _outside("SSN_FAKEGPU", BESIDE / "tools" / "fakegpu")


@pytest.fixture
def detector(tmp_path):
    """The model with known answers, opened."""
    import tiny  # needs onnx, which a device with its own tests has no use for

    with Detector.open(tiny.write_model(tmp_path / "m.onnx"), "onnxruntime") as opened:
        yield opened


@pytest.fixture
def shared():
    """A name in shared memory that nobody has, gone afterwards."""
    name = f"ssn-test-{uuid.uuid4().hex}"
    yield name
    shared_memory.path_of(name).unlink(missing_ok=True)
