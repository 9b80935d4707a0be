"""One timing run: contenders in turn by a protocol, with sensors watching, as one document."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import click
import numpy as np

from ssn_bench.comparison import claim, ratios
from ssn_bench.comparison.paper import OURS
from ssn_bench.measure import contenders, environment, memory, protocol, sensors
from ssn_bench.measure.contenders import TORCH, Contender
from ssn_bench.measure.protocol import Protocol, Samples
from ssn_bench.measure.ready import ReadyContender, graph_of
from ssn_edge.backends import selection
from ssn_edge.errors import InputError

SCHEMA = 2

ENERGY_S = 5.0
"""How long each contender runs alone for its energy, where a sensor exists."""


@dataclass(frozen=True)
class TimingRequest:
    """What to time: ``names`` on ``backends`` by ``protocol``; ``budget_s`` shortens it, methods' files are
    made in ``keep`` (None: a temporary folder), ``claim`` adds the verdict on the paper's figures;
    ``precision`` is which of a bundle's files to take."""

    names: Tuple[str, ...]
    backends: Tuple[str, ...] = ("auto",)
    protocol: Protocol = protocol.PROTOCOLS["efficientad"]
    budget_s: Optional[float] = None
    keep: Optional[Path] = None
    claim: bool = False
    seed: int = 0
    precision: Optional[str] = None
    threads: Optional[int] = None


def bench(request: TimingRequest) -> Dict[str, Any]:
    """Measure and return the content of ``bench.json`` (docs/files.md)."""
    contestants = contenders.parse(request.names, request.backends, request.precision, request.threads)
    batches = [1] + [b for b in (request.protocol.throughput_batch,) if b]
    share = request.budget_s and request.budget_s / len(batches)
    gauges = sensors.Sensors()
    entries: Dict[str, Dict[str, Any]] = {}
    samples: Dict[str, Any] = {}
    shortened = False
    with contenders.folder_for(request.keep) as folder, gauges.watch() as readings:
        for what, batch in zip(("latency", "throughput"), batches):
            with _opened(contestants, batch, folder) as running:
                found = _timed(what, running, request, share)
                shortened |= found.shortened
                samples[what] = _raw(found)
                for contender, (name, one) in zip(contestants, running.items()):
                    entry = entries.setdefault(name, {"name": name, **one.about})
                    entry[what] = protocol.summary(found.wall[name], found.cycles, one.batch)
                    if name in found.device:
                        entry[what]["device_median_ms"] = float(np.median(found.device[name]))
                    if what == "throughput":
                        entry["memory"] = _memory(one, contender)
                if what == "latency" and sensors.joules(readings) is not None:
                    _energy(running, entries, gauges)
        for contender, entry in zip(contestants, entries.values()):
            entry["macs"] = _macs(contender, folder)
    watched = sensors.summary(readings)
    latency = {name: samples["latency"]["wall"][name] for name in entries}
    document: Dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "timing",
        "protocol": {**asdict(request.protocol), "interleaved": len(contestants) > 1, "seed": request.seed},
        "shortened": shortened,
        "budget_s": request.budget_s,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment.describe(),
        "contenders": list(entries.values()),
        "ranking": ratios.rank(latency),
        "ratios": ratios.pairs(latency),
        "sensors": watched,
        "throttled": sensors.throttled(watched),
        "samples": samples,
    }
    if request.claim:
        document["claim"] = {
            entry["name"]: claim.as_dict(claim.verdicts(entry, entry["macs"]))
            for entry in document["contenders"] if entry["method"] == OURS
        }
    document["notes"] = _notes(document)
    return document


@contextlib.contextmanager
def _opened(
    contestants: Sequence[Contender], batch: int, folder: Path
) -> Iterator[Dict[str, ReadyContender]]:
    log = partial(click.echo, err=True)
    with contextlib.ExitStack() as stack:
        yield {
            one.label: stack.enter_context(contenders.opened(one, batch, folder, log)) for one in contestants
        }


def _timed(
    what: str, running: Mapping[str, ReadyContender], request: TimingRequest, budget_s: Optional[float]
) -> Samples:
    calls = {name: one.call for name, one in running.items()}
    with progress(what) as on_progress:
        return protocol.measure(calls, request.protocol, budget_s, request.seed, on_progress)


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[float], object]]:
    """A bar with the time left on stderr, fed with the share done."""
    with click.progressbar(length=1000, label=label, file=sys.stderr) as bar:

        def update(share: float) -> None:
            bar.update(max(0, int(1000 * share) - bar.pos))

        yield update


def _raw(found: Samples) -> Dict[str, Any]:
    """All milliseconds, to a tenth of a microsecond: what --compare and a sceptic need."""
    return {
        "wall": {name: [round(v, 4) for v in ms.tolist()] for name, ms in found.wall.items()},
        "device": {name: [round(v, 4) for v in ms.tolist()] for name, ms in found.device.items()},
        "cycles": found.cycles.tolist(),
        "machine": [round(v, 5) for v in found.machine.tolist()],
        "warm_up": found.warm_up,
    }


def _memory(one: ReadyContender, contender: Contender) -> Dict[str, Any]:
    """Peak memory at the throughput's batch size, as the published protocol takes it."""
    if contender.backend == TORCH:
        from ssn_bench.methods import eager

        peak = eager.peak_memory_mb()
        return {"peak_mb": peak, "what": peak and "most that torch's allocator reserved, all models"}
    assert one.path is not None
    measured = memory.measure(
        one.path, contender.backend, one.batch, contender.precision, contender.threads
    )
    return {**measured, "batch": one.batch}


def _energy(
    running: Mapping[str, ReadyContender], entries: Mapping[str, Dict[str, Any]], gauges: sensors.Sensors
) -> None:
    """Each contender alone, back to back: energy over images, idle power included."""
    for name, one in running.items():
        with gauges.watch() as readings:
            end, count = time.perf_counter() + ENERGY_S, 0
            while time.perf_counter() < end:
                one.call.run()
                count += one.batch
        energy = sensors.joules(readings)
        if energy is not None:
            entries[name]["energy"] = {
                "joules_per_image": energy["joules"] / count, "images": count, "sensor": energy["sensor"],
            }


def _macs(one: Contender, folder: Path) -> Optional[int]:
    """Multiply-accumulates of the graph that ran, per image; None where it or onnx is not at hand."""
    path = one.file
    if path is None and one.backend != TORCH:
        path = folder / f"{one.word}-b1.onnx"
    try:
        import onnx

        from ssn_export.work import macs
    except ImportError:
        return None
    try:
        if path is None:
            return None
        graph = graph_of(path, selection.choose(path, one.backend, one.precision))
        return macs.total(onnx.load(str(graph)))
    except (ValueError, InputError, onnx.shape_inference.InferenceError):
        return None


def _notes(document: Mapping[str, Any]) -> List[str]:
    notes = [
        "Each call: images at the model's size in host memory to map and score in host memory; "
        "camera, resize and verdict are not in it (--protocol camera has them).",
    ]
    if document["protocol"]["interleaved"]:
        notes.append(
            "Contenders alternated in random order, each called twice and the second call timed; ratios "
            "are medians within rounds with 95 % bootstrap intervals."
        )
    if document["shortened"]:
        p = document["protocol"]
        notes.append(
            f"Shortened, not the protocol ({p['warm_up']} + {p['timed']} calls, {p['cycles']} "
            f"cycle{'s' if p['cycles'] > 1 else ''})."
        )
    batch = document["protocol"]["throughput_batch"]
    for entry in document["contenders"]:
        smaller = entry.get("throughput", {}).get("batch", batch)
        if smaller != batch:
            notes.append(
                f"{entry['name']}: throughput in batches of {smaller}, not the protocol's {batch}: the "
                "engine was built for no more (ssn-export --batch)."
            )
    unseen = [
        what for what, key in (
            ("power and energy", ("_w", "_joules")), ("temperature", ("_c",)), ("clocks", ("_mhz",)),
            ("throttling", ("_throttled",)),
        ) if not any(name.endswith(key) for name in document["sensors"])
    ]
    if unseen:
        notes.append(f"Not measured, no sensor: {', '.join(unseen)}.")
    if "throughput" not in document["contenders"][0]:
        notes.append("Not measured: throughput and memory (--protocol supersimplenet).")
    return notes
