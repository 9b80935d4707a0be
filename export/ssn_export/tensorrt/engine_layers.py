"""The engine inspector's report, read: which layer computes in which precision, and what is odd.

Up to 10.x a tensor's type is in ``Format/Datatype``, from 11 on in ``DataType`` and ``Format``; either
may be a name ("Half") or a sentence ("Row major linear FP16 format").
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, List, Mapping, Sequence

from ssn_export.work.names import OUR_NODES

BORDER = frozenset({"image", "anomaly_map", "score", "mask", "is_defect"})
"""Tensors of the network's border, whose reformatting is expected."""

PRECISIONS = (
    ("float16", re.compile(r"half|fp16", re.I)),
    ("bfloat16", re.compile(r"bf16|bfloat", re.I)),
    ("uint8", re.compile(r"uint8", re.I)),
    ("int8", re.compile(r"int8", re.I)),
    ("float32", re.compile(r"fp32|float", re.I)),
)


@dataclass(frozen=True)
class Layer:
    """One layer of an engine; ``nodes`` of the ONNX file that went into it."""

    name: str
    kind: str
    precision: str
    nodes: FrozenSet[str]
    tensors: FrozenSet[str]

    @property
    def stage(self) -> str:
        """``backbone``, ``heads...``, ``verdict``, or ``border`` for the rest."""
        stages = Counter(node.partition("/")[0] for node in self.nodes if "/" in node)
        return stages.most_common(1)[0][0] if stages else "border"

    @property
    def reformats(self) -> bool:
        return self.kind == "Reformat" or self.name.startswith("Reformatting CopyNode")


def read(text: str) -> List[Layer]:
    """Layers of an inspector's JSON; an engine built with names only has neither kind nor types."""
    return [_layer(entry) for entry in json.loads(text).get("Layers", [])]


def _layer(entry: Any) -> Layer:
    if isinstance(entry, str):
        entry = {"Name": entry}
    name, ends = entry.get("Name", ""), [*entry.get("Inputs", []), *entry.get("Outputs", [])]
    return Layer(
        name=name,
        kind=entry.get("LayerType", "?"),
        precision=_precision(entry.get("Outputs", [])),
        nodes=frozenset(OUR_NODES.findall(f"{name} {entry.get('Metadata', '')}")),
        tensors=frozenset(end.get("Name", "") for end in ends),
    )


def _precision(outputs: Sequence[Mapping[str, Any]]) -> str:
    for key in ("Format/Datatype", "DataType", "Datatype", "Format"):
        for output in outputs:
            for precision, pattern in PRECISIONS:
                if pattern.search(str(output.get(key, ""))):
                    return precision
    return "unknown"


def table(layers: Sequence[Layer]) -> Dict[str, Dict[str, int]]:
    """Number of layers by stage and precision."""
    counts: Dict[str, Dict[str, int]] = {}
    for layer in layers:
        counts.setdefault(layer.stage, Counter())[layer.precision] += 1
    return counts


def oddities(layers: Sequence[Layer], float32_nodes: Sequence[str]) -> List[str]:
    """Warnings for a half-precision engine: layers of the heads in float32 that no one asked to be,
    and reformatting between layers (a copy that the fastest engine would not need)."""
    allowed = set(float32_nodes)
    fell_back = [
        layer for layer in layers
        if layer.stage.startswith("heads") and layer.precision == "float32" and not layer.reformats
        and not layer.nodes & allowed
    ]
    copies = [layer for layer in layers if layer.reformats and not layer.tensors & BORDER]
    found = [f"layer of the heads fell back to float32: {layer.name[:100]}" for layer in fell_back]
    return found + [f"unexpected reformat: {layer.name[:100]}" for layer in copies]


def lines(layers: Sequence[Layer]) -> List[str]:
    """The table and every layer, for people."""
    rows = [
        f"  {stage:16s}" + ", ".join(f"{n} {precision}" for precision, n in sorted(row.items()))
        for stage, row in sorted(table(layers).items())
    ]
    each = [f"  {x.precision:9s}{x.kind:20s}{x.name[:100]}" for x in layers]
    return [f"{len(layers)} layers:", *rows, *each]
