"""``--target``: the best setting that is known to be fast enough on a device.

What is known is ``pareto.json`` of ``ssn-bench --pareto``: I-AUROC of each candidate on the photos it was
given, and the time of its whole model on the device that it ran on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional

from ssn_edge.errors import InputError
from ssn_edge.files import read_bounded
from ssn_edge.values import quantity

FILE = "pareto/pareto.json"
MOST_BYTES = 16 << 20
UNITS = {"ms": 1.0, "s": 1000.0}
FIELDS = (
    "size", "trainer", "levels", "grid", "scale", "seg_width", "cls_width", "cls_kernel", "adaptor", "batch",
    "rate_scale", "noise_std", "steps", "verdict_source",
)
"""Settings that a candidate decides."""


class Choice(NamedTuple):
    """Settings by name, and a line that says which and why."""

    settings: Dict[str, Any]
    words: str


def milliseconds(text: str) -> float:
    """``10``, ``10 ms`` or ``0.5 s``; InputError for anything else."""
    return quantity("--target", text, UNITS, "give a time for a frame, such as '10 ms'")


def best(path: Path, target: float, backbone: str) -> Choice:
    """The candidate of the highest I-AUROC among those within ``target`` milliseconds on any back end.

    InputError where the file is none of ``ssn-bench --pareto``'s, and where none is fast enough: the fastest
    is named.
    """
    remedy = "measure first: ssn-bench --pareto DATA"
    if not path.is_file():
        raise InputError(f"{path}: not there; {remedy}, or give --known FILE")
    try:
        document = json.loads(read_bounded(path, MOST_BYTES, "a study"))
        rows = {row["name"]: row for table in ("candidates", "finalists") for row in document[table]}
        figures = {name: float(row["I-AUROC"]["value"]) for name, row in rows.items()}
        measured = {name: _fastest(document["latency"], name) for name in rows}
        times = {name: found for name, found in measured.items() if found is not None}
        settings = {
            row["name"]: {name: row["settings"][name] for name in ("backbone", *FIELDS)}
            for row in document["candidates"]
        }
        device = document["environment"]["device"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a study of ssn-bench --pareto ({error!r}); {remedy}") from None
    ours = [name for name in times if settings[name]["backbone"] == backbone]
    if not ours:
        raise InputError(f"{path}: knows nothing of --backbone {backbone}")
    fitting = [name for name in ours if times[name][0] <= target]
    if not fitting:
        name = min(ours, key=lambda one: times[one][0])
        found = _words(times[name], device)
        raise InputError(f"--target {target:g} ms: the fastest known is {name}, {found}")
    name = max(fitting, key=lambda one: figures[one])
    chosen = {key: value for key, value in settings[name].items() if key in FIELDS}
    chosen.update({key: tuple(chosen[key]) for key in ("size", "levels", "grid") if chosen[key] is not None})
    words = f"--target {target:g} ms: {name}, {_words(times[name], device)}, "
    return Choice(chosen, f"{words}I-AUROC {figures[name]:.3f} in {path}")


def _fastest(latency: Mapping[str, Mapping[str, Any]], name: str) -> Optional[Any]:
    found = [
        (float(times[name]["median_ms"]), library) for library, times in latency.items() if name in times
    ]
    return min(found) if found else None


def _words(found: Any, device: str) -> str:
    return f"{found[0]:.2f} ms by {found[1]} on {device}"
