"""OpenVINO on the CPU, from the same ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, NamedTuple

import numpy as np
import openvino

from ssn_edge.errors import BackendError, ModelError

NAME = "openvino"


class Session(NamedTuple):
    request: openvino.InferRequest
    metadata: Dict[str, str]


def version() -> str:
    return openvino.__version__


def open_session(path: Path, batch: int) -> Session:
    """A session compiled for one batch size: OpenVINO plans better for fixed shapes."""
    core = openvino.Core()
    try:
        model = core.read_model(str(path))
        stored = model.get_rt_info(["framework"]).value if model.has_rt_info(["framework"]) else {}
        height, width = (int(n.get_length()) for n in list(model.input("image").partial_shape)[1:3])
        model.reshape({"image": [batch, height, width, 3]})
        # The precision is the file's: no silent bfloat16 on processors that have it.
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{path}: OpenVINO cannot load it ({reason}); export or copy the model again"
        ) from None
    texts = {key: str(getattr(value, "value", value)) for key, value in dict(stored).items()}
    return Session(compiled.create_infer_request(), texts)


def metadata(session: Session) -> Dict[str, str]:
    return session.metadata


def run(session: Session, images: np.ndarray, maps: np.ndarray, scores: np.ndarray) -> None:
    request = session.request
    request.set_tensor("image", openvino.Tensor(images, shared_memory=True))
    request.set_tensor("anomaly_map", openvino.Tensor(maps, shared_memory=True))
    request.set_tensor("score", openvino.Tensor(scores, shared_memory=True))
    try:
        request.infer()
    except RuntimeError as error:
        raise BackendError(f"OpenVINO failed: {' '.join(str(error).split())[:160]}") from None
