"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional, Tuple, Union

import numpy as np
import onnxruntime

from ssn_edge.errors import BackendError, ModelError
from ssn_edge.files import check_sha256, sha256

NAME = "onnxruntime"


def version() -> str:
    """The installed ONNX Runtime's."""
    return str(onnxruntime.__version__)


def open_session(
    path: Path, batch: int, digest: Optional[str] = None, host_code: bool = False
) -> Session:
    """A session for any batch size (the graph's batch axis is free). ``host_code``: engines' alone."""
    if digest is not None:
        check_sha256(path, sha256(path), digest)
    try:
        session = inference_session(str(path))
    except Exception as error:  # its exceptions share no public base class
        reason = str(error).splitlines()[0][:160]
        raise ModelError(
            f"{path}: ONNX Runtime cannot load it ({reason}); export or copy the model again"
        ) from None
    return Session(session, batch)


def inference_session(
    model: Union[str, bytes], profile: Optional[str] = None
) -> onnxruntime.InferenceSession:
    """ONNX Runtime's own session on the CPU, of a path or an ONNX file's bytes, as all of ssn-edge sets it
    up. ``profile`` is how the name of its profiler's file begins. Raises what the library raises.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors reach the caller as exceptions
    # Worker threads wait actively within a frame, not between frames: cores are the line's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Session:
    """Fits :class:`.session.Session`."""

    max_batch: Optional[int] = None

    def __init__(self, session: onnxruntime.InferenceSession, batch: int):
        self._session, self._batch = session, batch
        self.metadata: Dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def prepare(self, input_hw: Tuple[int, int]) -> np.ndarray:
        """As of :class:`.session.Session`."""
        self._images = np.empty((self._batch, *input_hw, 3), np.uint8)
        self._bound: Optional[Tuple[int, int, Tuple[int, ...]]] = None
        return self._images

    def infer(self, maps: np.ndarray, scores: np.ndarray) -> None:
        """As of :class:`.session.Session`."""
        try:
            self._session.run_with_iobinding(self._bind(maps, scores))
        except Exception as error:
            reason = str(error).splitlines()[0][:160]
            raise BackendError(f"ONNX Runtime failed: {reason}") from None

    def _bind(self, maps: np.ndarray, scores: np.ndarray) -> onnxruntime.IOBinding:
        """A camera loop gives the same arrays with every frame: they are bound once."""
        where = maps.ctypes.data, scores.ctypes.data, maps.shape
        if where != self._bound:
            images, binding = self._images[: len(maps)], self._session.io_binding()
            binding.bind_input("image", "cpu", 0, np.uint8, images.shape, images.ctypes.data)
            binding.bind_output("anomaly_map", "cpu", 0, np.float32, maps.shape, where[0])
            binding.bind_output("score", "cpu", 0, np.float32, scores.shape, where[1])
            self._bound, self._binding = where, binding
        return self._binding

    def close(self) -> None:
        """As of :class:`.session.Session`."""
        self._session = self._binding = None
