"""TensorRT for RTX: engines that ssn-export builds anywhere, compiled for the card when they are opened.

What it has beyond TensorRT: a runtime configuration, and a cache of the kernels that were compiled, in a file
beside the engine. Without it each opening compiles anew, which may take half a minute.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional, Tuple

import tensorrt_rtx_bindings as bindings

from ssn_edge.backends import engine_session, gpu, nvidia
from ssn_edge.backends.engine_session import Ran, Session
from ssn_edge.errors import BackendError, SsnEdgeError
from ssn_edge.files import open_plain, replacing
from ssn_edge.model.engine_file import CACHE_SUFFIX

if TYPE_CHECKING:  # the name that the check of every call against the bindings knows
    import tensorrt_rtx_bindings as trt

NAME = "rtx"

PRODUCT = nvidia.product(NAME, "TensorRT for RTX", bindings)

CACHE_BYTES = 256 << 20
"""Most that is read of a cache."""

version = PRODUCT.version
open_device = gpu.open_device


def open_session(
    path: Path, batch: int, digest: Optional[str] = None, host_code: bool = False
) -> Session:
    """As of :func:`.engine_session.open_session`. With ``host_code``, so where the user vouched for a digest,
    no cache is read: it holds code for the GPU, and no digest covers it."""
    def contexts(
        engine: trt.ICudaEngine, path: Path, device: gpu.Device, most: int
    ) -> Tuple[object, Ran]:
        place = None if host_code else cache_file(path, device.name)
        return context_of(engine, place, most)

    return engine_session.open_session(PRODUCT, contexts, path, batch, digest, host_code)


def cache_file(engine: Path, card: str) -> Path:
    """Where the kernels compiled for this card by this release are kept, beside the engine."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", f"{card}-{version()}")
    return engine.with_name(f".{engine.stem}-{words}{CACHE_SUFFIX}")


def context_of(
    engine: trt.ICudaEngine, place: Optional[Path], most: int
) -> Tuple[trt.IExecutionContext, Callable[[], None]]:
    """A context with the kernels of the cache ``place``, where they fit, and what stores it after the first
    run.

    The whole network is one CUDA graph. Of an engine for ``most`` above one image the kernels for a batch are
    made when that first comes, which is before the first frame; the library's default makes them meanwhile,
    so that the same frame would be computed by other kernels a second later.
    """
    config: trt.IRuntimeConfig = engine.create_runtime_config()
    cache: trt.IRuntimeCache = config.create_runtime_cache()
    stored = _read(place)
    fits = bool(stored) and cache.deserialize(stored)
    if not config.set_runtime_cache(cache):
        raise BackendError(f"{PRODUCT.title} takes no runtime cache ({PRODUCT.said.last()})")
    config.cuda_graph_strategy = PRODUCT.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    if most > 1:
        config.dynamic_shapes_kernel_specialization_strategy = (
            PRODUCT.trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
    context: trt.IExecutionContext = engine.create_execution_context(config)

    def ran() -> None:
        kernels: trt.IHostMemory = cache.serialize()
        data = bytes(memoryview(kernels)) if kernels is not None else b""
        if place is not None and data and not (fits and data == stored):
            _write(place, data)

    return context, ran


def _read(place: Optional[Path]) -> bytes:
    """What is there; nothing where it cannot be read, or is not of a size that a cache has."""
    if place is not None:
        with contextlib.suppress(OSError, SsnEdgeError), open_plain(place) as file:
            data = file.read(CACHE_BYTES + 1)
            return data if len(data) <= CACHE_BYTES else b""
    return b""


def _write(place: Path, data: bytes) -> None:
    """In one step, and best effort: of a bundle on a read-only disk the kernels are compiled each time."""
    with contextlib.suppress(OSError, SsnEdgeError), replacing(place) as temporary:
        temporary.write_bytes(data)
