"""What GPUs can do in a second, by their data sheets (``devices.json``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional


class Card(NamedTuple):
    """Bytes a second from memory, operations a second (two a multiply-accumulate) in half on tensor cores
    and in float32 on CUDA cores, and bytes of L2 cache; None where it is not known."""

    bandwidth: float
    half: float
    float32: float
    l2: Optional[int]


def read() -> Dict[str, Card]:
    """All cards of the list by name."""
    return {name: _card(one) for name, one in _listed().items()}


def compute_capability(name: str) -> str:
    """Of a card of the list, as "8.6"."""
    return str(_listed()[name]["compute_capability"])


def _listed() -> Dict[str, Dict[str, Any]]:
    found: Dict[str, Dict[str, Any]] = json.loads(Path(__file__).with_name("devices.json").read_text())
    return found["devices"]


def _card(one: Dict[str, Any]) -> Card:
    cache = one["l2"]
    return Card(
        1e9 * one["bandwidth"], 1e12 * one["half"], 1e12 * one["float32"],
        None if cache is None else int(cache) << 20,
    )
