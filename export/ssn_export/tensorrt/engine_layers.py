"""What TensorRT's compiler made of a graph, read: its kernels, from either of two texts.

* The engine inspector's JSON. Up to 10.x a tensor's type is in ``Format/Datatype``, from 11 on in
  ``DataType`` and ``Format``; either may be a name ("Half") or a sentence ("Row major linear FP16 format").
* The builder's own list, which it logs at VERBOSE after "Layers:", one line a kernel, with the same fields.
  It is one list however many compute capabilities are built for, as for the lowest alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from math import gcd, prod
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

from ssn_export.work.names import OUR_NODES

PRECISIONS = (
    ("float16", re.compile(r"half|fp16", re.I)),
    ("bfloat16", re.compile(r"bf16|bfloat", re.I)),
    ("float8", re.compile(r"fp8|float8", re.I)),
    ("uint8", re.compile(r"uint8", re.I)),
    ("int8", re.compile(r"int8", re.I)),
    ("int32", re.compile(r"int32", re.I)),
    ("int64", re.compile(r"int64", re.I)),
    ("bool", re.compile(r"bool", re.I)),
    ("float32", re.compile(r"fp32|float", re.I)),
)

SIZES = {"float16": 2, "bfloat16": 2, "float8": 1, "uint8": 1, "int8": 1, "bool": 1, "int64": 8}
"""Bytes of an element, where not 4."""

COMPUTED = frozenset({"float16", "bfloat16", "float8", "int8", "float32"})
"""Types that products are computed in; others are pixels, indices and conditions."""

TYPE_KEYS = ("Format/Datatype", "DataType", "Datatype", "Format")

NO_KERNELS = frozenset({"signal", "wait", "shape_call", "NoOp"})
"""Kinds of entries that start nothing on the GPU: events between streams, shapes computed by the host."""

FUSED = re.compile(r"__myl_((?:[A-Z][a-z0-9]*)+)")
"""The compiler's name for what it fused lists the operations: ``__myl_CastAddTran_myl0_2``."""

MOVES = frozenset({"Cast", "Conc", "Gath", "Move", "Repl", "Resh", "Scat", "Slic", "Tran"})
"""Operations in such names that compute nothing: types, layouts and places change."""

ONE_BY_ONE = frozenset({
    "Add", "Cast", "Div", "Exp", "Max", "Min", "Move", "Mul", "Neg", "Relu", "Resh", "Sigm", "Sub", "Tran",
})
"""Operations that give as many elements as they take."""

COPY_KINDS = frozenset({"Reformat", "Shuffle", "Slice", "Gather"})

PRODUCTS = re.compile(r"gemm|corr|conv|matrixmultiply", re.I)
"""Kinds of kernels that are products; of fused ones the names say it: ``Fc``, ``Corr``."""


@dataclass(frozen=True)
class Tensor:
    """What a kernel reads or writes: shape and type ("float16", "uint8", "unknown")."""

    name: str
    dims: Tuple[int, ...]
    type: str

    @property
    def bytes(self) -> int:
        return prod(self.dims) * SIZES.get(self.type, 4)


@dataclass(frozen=True)
class Kernel:
    """One kernel; ``nodes`` of the ONNX file that went into it, ``kind`` is TensorRT's LayerType."""

    name: str
    kind: str
    inputs: Tuple[Tensor, ...]
    constants: Tuple[Tensor, ...]
    outputs: Tuple[Tensor, ...]
    nodes: Tuple[str, ...]

    @property
    def read_bytes(self) -> int:
        """Activations and constants, each once."""
        return sum(tensor.bytes for tensor in (*self.inputs, *self.constants))

    @property
    def written_bytes(self) -> int:
        return sum(tensor.bytes for tensor in self.outputs)

    @property
    def bytes(self) -> int:
        return self.read_bytes + self.written_bytes

    @property
    def precision(self) -> str:
        """What it computes in: its weights' type (the largest constant's), else that of the first input
        that holds no pixels, else of its first output."""
        weights = sorted((t for t in self.constants if prod(t.dims) > 1), key=lambda t: -prod(t.dims))
        computed = (t.type for t in (*weights, *self.inputs, *self.outputs) if t.type in COMPUTED)
        return next(computed, next((t.type for t in (*self.outputs, *self.inputs)), "unknown"))

    @property
    def fused(self) -> Tuple[str, ...]:
        """Operations that the compiler's own name lists; none in a name that it took from the graph."""
        found = FUSED.match(self.name)
        return tuple(re.findall("[A-Z][a-z0-9]*", found[1])) if found else ()

    @property
    def is_product(self) -> bool:
        return PRODUCTS.search(self.kind) is not None or any(part in ("Fc", "Corr") for part in self.fused)

    @property
    def is_copy(self) -> bool:
        """Whether it computes nothing: it moves, casts, lays out or joins."""
        if self.fused:
            return MOVES.issuperset(self.fused)
        return self.kind in COPY_KINDS or self.name.startswith("Reformatting CopyNode")

    @property
    def stage(self) -> str:
        """``backbone``, ``heads...``, ``verdict``, or ``border`` for the rest, by the nodes' names alone."""
        stages = Counter(node.partition("/")[0] for node in self.nodes if "/" in node)
        return stages.most_common(1)[0][0] if stages else "border"


def read(text: str, batch: int = 1) -> List[Kernel]:
    """Kernels of an inspector's JSON or of the builder's "Layers:", in the order in which they run; free
    dimensions as of a call with ``batch`` images.

    An engine built with names only has neither kinds nor tensors. What starts no kernel is left out.
    """
    entries = json.loads(text).get("Layers", []) if text.lstrip().startswith("{") else _entries(text)
    return _at_batch([k for k in map(_kernel, entries) if k.kind not in NO_KERNELS], batch)


def _entries(text: str) -> Iterator[Dict[str, Any]]:
    """The builder's lines as the inspector would give them."""
    for line in text.splitlines():
        start = re.match(r"Name: (.*?), LayerType: ([\w ]+)", line)
        if start is None:
            continue
        entry: Dict[str, Any] = {"Name": start[1], "LayerType": start[2]}
        for part in ("Inputs", "Constants", "Outputs"):
            found = re.search(part + r": \[ \{ (.*?) ?\}\]", line)
            entry[part] = [_fields(one) for one in found[1].split("}, { ")] if found else []
        for part in ("Weights", "Bias"):
            found = re.search(part + r": (\{[^}]*\})", line)
            if found:
                entry[part] = json.loads(found[1])
        entry["Metadata"] = line.partition("Metadata: ")[2]
        yield entry


def _fields(text: str) -> Dict[str, Any]:
    name = re.match("Name: (.*?), (?:Location|Dimensions): ", text)
    dims = re.search(r"Dimensions: \[([^\]]*)\]", text)
    fields: Dict[str, Any] = {"Name": name[1] if name else ""}
    if dims:
        fields["Dimensions"] = [int(value) for value in dims[1].split(",") if value]
    for key in TYPE_KEYS:
        found = re.search(rf"(?<![\w/]){key}: ([^,]*)", text)
        if found:
            fields[key] = found[1]
    return fields


def _kernel(entry: Any) -> Kernel:
    if isinstance(entry, str):
        entry = {"Name": entry}
    name, metadata = entry.get("Name", ""), entry.get("Metadata", "")
    nodes = re.findall(r"\[ONNX Layer: ([^\]]*)\]", metadata) or OUR_NODES.findall(f"{name} {metadata}")
    weights = [
        {"Dimensions": [entry[part].get("Count", 0)], "DataType": entry[part].get("Type", "")}
        for part in ("Weights", "Bias") if isinstance(entry.get(part), dict)
    ]
    return Kernel(
        name=name,
        kind=entry.get("LayerType", "?"),
        inputs=_tensors(entry.get("Inputs", [])),
        constants=_tensors([*entry.get("Constants", []), *weights]),
        outputs=_tensors(entry.get("Outputs", [])),
        nodes=tuple(dict.fromkeys(nodes)),
    )


def _tensors(ends: Iterable[Mapping[str, Any]]) -> Tuple[Tensor, ...]:
    return tuple(
        Tensor(end.get("Name", ""), tuple(end.get("Dimensions", ())), _type_of(end)) for end in ends
    )


def _type_of(end: Mapping[str, Any]) -> str:
    texts = (str(end.get(key, "")) for key in TYPE_KEYS)
    found = (name for text in texts for name, pattern in PRECISIONS if pattern.search(text))
    return next(found, "unknown")


def _at_batch(kernels: Sequence[Kernel], batch: int) -> List[Kernel]:
    """Kernels with every free dimension, -1, filled in.

    It is the batch, times what the compiler folded into it: a map of [-1, 64, 64, 128] may be read again as
    [-1, 128]. The whole tensor has room for all views of it, and follows from what the kernel that writes it
    does.
    """
    images: Dict[str, int] = {}  # name -> elements of one image
    for kernel in kernels:
        for tensor in (*kernel.inputs, *kernel.outputs):
            if -1 in tensor.dims:
                images[tensor.name] = _common(images.get(tensor.name, 1), _row(tensor))
    for kernel in kernels:
        for output in kernel.outputs:
            if -1 in output.dims:
                images[output.name] = _common(images[output.name], _elements(kernel, output, images))

    def filled(tensors: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
        return tuple(
            replace(t, dims=tuple(
                batch * images.get(t.name, 1) // _row(t) if size == -1 else size for size in t.dims
            )) for t in tensors
        )

    return [replace(k, inputs=filled(k.inputs), outputs=filled(k.outputs)) for k in kernels]


def _elements(kernel: Kernel, output: Tensor, images: Mapping[str, int]) -> int:
    """Elements of one image in an output, as far as the kernel's inputs tell: what works element by element
    keeps their number, products and copies the number of rows. 1 where neither is known."""
    free = [tensor for tensor in kernel.inputs if -1 in tensor.dims]
    if free and kernel.fused and ONE_BY_ONE.issuperset(kernel.fused):
        return max(images[tensor.name] for tensor in free)
    for tensor in free:
        same_rank = len(tensor.dims) == len(output.dims)
        if tensor.dims == output.dims or (same_rank and (kernel.is_product or kernel.is_copy)):
            return images[tensor.name] // _row(tensor) * _row(output)
    return 1


def _row(tensor: Tensor) -> int:
    return max(1, prod(size for size in tensor.dims if size != -1))


def _common(first: int, second: int) -> int:
    """Least common multiple."""
    return first * second // gcd(first, second)
