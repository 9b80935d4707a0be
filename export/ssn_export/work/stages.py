"""A model file's nodes in our stages, with what each must at least compute and move.

| stage | what |
|---|---|
| input | pixels to float, mean, layout; a camera frame's resize |
| backbone | its convolutions |
| projection | products over channels: adaptor, both heads' first layers, the map's last one |
| spatial | products with upscaling and pooling matrices, and what is done at the map's size behind them |
| classification | convolution kernels larger than 1x1, pooling, the linear layer |
| post | the map's resize and blur, its maximum where that is the score, sigmoid, thresholds |
| copies | data moved or laid out anew inside the network |
"""

from __future__ import annotations

import re
from collections import Counter
from math import prod
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set

import onnx

from ssn_export.work import macs
from ssn_export.work.names import OUR_NODES, STAGES

MOVES = {"Transpose", "Concat", "Reshape", "Unsqueeze", "Squeeze", "Gather", "Slice", "Flatten"}

COLUMNS = re.compile(r"heads\.(rows|columns)\d")
"""Upscaling matrices that stand on the right of a product; of two that are equal a graph keeps the first."""

GATHERED = re.compile(r"\.(rows|columns)(\.\d+)?$")
"""Scopes of interpolation by gathers."""

__all__ = ["STAGES", "Graph", "Work", "totals"]

LAID_OUT_ANEW = re.compile(r"reorder|transpose|reformat", re.I)
"""Layers that a library adds for its own layouts."""


class Work(NamedTuple):
    """A node's least work for one image: multiply-accumulates and tensor elements read or written.

    Only Conv, MatMul and Gemm have any; all else is taken as fused into them, so that times derived from it
    are lower bounds.
    """

    macs: int
    elements: int


class Graph:
    """A model file read for its stages."""

    def __init__(self, model: onnx.ModelProto):
        self.nodes = {node.name: node for node in model.graph.node}
        self.producer = {out: node.name for node in model.graph.node for out in node.output}
        self._constants = {weight.name for weight in model.graph.initializer}
        self._behind = self._downstream(model)
        self._shapes = macs.shapes(model)
        self.stage: Dict[str, str] = {}
        for node in model.graph.node:
            self.stage[node.name] = self._stage(node)
        self.work = {name: Work(count, self._elements(self.nodes[name]))
                     for name, count in macs.count(model).items()}

    def of_layer(self, name: str, kind: str = "") -> str:
        """The stage of a layer in an inference library's report, by the nodes or tensors in its name;
        ``copies`` for what the library adds itself."""
        if LAID_OUT_ANEW.search(kind) or LAID_OUT_ANEW.match(name):
            found = self._node_of(name)
            return "input" if found and self.stage[found] == "input" else "copies"
        found = self._node_of(name)
        return self.stage[found] if found else "copies"

    def of_nodes(self, names: Iterable[str]) -> str:
        """The stage of a kernel that these nodes went into: that of most of them, counting those that compute
        where any does; ``copies`` where none is of this file."""
        known = [name for name in names if name in self.nodes]
        computing = [name for name in known if self.nodes[name].op_type not in {*MOVES, "Cast"}]
        stages = Counter(self.stage[name] for name in computing or known)
        return stages.most_common(1)[0][0] if stages else "copies"

    def _node_of(self, name: str) -> Optional[str]:
        if name in self.nodes:
            return name
        tensor = re.sub(r"(_nchwc)?(_kernel_time)?$", "", name)  # ONNX Runtime: output's name
        if tensor in self.producer:
            return self.producer[tensor]
        ours = [node for node in OUR_NODES.findall(name) if node in self.nodes]
        products = [node for node in ours if self.nodes[node].op_type in macs.PRODUCTS]
        return (products or ours or [None])[0]

    def _downstream(self, model: onnx.ModelProto) -> Set[str]:
        """Names of the nodes that depend on the backbone."""
        found: Set[str] = set()
        for node in model.graph.node:  # in topological order
            sources = (self.producer.get(tensor) for tensor in node.input)
            if node.name.startswith("backbone/") or any(source in found for source in sources):
                found.add(node.name)
        return found

    def _stage(self, node: Any) -> str:
        scope = node.name.rpartition("/")[0]
        if node.name not in self._behind:
            return "input"
        if scope == "backbone":
            return "backbone"
        if scope in ("heads.score", "heads.map_part"):
            return "classification"
        if not scope.startswith("heads") or (scope == "heads" and node.op_type == "ReduceMax"):
            return "post"  # the maximum: of a model without classification head
        if GATHERED.search(scope):
            return "spatial"
        if node.op_type in MOVES:
            return "copies"
        if scope == "heads.upscale" or (node.op_type == "MatMul" and self._upscales(node)):
            return "spatial"
        if node.op_type == "Conv":
            kernel = self._kernel(node)
            return "classification" if max(kernel) > 1 else "projection"
        if node.op_type in macs.PRODUCTS:
            return "projection"
        return self._stage_before(node)

    def _upscales(self, node: Any) -> bool:
        left, right = node.input
        return left in self._constants or (right in self._constants and COLUMNS.match(right) is not None)

    def _stage_before(self, node: Any) -> str:
        """Element-wise work belongs to the product before it."""
        for tensor in node.input:
            name = self.producer.get(tensor)
            while name is not None and self.stage.get(name) == "copies":
                name = next((self.producer[t] for t in self.nodes[name].input if t in self.producer), None)
            if name is not None and self.stage.get(name) not in (None, "backbone", "input"):
                return self.stage[name]
        return "projection"

    def _kernel(self, node: Any) -> List[int]:
        return list(self._shapes[node.input[1]][2:])

    def _elements(self, node: Any) -> int:
        names = [*node.input, *node.output]
        return sum(prod(self._shapes[name]) for name in names if name in self._shapes)


def totals(graph: Graph) -> Dict[str, Work]:
    """Work of each stage that has any."""
    found: Dict[str, Work] = {}
    for name, work in graph.work.items():
        before = found.get(graph.stage[name], Work(0, 0))
        found[graph.stage[name]] = Work(before.macs + work.macs, before.elements + work.elements)
    return found
