"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import numpy as np
import onnxruntime

from ssn_edge.errors import BackendError, ModelError

NAME = "onnxruntime"


def version() -> str:
    return onnxruntime.__version__


def open_session(path: Path, batch: int) -> onnxruntime.InferenceSession:
    """A session for any batch size (the graph's batch axis is free)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors reach the caller as exceptions
    # Worker threads wait actively within a frame, not between frames: cores are the line's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no public base class
        reason = str(error).splitlines()[0][:160]
        raise ModelError(
            f"{path}: ONNX Runtime cannot load it ({reason}); export or copy the model again"
        ) from None


def metadata(session: onnxruntime.InferenceSession) -> Dict[str, str]:
    return dict(session.get_modelmeta().custom_metadata_map)


def run(
    session: onnxruntime.InferenceSession, images: np.ndarray, maps: np.ndarray, scores: np.ndarray
) -> None:
    binding = session.io_binding()
    binding.bind_input("image", "cpu", 0, np.uint8, images.shape, images.ctypes.data)
    binding.bind_output("anomaly_map", "cpu", 0, np.float32, maps.shape, maps.ctypes.data)
    binding.bind_output("score", "cpu", 0, np.float32, scores.shape, scores.ctypes.data)
    try:
        session.run_with_iobinding(binding)
    except Exception as error:
        raise BackendError(f"ONNX Runtime failed: {str(error).splitlines()[0][:160]}") from None
