"""Shared fixtures: where outside data lies, and a tiny trained run for the command-line tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

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
