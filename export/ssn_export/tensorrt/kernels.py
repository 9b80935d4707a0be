"""What the compiler made of a graph, reported: kernels, memory traffic, products by type, copies, bounds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ssn_export.tensorrt import bounds, engine_layers
from ssn_export.tensorrt.engine_layers import Kernel
from ssn_export.work import cards
from ssn_export.work.names import STAGES

if TYPE_CHECKING:  # a device that builds engines has no onnx
    import onnx

    from ssn_export.work.stages import Graph

FLOAT16 = 10
"""Half in an ONNX file."""


@dataclass(frozen=True)
class Row:
    """A kernel with its stage and its multiply-accumulates; ``fell_back``: products in float32 that a half
    graph was not asked to have."""

    kernel: Kernel
    stage: str
    macs: int
    fell_back: bool


@dataclass(frozen=True)
class Report:
    """All kernels in the order in which they run, for ``batch`` images. ``counted``: there was a graph to
    count products in; ``missing``: those of nodes that no kernel names."""

    rows: Tuple[Row, ...]
    batch: int
    counted: bool
    missing: int

    @property
    def copies(self) -> List[Row]:
        """Kernels that compute nothing, the largest first."""
        return sorted((row for row in self.rows if row.kernel.is_copy), key=lambda row: -row.kernel.bytes)

    @property
    def activations(self) -> int:
        """Bytes, as of :func:`.bounds.most_alive`."""
        return bounds.most_alive([row.kernel for row in self.rows])

    @property
    def fallbacks(self) -> List[Row]:
        return [row for row in self.rows if row.fell_back]

    def bounds(self) -> Dict[str, Tuple[float, Optional[float]]]:
        """Milliseconds by card: all from memory, and what fits the L2 kept there (None: its size is not
        known); none without products."""
        kernels, macs = [row.kernel for row in self.rows], [row.macs for row in self.rows]
        return {
            name: (
                bounds.bound_ms(kernels, macs, card),
                None if card.l2 is None else bounds.bound_ms(kernels, macs, card, cached=True),
            )
            for name, card in (cards.read() if self.counted and kernels else {}).items()
        }

    def lines(self, each: bool = False) -> List[str]:
        """For people; with ``each`` every kernel too."""
        if not self.rows:
            return ["no kernels to report: this TensorRT listed none"]
        gmacs = _gmacs(self.rows)
        types = ", ".join(f"{count} {name}" for name, count in _types(self.rows).items())
        products = f"{sum(gmacs.values()):.2f} GMAC" if self.counted else "products not counted, no graph"
        found = [
            f"{len(self.rows)} kernels ({types}), {_megabytes(self.rows):.1f} MB read and written, "
            f"{products}; at least {self.activations / 1e6:.1f} MB of activations; batch {self.batch}",
            *self._table(sorted(gmacs)),
        ]
        if self.missing:
            found.append(f"{self.missing / 1e9:.3f} GMAC are of nodes that no kernel names")
        copies = self.copies
        found.append(f"{len(copies)} copies, which compute nothing, {_megabytes(copies):.1f} MB:")
        found += [f"  {x.kernel.bytes / 1e6:9.2f} MB   {x.stage:16s}{_named(x.kernel)}" for x in copies]
        fallen = self.fallbacks
        if self.counted:
            found.append(f"{len(fallen)} kernels with products fell back to float32{':' if fallen else ''}")
        found += [f"  {x.macs / 1e9:9.3f} GMAC {x.stage:16s}{_named(x.kernel)}" for x in fallen]
        found += self._bound_lines()
        if each:
            found.append("kernels in order:")
            found += [_line(row) for row in self.rows]
        return found

    def document(self) -> Dict[str, Any]:
        """The same for a manifest: MB are 10^6 bytes, bounds milliseconds, without and with the L2."""
        return {
            "batch": self.batch,
            **_sums(self.rows),
            "activation_megabytes": round(self.activations / 1e6, 3),
            "types": _types(self.rows),
            "stages": {stage: _sums(rows) for stage, rows in self._stages().items()},
            "copied": [[row.kernel.name, round(row.kernel.bytes / 1e6, 3)] for row in self.copies],
            "float32_fallbacks": [row.kernel.name for row in self.fallbacks],
            "bounds_ms": {
                name: [round(first, 4), None if second is None else round(second, 4)]
                for name, (first, second) in self.bounds().items()
            },
        }

    def _stages(self) -> Dict[str, List[Row]]:
        known = dict.fromkeys(row.stage for row in self.rows)
        stages: Dict[str, List[Row]] = {name: [] for name in (*STAGES, *known) if name in known}
        for row in self.rows:
            stages[row.stage].append(row)
        return stages

    def _table(self, types: Sequence[str]) -> List[str]:
        head = f"  {'stage':16s}{'kernels':>8s}{'MB':>9s}" + "".join(f"{'GMAC ' + one:>15s}" for one in types)
        found = [head + f"{'copies':>8s}"]
        for stage, rows in self._stages().items():
            gmacs = _gmacs(rows)
            line = f"  {stage:16s}{len(rows):8d}{_megabytes(rows):9.2f}"
            line += "".join(f"{gmacs.get(one, 0):15.3f}" for one in types)
            found.append(line + f"{sum(row.kernel.is_copy for row in rows):8d}")
        return found

    def _bound_lines(self) -> List[str]:
        limits = self.bounds()
        if not limits:
            return []
        found = [
            "bounds by data sheets, ms, 1.5 us a kernel included; not what will be measured:",
            f"  {'':24s}{'all from memory':>17s}{'L2 kept':>10s}",
        ]
        for name, (first, second) in limits.items():
            found.append(f"  {name:24s}{first:17.3f}{'-' if second is None else f'{second:.3f}':>10s}")
        return found


def report(
    layers: str, model: Optional[onnx.ModelProto], batch: int = 1,
    float32_nodes: Optional[Sequence[str]] = (),
) -> Report:
    """Read ``layers``, an inspector's JSON or the builder's "Layers:" text, against the graph that was built.

    Products and stages are the graph's, for ``batch`` images; without one (None) there are no products, and
    stages are those that nodes' names tell. ``float32_nodes``: what a half graph is to compute in float32.
    ValueError where a shape of the graph is unknown.
    """
    kernels = engine_layers.read(layers, batch)
    if model is None:
        return Report(tuple(Row(k, k.stage, 0, False) for k in kernels), batch, False, 0)
    from ssn_export.work.stages import Graph

    graph = Graph(model)
    owners = _owners(kernels, graph)
    half = any(weight.data_type == FLOAT16 for weight in model.graph.initializer) or any(
        kernel.precision == "float16" for kernel in kernels
    )
    allowed = set(float32_nodes or ())
    rows = []
    for number, kernel in enumerate(kernels):
        own = [node for node, owner in owners.items() if owner == number]
        macs = batch * sum(graph.work[node].macs for node in own)
        fell_back = half and bool(own) and kernel.precision == "float32" and not allowed.intersection(own)
        rows.append(Row(kernel, _stage(kernel, own, owners, graph), macs, fell_back))
    missing = sum(work.macs for node, work in graph.work.items() if node not in owners)
    return Report(tuple(rows), batch, True, batch * missing)


def _owners(kernels: Sequence[Kernel], graph: Graph) -> Dict[str, int]:
    """Which kernel computes each product: others may name its node, as a copy that lays out its input."""
    owners: Dict[str, int] = {}
    for number, kernel in enumerate(kernels):
        for node in kernel.nodes:
            if node in graph.work:
                before = owners.setdefault(node, number)
                if _fitness(kernel) > _fitness(kernels[before]):
                    owners[node] = number
    return owners


def _fitness(kernel: Kernel) -> Tuple[bool, bool]:
    return kernel.is_product, not kernel.is_copy


def _stage(kernel: Kernel, own: Sequence[str], owners: Mapping[str, int], graph: Graph) -> str:
    """Of its largest product, else of its other nodes, else of products that it merely prepares."""
    if own:
        return graph.stage[max(own, key=lambda node: graph.work[node].macs)]
    others = [node for node in kernel.nodes if node not in owners]
    return graph.of_nodes(others or kernel.nodes)


def _types(rows: Sequence[Row]) -> Dict[str, int]:
    """Kernels by the type that they compute in."""
    return dict(Counter(row.kernel.precision for row in rows).most_common())


def _gmacs(rows: Sequence[Row]) -> Dict[str, float]:
    """By the type that they are computed in."""
    sums: Counter[str] = Counter()
    for row in rows:
        if row.macs:
            sums[row.kernel.precision] += row.macs
    return {name: count / 1e9 for name, count in sums.items()}


def _megabytes(rows: Sequence[Row]) -> float:
    return sum(row.kernel.bytes for row in rows) / 1e6


def _sums(rows: Sequence[Row]) -> Dict[str, Any]:
    return {
        "kernels": len(rows),
        "megabytes": round(_megabytes(rows), 3),
        "gmacs": {name: round(count, 6) for name, count in sorted(_gmacs(rows).items())},
        "copies": sum(row.kernel.is_copy for row in rows),
    }


def _named(kernel: Kernel) -> str:
    nodes = ", ".join(kernel.nodes)
    return f"{kernel.name[:60]}" + (f" ({nodes[:60]})" if nodes else "")


def _line(row: Row) -> str:
    kernel = row.kernel
    return (
        f"  {row.stage:16s}{kernel.kind[:18]:19s}{kernel.precision:9s}{kernel.bytes / 1e6:9.3f} MB"
        f"{row.macs / 1e6:10.2f} MMAC  {'copy ' if kernel.is_copy else ''}{_named(kernel)}"
    )
