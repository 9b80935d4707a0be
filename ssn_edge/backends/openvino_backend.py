"""OpenVINO on the CPU, from the same ONNX file or its own .xml."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional, Tuple

import numpy as np
import openvino

from ssn_edge.errors import BackendError, ModelError
from ssn_edge.files import check_sha256, sha256
from ssn_edge.text import one_line

NAME = "openvino"


def version() -> str:
    """The installed OpenVINO's."""
    return str(openvino.__version__)


def open_session(
    path: Path, batch: int, digest: Optional[str] = None, host_code: bool = False,
    threads: Optional[int] = None,
) -> Session:
    """A session for 1 to ``batch`` images; for one alone its shape is fixed, which OpenVINO plans better.
    ``host_code``: engines' alone."""
    if digest is not None:
        check_sha256(path, sha256(path), digest)
    core = openvino.Core()
    try:
        model = core.read_model(str(path))
        stored = model.get_rt_info(["framework"]).value if model.has_rt_info(["framework"]) else {}
        height, width = (int(n.get_length()) for n in list(model.input("image").partial_shape)[1:3])
        images = openvino.Dimension(1, batch) if batch > 1 else 1
        model.reshape({"image": openvino.PartialShape([images, height, width, 3])})
        # The precision is the file's: no silent bfloat16 on CPUs that have it.
        settings: Dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = core.compile_model(model, "CPU", settings)
    except Exception as error:
        raise ModelError(
            f"{path}: OpenVINO cannot load it ({one_line(error)}); export or copy the model again"
        ) from None
    texts = {key: str(getattr(value, "value", value)) for key, value in dict(stored).items()}
    return Session(compiled.create_infer_request(), texts, batch)


class Session:
    """Fits :class:`.session.Session`."""

    max_batch: Optional[int] = None

    def __init__(self, request: openvino.InferRequest, metadata: Dict[str, str], batch: int):
        self._request, self.metadata, self._batch = request, metadata, batch

    def prepare(self, input_hw: Tuple[int, int]) -> np.ndarray:
        """As of :class:`.session.Session`."""
        self._images = np.empty((self._batch, *input_hw, 3), np.uint8)
        self._bound: Optional[Tuple[int, int, Tuple[int, ...]]] = None
        return self._images

    def infer(self, maps: np.ndarray, scores: np.ndarray) -> None:
        """As of :class:`.session.Session`."""
        where = maps.ctypes.data, scores.ctypes.data, maps.shape
        try:
            if where != self._bound:  # a camera loop gives the same arrays with every frame
                images = self._images[: len(maps)]
                for name, array in (("image", images), ("anomaly_map", maps), ("score", scores)):
                    self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
                self._bound = where
            self._request.infer(share_outputs=True)  # else it returns copies of them
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed: {one_line(error)}") from None

    def close(self) -> None:
        """As of :class:`.session.Session`."""
        self._request = None
