"""What GPUs can do in a second, by their data sheets (``devices.json``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, NamedTuple, Optional


class Card(NamedTuple):
    """Bytes a second from memory, operations a second (two a multiply-accumulate) in half on tensor cores
    and in float32 on CUDA cores, and bytes of L2 cache; None where it is not known."""

    bandwidth: float
    half: float
    float32: float
    l2: Optional[int]


def read() -> Dict[str, Card]:
    """All cards of the list by name."""
    listed = json.loads(Path(__file__).with_name("devices.json").read_text())["devices"]
    return {name: _card(one) for name, one in listed.items()}


def _card(one: Dict[str, float]) -> Card:
    cache = one["l2"]
    return Card(
        1e9 * one["bandwidth"], 1e12 * one["half"], 1e12 * one["float32"],
        None if cache is None else int(cache) << 20,
    )
