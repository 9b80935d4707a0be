"""The official TensorRT bindings of several releases, each in a folder of its own."""

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
}


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
        link.symlink_to("tensorrt_bindings", target_is_directory=True)
    return folder
