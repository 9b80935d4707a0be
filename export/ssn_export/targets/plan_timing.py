"""Candidates timed alternately in one process: the only comparison that a noisy machine allows."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Tuple

import numpy as np

from ssn_edge import backends
from ssn_edge.backends.session import Session

if TYPE_CHECKING:
    import onnx

ROUNDS = 20
BUDGET_S = 20.0
MIN_ROUNDS = 5


def alternate(
    calls: Mapping[str, Callable[[], object]], rounds: int = ROUNDS, budget_s: float = BUDGET_S
) -> Dict[str, Dict[str, float]]:
    """Median and quartiles in ms of each call; every round runs all of them in turn.

    Each is called twice and the second call timed: worker threads of the library before it go on
    spinning for a while and would take the next one's CPUs. Two rounds of warm-up first. The
    budget bounds the rounds, of which there are at least five (or ``rounds``).
    """
    times: Dict[str, list] = {name: [] for name in calls}
    end = None
    for number in range(rounds + 2):
        if number == 2:
            end = time.perf_counter() + budget_s
        if end is not None and number >= MIN_ROUNDS + 2 and time.perf_counter() > end:
            break
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            call()
            if number >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {
            "median_ms": float(np.median(ms)),
            "lower_quartile_ms": float(np.quantile(ms, 0.25)),
            "upper_quartile_ms": float(np.quantile(ms, 0.75)),
            "repetitions": len(ms),
        }
        for name, ms in times.items()
    }


def runner(model: onnx.ModelProto, backend: str, batch: int = 1) -> Callable[[], np.ndarray]:
    """A call that runs the graph once on seeded noise through one of the runtime's back ends, and returns
    its maps, the same array each time."""
    import onnx

    library = backends.load(backend)
    handle, name = tempfile.mkstemp(suffix=".onnx")
    os.close(handle)
    try:
        onnx.save(model, name)
        session = library.open_session(Path(name), batch)
    finally:
        os.unlink(name)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    dims = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    return call_of(session, (shape[1], shape[2]), (dims[1], dims[2]), batch)


def call_of(
    session: Session, input_hw: Tuple[int, int], map_hw: Tuple[int, int], batch: int = 1
) -> Callable[[], np.ndarray]:
    """A call that runs an opened file once on seeded noise, and returns its maps, the same array each
    time."""
    images = session.prepare(input_hw)
    images[:] = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    maps, scores = np.empty((batch, *map_hw), np.float32), np.empty(batch, np.float32)

    def run() -> np.ndarray:
        session.infer(maps, scores)
        return maps

    return run


def compare(models: Mapping[str, onnx.ModelProto], backend: str) -> Dict[str, Any]:
    """The table of an export: medians of all candidates, the fastest, and what it was timed on."""
    library = backends.load(backend)
    rows = alternate({name: runner(model, backend) for name, model in models.items()})
    fastest = min(rows, key=lambda name: rows[name]["median_ms"])
    return {
        "backend": f"{library.NAME} {library.version()}",
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "batch": 1,
        "fastest": fastest,
        "candidates": rows,
    }


def lines(what: str, table: Mapping[str, Any]) -> str:
    """For people."""
    rows = table["candidates"]
    slowest = max(row["median_ms"] for row in rows.values())
    found = [f"{what}, timed alternately on {table['backend']}, batch 1, {table['threads']} threads:"]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["median_ms"]):
        chosen = "  <- taken" if name == table["fastest"] else ""
        found.append(
            f"  {name:10s}{row['median_ms']:9.2f} ms  {slowest / row['median_ms']:5.2f}x"
            f"  ({row['lower_quartile_ms']:.2f} to {row['upper_quartile_ms']:.2f}, "
            f"n = {row['repetitions']}){chosen}"
        )
    return "\n".join(found)
