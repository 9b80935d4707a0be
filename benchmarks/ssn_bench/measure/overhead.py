"""``--overhead``: what our own code costs above the inference library's call, from Python and from C.

The library's call is timed inside the detector's, so that one is subtracted from the other of the same
frame: no drift of the machine comes between them.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from ssn_bench.comparison import ratios
from ssn_bench.measure import environment
from ssn_bench.measure.ready import file_of
from ssn_edge import backends
from ssn_edge.detector import Detector
from ssn_edge.errors import BackendError, InputError

WARM_UP = 20
ROUNDS, FRAMES = 12, 60
"""Of C against Python: rounds in turn, frames in each; the first WARM_UP frames do not count."""


@dataclass(frozen=True)
class OverheadSettings:
    """``frame_hw`` of the camera's frames, seconds for each part, and the compiled example in C."""

    frame_hw: Tuple[int, int] = (1080, 1920)
    seconds: float = 30.0
    program: Optional[Path] = None


class Timed:
    """The library's object with one method timed; everything else is passed through."""

    def __init__(self, real: Any, method: str):
        self.ms = 0.0
        self._real, self._call = real, getattr(real, method)
        setattr(self, method, self._timed)

    def _timed(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter_ns()
        try:
            return self._call(*args, **kwargs)
        finally:
            self.ms = (time.perf_counter_ns() - start) / 1e6

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


CALLS = {"onnxruntime": ("_session", "run_with_iobinding"), "openvino": ("_request", "infer")}
"""Where a session keeps the library's object, and the call that computes."""


def bench(
    model: Path, backend: str, settings: OverheadSettings, on_progress: Callable[[float], object],
    precision: Optional[str] = None, threads: Optional[int] = None,
) -> Dict[str, Any]:
    """The document. BackendError for TensorRT, whose calls only start the work (see --profile there)."""
    rng = np.random.default_rng(0)
    with Detector.open(model, backend, precision=precision, threads=threads) as detector:
        session = detector._session
        name = backends.base_of(detector.library)
        if name not in CALLS:
            raise BackendError(f"--overhead times the library's one call; {name}'s only starts the work")
        attribute, method = CALLS[name]
        library = Timed(getattr(session, attribute), method)
        setattr(session, attribute, library)
        if detector.info.frame and detector.info.frame != settings.frame_hw:
            raise InputError(f"{model} takes {detector.info.frame} frames alone; give it with --frame HxW")
        own = rng.integers(0, 256, (4, *detector.info.input_hw, 3), np.uint8)
        camera = rng.integers(0, 256, (4, *settings.frame_hw, 3), np.uint8)
        map_out = np.empty(detector.info.size_hw, np.float32)
        mask_out = np.empty(detector.info.size_hw, np.uint8)
        half = settings.seconds / 2
        parts = {
            "infer_into": _loop(lambda n: detector.infer_into(own[n % 4], map_out, mask_out), library, half,
                                lambda share: on_progress(share / 2)),
            "detect": _loop(lambda n: detector.detect(camera[n % 4]), library, half,
                            lambda share: on_progress(0.5 + share / 2)),
        }
        setattr(session, attribute, library._real)
        beside = _beside(model, detector, settings.program) if settings.program else None
        about = {**file_of(model, detector), "backend": detector.backend_name, "threads": threads,
                 "precision": detector.info.precision, "backbone": detector.info.backbone}
    return {
        "schema": 2, "kind": "overhead", "model": about, "environment": environment.describe(),
        "frame": list(settings.frame_hw), "own_hw": list(own.shape[1:3]), "parts": parts, "c": beside,
    }


def _loop(
    call: Callable[[int], object], library: Timed, seconds: float, on_progress: Callable[[float], object]
) -> Dict[str, Any]:
    """Quartiles of our own time and its share of the whole, over the frames of so many seconds."""
    for number in range(WARM_UP):
        call(number)
    whole: List[float] = []
    inside: List[float] = []
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end or len(whole) < WARM_UP:
        start = time.perf_counter_ns()
        call(len(whole))
        whole.append((time.perf_counter_ns() - start) / 1e6)
        inside.append(library.ms)
        on_progress(min(1.0, 1 - (end - now) / seconds))
    total, own = np.array(whole), np.array(whole) - np.array(inside)
    return {
        "frames": len(whole), "whole_ms": float(np.median(total)),
        "own_ms": [float(v) for v in np.percentile(own, (25, 50, 75))],
        "share": [float(v) for v in np.percentile(own / total, (25, 50, 75))],
    }


def _beside(model: Path, detector: Detector, program: Path) -> Dict[str, Any]:
    """The same frames through the C program and through ``detect``, in turn."""
    if not program.is_file():
        raise InputError(f"{program}: no such program; make c builds it")
    height, width = detector.info.input_hw
    frames = np.random.default_rng(1).integers(0, 256, (FRAMES, height, width, 3), np.uint8)
    c, python = [], []
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "frames.raw"
        raw.write_bytes(frames.tobytes())
        arguments = [str(program.resolve()), str(model), str(raw), f"{height}x{width}", "BGR"]
        for _ in range(ROUNDS):
            done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise BackendError(f"{program}: ended with code {done.returncode}")
            about = done.stdout.splitlines()[0]
            if detector.backend_name not in about:
                raise InputError(f"{program} runs {about}, not {detector.backend_name}; give that --backend")
            reported = [float(row.split()[3]) for row in done.stdout.splitlines()[1:-1]]
            c.append(float(np.median(reported[WARM_UP:])))
            ms = []
            for frame in frames:
                start = time.perf_counter_ns()
                detector.detect(frame)
                ms.append((time.perf_counter_ns() - start) / 1e6)
            python.append(float(np.median(ms[WARM_UP:])))
    ratio = ratios.paired(np.array(c), np.array(python))
    interval = [ratio.value, ratio.low, ratio.high]
    return {"rounds": ROUNDS, "frames": FRAMES - WARM_UP, "c_over_python": interval}


def text(document: Dict[str, Any]) -> str:
    height, width = document["frame"]
    own_h, own_w = document["own_hw"]
    names = {
        "infer_into": f"infer_into, {own_h}x{own_w} frames: our code above the library's call",
        "detect": f"detect, {height}x{width} frames: colour, resize, copies, verdict, regions",
    }
    lines = [f"{document['model']['file']}, {document['model']['backend']}"]
    for name, part in document["parts"].items():
        low, middle, high = part["share"]
        lines.append(
            f"{names[name]}: {100 * middle:.2f} % of a frame "
            f"(quartiles {100 * low:.2f} to {100 * high:.2f}), {part['frames']} frames"
        )
    if document["c"]:
        value, low, high = document["c"]["c_over_python"]
        lines.append(
            f"ssn_infer from C over detect from Python: {value:.3f} [{low:.3f}, {high:.3f}], medians of "
            f"{document['c']['frames']} frames, {document['c']['rounds']} rounds in turn"
        )
    return "\n".join(lines)
