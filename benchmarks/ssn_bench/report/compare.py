"""Two runs of the benchmark: did anything get slower?

Two runs were made at two moments, so their machines differ even where they are the same: each run
timed a fixed product in between (:func:`ssn_bench.measure.protocol.yardstick`), and a contender counts as
slower only if it is so both by the clock and in units of that product.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from ssn_bench.comparison import ratios
from ssn_bench.comparison.ratios import Ratio
from ssn_bench.measure.timing_run import SCHEMA
from ssn_bench.report import console
from ssn_edge.errors import InputError

THRESHOLD = 1.05
"""Slower (faster) means: the whole interval beyond this factor (below its inverse)."""


def load(path: Path) -> Dict[str, Any]:
    """A ``bench.json`` of a timing run, or InputError saying what it is instead."""
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give two bench.json files") from None
    except ValueError:
        raise InputError(f"{path}: not JSON; give a bench.json of ssn-bench") from None
    fields = document if isinstance(document, dict) else {}
    found = fields.get("schema"), fields.get("kind")
    if found != (SCHEMA, "timing"):
        raise InputError(
            f"{path}: schema {found[0]}, kind {found[1]}; a timing run has {SCHEMA}, timing: measure again"
        )
    return dict(document)


def compare(old: Dict[str, Any], new: Dict[str, Any]) -> List[Dict[str, Any]]:
    """One row for each contender and phase that both runs have. InputError where none, or where the
    device differs."""
    devices = [doc["contenders"][0]["device"] for doc in (old, new)]
    if devices[0] != devices[1]:
        raise InputError(f"measured on {devices[0]} and on {devices[1]}: not comparable")
    rows = []
    for phase, samples in new["samples"].items():
        before = old["samples"].get(phase)
        for name in samples["wall"]:
            if before is not None and name in before["wall"]:
                pairs = [np.array(part["wall"][name]) for part in (samples, before)]
                machines = [np.array(part["machine"]) for part in (samples, before)]
                rows.append(_row(name, phase, pairs, machines))
    if not rows:
        raise InputError("the two runs have no contender in common; names must be the same")
    return rows


def _row(name: str, phase: str, pairs: List[np.ndarray], machines: List[np.ndarray]) -> Dict[str, Any]:
    clock = ratios.unpaired(*pairs)
    corrected = ratios.unpaired(*pairs, *machines)
    verdict = "same"
    if min(clock.low, corrected.low) > THRESHOLD:
        verdict = "slower"
    elif max(clock.high, corrected.high) < 1 / THRESHOLD:
        verdict = "faster"
    return {
        "name": name, "phase": phase, "verdict": verdict, "clock": _dict(clock),
        "corrected": _dict(corrected), "machine": ratios.unpaired(*machines).value,
    }


def _dict(ratio: Ratio) -> Dict[str, Any]:
    return {"ratio": ratio.value, "interval": [ratio.low, ratio.high]}


def text(rows: List[Dict[str, Any]], old: Dict[str, Any], new: Dict[str, Any]) -> str:
    """What ``ssn-bench --compare`` prints: new over old."""
    lines = [f"{'new / old':40s}{'by the clock':>20s}{'by the yardstick':>20s}  verdict"]
    for row in rows:
        figures = [console.ratio(row[key]) for key in ("clock", "corrected")]
        lines.append(
            f"{row['name'] + ', ' + row['phase']:40s}{figures[0]:>20s}{figures[1]:>20s}  {row['verdict']}"
        )
    changed = [
        f"{key}: {_flat(old)[key]} -> {_flat(new)[key]}"
        for key in _flat(new) if key in _flat(old) and _flat(old)[key] != _flat(new)[key]
    ]
    return "\n".join([*lines, *(f"changed: {line}" for line in changed)])


def _flat(document: Dict[str, Any]) -> Dict[str, Any]:
    """What of the environment may explain a difference."""
    env = document["environment"]
    return {
        **env["versions"], **{key: env[key] for key in ("processors", "affinity", "threads", "governor")},
        "protocol": document["protocol"]["name"], "shortened": document["shortened"],
    }
