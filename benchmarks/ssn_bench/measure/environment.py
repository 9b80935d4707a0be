"""What a timing depends on: CPU, its clock, threads, versions. No torch."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np

import ssn_edge

LIBRARIES = (
    "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx-cu12-bindings", "pycuda", "cuda-bindings", "torch",
    "timm", "onnx", "anomalib",
)


def describe() -> Dict[str, Any]:
    """Device, clock state and versions, as far as the system tells; None where it does not."""
    return {
        "device": processor(),
        "processors": len(affinity()),
        "affinity": affinity(),
        "threads": {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")},
        "system": platform.platform(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clock_mhz": _clock_mhz(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {
            "ssn-edge": ssn_edge.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            **installed(),
        },
    }


def affinity() -> List[int]:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def installed() -> Dict[str, str]:
    """Versions of the libraries that compute, as far as installed."""
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def processor() -> str:
    """The CPU's own name."""
    text = _read("/proc/cpuinfo") or ""
    match = re.search(r"model name\s*:\s*(.+)", text)
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def _clock_mhz() -> Optional[float]:
    match = re.search(r"cpu MHz\s*:\s*([\d.]+)", _read("/proc/cpuinfo") or "")
    return float(match.group(1)) if match else None


def _read(path: str) -> Optional[str]:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
