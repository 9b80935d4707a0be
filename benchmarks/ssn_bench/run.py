"""One benchmark: the deployed file, and the eager model where asked, under the same protocol."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import click
import numpy as np

from ssn_bench import environment, report
from ssn_bench.protocol import REPETITIONS, THROUGHPUT_BATCH, Timing, measure
from ssn_edge.detector import Detector
from ssn_edge.errors import BackendError
from ssn_edge.files import sha256
from ssn_edge.schema import ModelInfo

SCHEMA = 1


def bench(
    model: Path, against: Optional[Path], backend: str, budget_s: Optional[float]
) -> Dict[str, Any]:
    """Measure and return the content of ``bench.json``.

    ``budget_s`` bounds the whole run; it is shared evenly by the timings.
    """
    parts = 2 if against is None else 4
    share = None if budget_s is None else budget_s / parts
    info, entry = _deployed(model, backend, share)
    measurements = [entry]
    if against is not None:
        measurements.append(_eager(against, info, share))
    shortened = any(e[k]["shortened"] for e in measurements for k in ("latency", "throughput"))
    env = environment.describe()
    return {
        "schema": SCHEMA,
        "protocol": "EfficientAD, as run by SuperSimpleNet's published code",
        "shortened": shortened,
        "model": {"file": model.name, "sha256": sha256(model), "precision": info.precision},
        "environment": env,
        "measurements": measurements,
        "paper": report.PAPER,
        "comparability": report.comparability(
            info.backbone, list(info.size_hw), info.precision, env["device"]
        ),
        "notes": _notes(shortened, entry["throughput"]["batch"]),
    }


def _notes(shortened: bool, batch: int) -> List[str]:
    notes = [
        "Each call: image at the model's size in host memory to map and score in host memory; "
        "camera, resize and verdict are not in it (ssn-run prints those).",
        "Not measured: clock changes during the run, power, temperature, memory.",
    ]
    if batch < THROUGHPUT_BATCH:
        notes.append(
            f"Throughput in batches of {batch}, not the protocol's {THROUGHPUT_BATCH}: the engine was "
            "built for no more (ssn-export --batch)."
        )
    if shortened:
        notes.append(f"Shortened, not the protocol ({REPETITIONS} warm-up and timed calls each).")
    return notes


def _deployed(
    model: Path, backend: str, share: Optional[float]
) -> Tuple[ModelInfo, Dict[str, Any]]:
    timings: List[Timing] = []
    largest = THROUGHPUT_BATCH
    for wanted in (1, THROUGHPUT_BATCH):
        batch = min(wanted, largest)
        with Detector.open(model, backend, batch=batch) as detector:
            images = _images(batch, detector.info.input_hw)
            timings.append(_timed(partial(detector.infer_batch, images), batch, share, "deployed"))
            info, name = detector.info, detector.backend_name
            largest = min(largest, detector.max_batch or largest)
    return info, _entry(f"{info.precision}, {name}", timings)


def _eager(run: Path, info: ModelInfo, share: Optional[float]) -> Dict[str, Any]:
    try:
        from ssn_bench import eager
    except ImportError as error:
        raise BackendError(
            f'--against needs {error.name}; run: pip install "ssn-edge[train]"'
        ) from None
    infer = eager.open_eager(run)
    timings = []
    for batch in (1, THROUGHPUT_BATCH):
        images = _images(batch, info.size_hw)
        timings.append(_timed(partial(infer, images), batch, share, "eager"))
    return _entry(eager.version(), timings)


def _entry(name: str, timings: List[Timing]) -> Dict[str, Any]:
    latency, throughput = (timing.to_dict() for timing in timings)
    return {"name": name, "latency": latency, "throughput": throughput}


def _images(batch: int, size_hw: Tuple[int, int]) -> np.ndarray:
    """Seeded noise: the network's time does not depend on what is in the picture."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch, *size_hw, 3), dtype=np.uint8)


def _timed(call: Callable[[], object], batch: int, share: Optional[float], what: str) -> Timing:
    with _progress(f"{what}, batch {batch}", share) as tick:
        return measure(call, batch, share, tick=tick)


@contextlib.contextmanager
def _progress(label: str, share: Optional[float]) -> Iterator[Callable[[], object]]:
    """A bar with the time left, over calls; without an end where a budget decides."""
    if share is not None:
        click.echo(f"{label} ({share:.0f} s) ...", err=True)
        yield lambda: None
        return
    with click.progressbar(length=2 * REPETITIONS, label=label) as bar:
        yield lambda: bar.update(1)
