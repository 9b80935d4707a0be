"""The official bindings of several releases of TensorRT, TensorRT for RTX and CUDA, each in a folder."""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = {  # release -> wheel with the bindings alone, about a megabyte
    "8.6.1": "tensorrt_bindings==8.6.1",
    "10.0.1": "tensorrt_cu12_bindings==10.0.1",
    "10.3.0": "tensorrt_cu12_bindings==10.3.0",
    "10.13.3": "tensorrt_cu12_bindings==10.13.3.9",
    "10.16.1": "tensorrt_cu12_bindings==10.16.1.11",
    "11.1.0": "tensorrt_cu12_bindings==11.1.0.106",
    "11.4.0": "tensorrt_cu12_bindings==11.4.0.106",
    "RTX 1.4.0": "tensorrt_rtx_cu12_bindings==1.4.0.76",
    "RTX 1.7.1": "tensorrt_rtx_cu12_bindings==1.7.1.116",
}

CUDA_TOO_OLD = "12.9.0"
CUDA_BINDINGS = ("12.9.1", "12.9.10", "13.0.3", "13.5.0")
"""Releases of cuda-bindings, about ten megabytes each, and the last before the oldest that is taken."""


def install(folder: Path, *arguments: str) -> Path:
    """``pip install --target folder arguments``, once; skips where there is no package index."""
    done = folder / "installed"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *arguments]
        found = subprocess.run(command, capture_output=True, text=True)
        if found.returncode:
            pytest.skip(f"{arguments[-1]} cannot be installed: {found.stderr.strip()[-200:]}")
        done.touch()
    return folder


def bindings(cache: Path, release: str) -> Path:
    """Folder from which ``import tensorrt`` gives that release's bindings."""
    folder = install(cache / release, "--no-deps", PACKAGES[release])
    link = folder / "tensorrt"
    if not link.exists():
        module = "tensorrt_rtx_bindings" if release.startswith("RTX") else "tensorrt_bindings"
        link.symlink_to(module, target_is_directory=True)
    return folder


def cuda_bindings(cache: Path, release: str) -> Path:
    """Folder from which ``import cuda.bindings`` gives that release."""
    return install(cache / f"cuda-{release}", f"cuda-bindings=={release}")
