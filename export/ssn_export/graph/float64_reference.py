"""The trained model in float64, and how exactly a graph must agree with it on real images."""

from __future__ import annotations

import copy
from typing import Dict, Tuple

import numpy as np
import onnx
import torch
from torch import nn

from ssn_edge.backends.onnxruntime_backend import inference_session
from ssn_edge.errors import ModelError
from ssn_edge.frames.pixels import resize
from ssn_export.gates.parity import Reference
from ssn_train.network.backbones import Backbone
from ssn_train.network.map_matrices import resize_matrix
from ssn_train.network.model import SuperSimpleNet

EXACT_LIMIT = 1e-10
"""Of the fused module in float64, relative to the map's largest value."""


def reference(model: SuperSimpleNet, backbone: Backbone, images: np.ndarray) -> Reference:
    """The trained model's own forward pass in float64, one image at a time.

    ``images`` uint8 BGR [N, H, W, 3] at the model's size, or at a camera's: then resized in float64
    (:func:`resize_exactly`).
    """
    exact = copy.deepcopy(model).double().eval()
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (backbone.mean, backbone.std))
    maps, scores = [], []
    with torch.inference_mode():
        for image in images:
            bgr = resize_exactly(image, model.image_size)
            rgb = torch.from_numpy(bgr[..., ::-1].copy())
            anomaly_map, score = exact(((rgb / 255 - mean) / std).permute(2, 0, 1)[None])
            maps.append(anomaly_map[0, 0].numpy())
            scores.append(float(score))
    return Reference(images, np.stack(maps), np.array(scores))


def resize_exactly(image: np.ndarray, size_hw: Tuple[int, int]) -> np.ndarray:
    """The runtime's resize without its rounding to 8 bits: float64 [H, W, 3]."""
    rows, columns = (resize_matrix(n, m) for n, m in zip(image.shape[:2], size_hw))
    return np.einsum("yh,hwc,xw->yxc", rows, image.astype(np.float64), columns, optimize=True)


def gate_resize(model: SuperSimpleNet, backbone: Backbone, truth: Reference) -> Dict[str, float]:
    """The graph's resize of camera frames against the runtime's: largest difference of a pixel in
    grey levels, and what it does to the map (rms over its standard deviation).

    ModelError above one level (1/255). The runtime rounds to 8 bits, the graph does not; how much
    of that reaches the map is the model's own sensitivity.
    """
    resized = np.stack([resize(image, model.image_size) for image in truth.images])
    pairs = zip(truth.images, resized)
    levels = max(float(np.abs(resize_exactly(a, model.image_size) - b).max()) for a, b in pairs)
    if levels > 1:
        raise ModelError(f"frame resize refused: {levels:.2f} grey levels off the runtime's, limit 1")
    runtime = reference(model, backbone, resized)
    rms = float(np.sqrt(np.mean((runtime.maps - truth.maps) ** 2)) / truth.maps.std())
    return {"resize_max_levels": levels, "resize_map_rms": rms}


def gate_exact(deployed: nn.Module, truth: Reference) -> float:
    """Largest error of the module in float64 over the largest map value; ModelError above 1e-10."""
    with torch.inference_mode():
        found = [deployed(torch.from_numpy(image[None])) for image in truth.images]
    maps, scores = (np.concatenate([f[i].numpy() for f in found]) for i in (0, 1))
    error = max(
        float(np.abs(maps - truth.maps).max() / np.abs(truth.maps).max()),
        float(np.abs(scores - truth.scores).max()),
    )
    if not error <= EXACT_LIMIT:
        raise ModelError(
            f"float64 fusion refused: error {error:.1e}, limit {EXACT_LIMIT:.0e}; nothing was written"
        )
    return error


def run_onnx(model: onnx.ModelProto, images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Maps and scores of a graph in ONNX Runtime on the CPU, float32."""
    session = inference_session(model.SerializeToString())
    parts = [session.run(["anomaly_map", "score"], {"image": image[None]}) for image in images]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
