"""``--protocol camera``: frames that arrive whether or not the detector is ready.

A camera at a fixed rate; the detector takes the newest frame that is there, older ones are dropped (a live
line). Latency runs from the moment a frame was there to its verdict, waiting included, so that a slow
stretch is counted for every frame it delays.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from ssn_bench.measure import environment, sensors
from ssn_bench.measure.ready import file_of
from ssn_edge.detector import Detector
from ssn_edge.errors import InputError

WARM_UP = 20

PERCENTILES = {"p50": 50, "p99": 99, "p99.9": 99.9}

FRAMES = 4
"""Different frames that the made-up camera shows in turn."""


@dataclass(frozen=True)
class CameraSettings:
    """``fps`` frames a second of ``frame_hw`` pixels for ``seconds``."""

    fps: float = 30.0
    frame_hw: Tuple[int, int] = (1080, 1920)
    seconds: float = 60.0


def bench(
    model: Path, backend: str, camera: CameraSettings, on_progress: Callable[[float], object],
    precision: Optional[str] = None, threads: Optional[int] = None,
) -> Dict[str, Any]:
    """The document of a camera run."""
    with Detector.open(model, backend, precision=precision, threads=threads) as detector:
        if detector.info.frame and detector.info.frame != camera.frame_hw:
            height, width = detector.info.frame
            raise InputError(f"{model} takes {height}x{width} frames alone; give --frame {height}x{width}")
        shape = (FRAMES, *camera.frame_hw, 3)
        frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        for number in range(WARM_UP):
            detector.detect(frames[number % FRAMES])
        gauges = sensors.Sensors()
        parts: List[Tuple[float, float, float]] = []

        def judge(index: int) -> None:
            latency = detector.detect(frames[index % FRAMES]).latency
            parts.append((latency.preprocess_ms, latency.inference_ms, latency.postprocess_ms))

        with gauges.watch() as readings:
            latencies, dropped = loop(judge, camera.fps, int(camera.fps * camera.seconds), on_progress)
        about = {**file_of(model, detector), "backend": detector.backend_name, "threads": threads,
                 "precision": detector.info.precision, "backbone": detector.info.backbone}
    watched = sensors.summary(readings)
    means = np.mean(parts, axis=0)
    return {
        "schema": 2, "kind": "camera", "model": about, "environment": environment.describe(),
        "fps": camera.fps, "frame": list(camera.frame_hw), "frames": len(latencies) + dropped,
        "judged": len(latencies), "dropped": dropped,
        "latency_ms": {name: percentile(latencies, share) for name, share in PERCENTILES.items()},
        "mean_parts_ms": dict(zip(("preprocess", "inference", "postprocess"), map(float, means))),
        "sensors": watched, "throttled": sensors.throttled(watched),
    }


def loop(
    judge: Callable[[int], object], fps: float, count: int, on_progress: Callable[[float], object]
) -> Tuple[List[float], int]:
    """Milliseconds of each judged frame from its arrival on, and how many frames were dropped."""
    latencies: List[float] = []
    dropped, last = 0, -1
    start = time.perf_counter() + 1 / fps
    while last < count - 1:
        newest = min(int((time.perf_counter() - start) * fps), count - 1)
        if newest <= last or time.perf_counter() < start:
            due = start + max(last + 1, 0) / fps
            time.sleep(max(0.0, due - time.perf_counter()))
            continue
        dropped += newest - last - 1
        last = newest
        judge(newest)
        latencies.append(1e3 * (time.perf_counter() - start - newest / fps))
        on_progress((newest + 1) / count)
    return latencies, dropped


def percentile(values: List[float], share: float) -> Optional[float]:
    """None where there are too few values to have one beyond it."""
    return float(np.percentile(values, share)) if len(values) * (100 - share) >= 99.99 else None


def text(document: Dict[str, Any]) -> str:
    shown = ", ".join(
        f"{name} {'too few frames' if ms is None else f'{ms:.2f} ms'}"
        for name, ms in document["latency_ms"].items()
    )
    height, width = document["frame"]
    parts = ", ".join(f"{name} {ms:.2f}" for name, ms in document["mean_parts_ms"].items())
    lines = [
        f"{document['model']['file']}, {document['model']['backend']}: {height}x{width} at "
        f"{document['fps']:g} fps, newest frame first",
        f"from arrival to verdict: {shown}",
        f"judged {document['judged']} of {document['frames']} frames, dropped {document['dropped']}",
        f"mean parts in ms: {parts}",
        "The frames lie in memory: the camera's own transfer and exposure are not in it.",
    ]
    if document["throttled"]:
        lines.append("THROTTLED: the device slowed itself down during the run.")
    return "\n".join(lines)
