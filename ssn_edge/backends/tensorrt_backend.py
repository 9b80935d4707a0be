"""TensorRT 8.5 to 11: engines built by ssn-export on the device that runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Tuple

import tensorrt as trt

from ssn_edge.backends import engine_session, gpu, nvidia
from ssn_edge.backends.engine_session import Ran, Session

NAME = "tensorrt"

PRODUCT = nvidia.product(NAME, "TensorRT", trt)

version = PRODUCT.version
open_device = gpu.open_device


def open_session(
    path: Path, batch: int, digest: Optional[str] = None, host_code: bool = False
) -> Session:
    """As of :func:`.engine_session.open_session`."""
    return engine_session.open_session(PRODUCT, _context, path, batch, digest, host_code)


def _context(engine: trt.ICudaEngine, path: Path, device: gpu.Device, most: int) -> Tuple[Any, Ran]:
    return engine.create_execution_context(), None
