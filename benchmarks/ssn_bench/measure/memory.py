"""Peak memory of one model file: a process of its own opens it, runs it, and tells.

``python -m ssn_bench.measure.memory MODEL BACKEND BATCH [PRECISION]`` prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Optional

CALLS = 10


def measure(
    model: Path, backend: str, batch: int, precision: Optional[str] = None, threads: Optional[int] = None
) -> Dict[str, Any]:
    """``peak_mb`` (10^6 bytes) of a model and ``what`` was measured; both None where it failed.

    On the CPU: growth of the process's resident set from before the model was opened to its
    peak, so without Python and the libraries that were loaded already. On a GPU: what the driver
    says is taken from its free memory.
    """
    arguments = [sys.executable, "-m", "ssn_bench.measure.memory", str(model), backend, str(batch)]
    arguments += [precision or "", str(threads or "")]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        return {"peak_mb": None, "what": None}


def _resident_mb(name: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (peak) of this process; nan where the system does not say."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def main() -> None:
    model, backend, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
    precision = sys.argv[4] or None
    threads = int(sys.argv[5]) if sys.argv[5] else None
    from ssn_bench.measure.ready import noise
    from ssn_edge.backends import ENGINES, selection
    from ssn_edge.detector import Detector

    choice = selection.choose(model, backend, precision, batch)
    on_gpu = choice.library.NAME in ENGINES
    before = _free_mb() if on_gpu else _resident_mb("VmRSS")
    with Detector.open(model, backend, batch=batch, precision=precision, threads=threads) as detector:
        images = noise(batch, detector.info.input_hw)
        for _ in range(CALLS):
            detector.infer_batch(images)
        peak = before - _free_mb() if on_gpu else _resident_mb("VmHWM") - before
    what = "GPU memory taken" if on_gpu else "growth of the resident set to its peak"
    print(json.dumps({"peak_mb": round(peak, 1), "what": what}))


def _free_mb() -> float:
    from ssn_edge.backends import gpu

    device = gpu.open_device()
    with device.active("asking for free memory"):
        return device.free_memory()[0] / 1e6


if __name__ == "__main__":
    main()
