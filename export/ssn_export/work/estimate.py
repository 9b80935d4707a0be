"""How fast a graph could be at best on a card, from the ONNX file alone: an estimate, since what a compiler
fuses, copies and lays out anew is not in it. :mod:`ssn_export.tensorrt.bounds` has the compiled graph's."""

from __future__ import annotations

from ssn_export.work.cards import Card
from ssn_export.work.stages import Graph

BYTES = {"float16": 2, "float32": 4}


def roofline_ms(graph: Graph, card: Card, precision: str) -> float:
    """Milliseconds of one image: each product at the slower of its arithmetic and its traffic, all of it from
    memory, none overlapping; all products in ``precision``, "float16" or "float32"."""
    peak = card.half if precision == "float16" else card.float32
    return 1e3 * sum(
        max(2 * work.macs / peak, BYTES[precision] * work.elements / card.bandwidth)
        for work in graph.work.values()
    )


def megabytes(graph: Graph, precision: str) -> float:
    """What the products read and write, in 10^6 bytes."""
    return BYTES[precision] * sum(work.elements for work in graph.work.values()) / 1e6


def gmac(graph: Graph) -> float:
    """Multiply-accumulates of one image, in 10^9."""
    return sum(work.macs for work in graph.work.values()) / 1e9
