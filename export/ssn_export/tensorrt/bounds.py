"""How fast a compiled graph could be at best on a card: the roofline of its kernels, by data sheets."""

from __future__ import annotations

from typing import Dict, List, Sequence, Set, Tuple

from ssn_export.tensorrt.engine_layers import Kernel
from ssn_export.work.cards import Card

KERNEL_SECONDS = 1.5e-6
"""What each kernel costs besides its work, in a CUDA graph."""

ON_TENSOR_CORES = frozenset({"float16", "bfloat16", "float8", "int8"})
"""Taken at the rate of half: narrower types are at least as fast."""


def bound_ms(kernels: Sequence[Kernel], macs: Sequence[int], card: Card, cached: bool = False) -> float:
    """Milliseconds of one call: each kernel at the slower of its arithmetic (``macs``, one number a kernel)
    and its memory traffic, none overlapping, and 1.5 us a kernel.

    Without ``cached`` every byte that a kernel reads or writes comes from or goes to memory: a card with a
    cache may be faster. With it, what :func:`kept` finds costs no traffic, as if the cache evicted nothing
    too early.
    """
    free = kept(kernels, card.l2 or 0) if cached else frozenset()
    seconds = 0.0
    for kernel, count in zip(kernels, macs):
        moved = sum(
            tensor.bytes for tensor in (*kernel.inputs, *kernel.constants, *kernel.outputs)
            if tensor.name not in free
        )
        peak = card.half if kernel.precision in ON_TENSOR_CORES else card.float32
        seconds += max(moved / card.bandwidth, 2 * count / peak) + KERNEL_SECONDS
    return 1e3 * seconds


def kept(kernels: Sequence[Kernel], cache: int) -> Set[str]:
    """Names of the tensors that stay in a cache of so many bytes from the kernel that writes them to the
    last that reads them: those that fit with all other activations alive at any kernel between.

    Constants and the network's own inputs and outputs are never among them; constants that stream through
    are taken to displace nothing. All or nothing: what does not fit whole costs its whole traffic.
    """
    last, size, written, alive = _lifetimes(kernels)
    return {name for name, end in last.items() if max(alive[written[name]: end + 1]) <= cache}


def most_alive(kernels: Sequence[Kernel]) -> int:
    """Bytes of activations that are alive at once, at most over all kernels: the least memory that they need.
    The network's own inputs and outputs are not among them, nor what a builder adds for its own purposes."""
    return max(_lifetimes(kernels)[3], default=0)


def _lifetimes(
    kernels: Sequence[Kernel],
) -> Tuple[Dict[str, int], Dict[str, int], Dict[str, int], List[int]]:
    """Of the tensors between kernels by name: the last kernel that reads each, its bytes, the kernel that
    writes it; and by kernel the bytes alive there."""
    written: Dict[str, int] = {}
    last: Dict[str, int] = {}
    size: Dict[str, int] = {}
    for number, kernel in enumerate(kernels):
        for tensor in kernel.inputs:
            if tensor.name in written:
                last[tensor.name] = number
        for tensor in kernel.outputs:
            written.setdefault(tensor.name, number)
        for tensor in (*kernel.inputs, *kernel.outputs):
            size[tensor.name] = max(size.get(tensor.name, 0), tensor.bytes)
    alive: List[int] = [0] * len(kernels)
    for name, end in last.items():
        for number in range(written[name], end + 1):
            alive[number] += size[name]
    return last, size, written, alive
