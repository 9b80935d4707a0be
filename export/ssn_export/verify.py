"""The gate: an exported file against the trained model on real images, or no file."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Dict, Tuple

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ssn_edge.errors import ModelError
from ssn_edge.images import resize
from ssn_edge.postprocess import resize_matrix
from ssn_edge.schema import Verdict
from ssn_train.backbones import Backbone
from ssn_train.model import SuperSimpleNet

EXACT_LIMIT = 1e-10
"""Of the fused module in float64, relative to the map's largest value."""

FLOAT_LIMITS = {"map_rms": 1e-5, "map_max": 1e-4}
HALF_LIMITS = {"map_rms": 3e-3}
"""Errors over the map's standard deviation; two correct float32 runs differ by 1e-5 at most."""

MARGINS = {"float32": 1e-4, "float16": 3e-2}
"""Verdicts must agree unless the value is this close to the threshold (over the deviation of the
map for ``map_max``, absolute for ``score``)."""


@dataclass(frozen=True)
class Reference:
    """uint8 BGR ``images`` [N, H, W, 3], and the trained model's answers in float64."""

    images: np.ndarray
    maps: np.ndarray
    scores: np.ndarray

    def first(self, count: int) -> Reference:
        """The first ``count`` images with their answers."""
        return Reference(self.images[:count], self.maps[:count], self.scores[:count])


@dataclass(frozen=True)
class Parity:
    """Errors against :class:`Reference`: map errors over the map's standard deviation, score
    errors absolute; verdicts changed, and of those the ones outside the margin."""

    images: int
    map_rms: float
    map_mean: float
    map_max: float
    score_mean: float
    score_max: float
    verdicts_changed: int
    changed_outside_margin: int
    margin: float

    def line(self) -> str:
        return (
            f"map error {self.map_rms:.1e} rms, {self.map_mean:.1e} mean, {self.map_max:.1e} max "
            f"(of its deviation); score {self.score_mean:.1e} mean, {self.score_max:.1e} max; "
            f"{self.verdicts_changed} of {self.images} verdicts changed"
        )


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
    grey levels, and what it does to the map (rms over its deviation).

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
        found = [deployed(torch.from_numpy(image[None]))[:2] for image in truth.images]
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
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    parts = [session.run(["anomaly_map", "score"], {"image": image[None]}) for image in images]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def compare(
    truth: Reference, maps: np.ndarray, scores: np.ndarray, verdict: Verdict, precision: str
) -> Parity:
    """Errors of ``maps`` [N, H, W] and ``scores`` [N] against the reference."""
    deviation = float(truth.maps.std())
    error = np.abs(maps - truth.maps) / deviation
    score_error = np.abs(scores - truth.scores)
    if verdict.source == "score":
        exact, ours, unit = truth.scores, scores, 1.0
    else:
        exact, ours, unit = truth.maps.max((1, 2)), maps.max((1, 2)), deviation
    threshold = verdict.image_threshold
    changed = (exact >= threshold) != (ours >= threshold)
    outside = changed & (np.abs(exact - threshold) > MARGINS[precision] * unit)
    return Parity(
        images=len(maps),
        map_rms=float(np.sqrt(np.mean(error**2))),
        map_mean=float(error.mean()),
        map_max=float(error.max()),
        score_mean=float(score_error.mean()),
        score_max=float(score_error.max()),
        verdicts_changed=int(changed.sum()),
        changed_outside_margin=int(outside.sum()),
        margin=MARGINS[precision],
    )


def gate(parity: Parity, precision: str) -> None:
    """ModelError naming the figure that exceeds its limit."""
    limits: Dict[str, Any] = FLOAT_LIMITS if precision == "float32" else HALF_LIMITS
    for name, limit in limits.items():
        value = getattr(parity, name)
        if not value <= limit:
            raise ModelError(
                f"{precision} export refused: {name} {value:.1e} of the map's deviation, "
                f"limit {limit:.0e}; nothing was written"
            )
    if parity.changed_outside_margin:
        raise ModelError(
            f"{precision} export refused: {parity.changed_outside_margin} verdicts changed beyond "
            f"{parity.margin:g} of the threshold; nothing was written"
        )
