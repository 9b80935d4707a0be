"""What a back end is to its callers. Each is a module of this folder that fits :class:`Library`."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Protocol, Tuple

import numpy as np

from ssn_edge.backends.nvidia import Product


class Session(Protocol):
    """An opened model file. One call at a time: the detector sees to that.

    ``max_batch`` is the largest batch that the file allows, None for any; ``metadata`` the file's. A session
    on a GPU has ``device_ms() -> float`` too: how long its last call took by the GPU's own clock.
    """

    max_batch: Optional[int]
    metadata: Dict[str, str]

    def prepare(self, input_hw: Tuple[int, int]) -> np.ndarray:
        """The array uint8 [batch, H, W, 3] that images are to be written into."""
        ...

    def infer(self, maps: np.ndarray, scores: np.ndarray) -> None:
        """Maps float32 [n, H, W] and scores float32 [n] of the first n images, 1 to ``batch``, into these
        C-contiguous arrays, allocating none. BackendError where the library fails."""
        ...

    def close(self) -> None:
        """Free everything; may be called twice."""
        ...


class Library(Protocol):
    """An inference library: ``NAME`` as in :data:`ssn_edge.backends.BACKENDS`, ``onnxruntime:cuda``."""

    NAME: str

    def version(self) -> str:
        """The library's own."""
        ...

    def open_session(
        self, path: Path, batch: int, digest: Optional[str] = None, host_code: bool = False,
        threads: Optional[int] = None,
    ) -> Session:
        """A session for 1 to ``batch`` images; ``digest`` is what the file must hash to, ``host_code`` lets
        an engine bring code for the host. ``threads`` of the CPU, the library's own number if None; what
        opens engines alone is never given it. Raises BackendError or ModelError, InputError for threads that
        have no use there."""
        ...


class GpuInfo(Protocol):
    """A GPU: what an engine's own description is held against."""

    name: str
    compute_capability: str


class EngineSession(Session, Protocol):
    """An opened engine, which can be looked into."""

    def layers(self) -> str:
        """The inspector's report as JSON text."""
        ...

    def layer_times(self, maps: np.ndarray, scores: np.ndarray) -> List[Tuple[str, float]]:
        """One call with the profiler: name and milliseconds of every layer."""
        ...

    def device_memory(self) -> int:
        """Bytes that the network's activations take on the device."""
        ...


class EngineLibrary(Library, Protocol):
    """A module for engines, which knows its GPU and its bindings as well."""

    PRODUCT: Product

    def open_session(
        self, path: Path, batch: int, digest: Optional[str] = None, host_code: bool = False,
        threads: Optional[int] = None,
    ) -> EngineSession:
        """As of :meth:`Library.open_session`."""
        ...

    def open_device(self) -> GpuInfo:
        """The first GPU that the process may see; BackendError where there is none."""
        ...
