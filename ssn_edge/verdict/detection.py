"""What the detector says of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from ssn_edge.frames.placement import Placement
from ssn_edge.verdict.regions import Region


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one frame: conversion and resize, the network, verdict and regions."""

    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float

    @property
    def total_ms(self) -> float:
        """All three."""
        return self.preprocess_ms + self.inference_ms + self.postprocess_ms


@dataclass(frozen=True)
class Detection:
    """The verdict on one frame.

    ``score`` 0..1 from the classification head, or from the map where the model has none, and ``map_max``,
    the map's highest logit (the highest of all tiles, where the frame was cut); ``anomaly_map`` float32
    [H, W] logits and ``mask`` uint8 [H, W] 0/1, both at the model's size (at the canvas's with tiles);
    ``regions`` in the frame's own pixels, the 32 highest peaks of ``region_count``.
    ``placement.to_frame(mask)`` has the frame's size.
    """

    score: float
    map_max: float
    is_defect: bool
    anomaly_map: np.ndarray
    mask: np.ndarray
    regions: Tuple[Region, ...]
    region_count: int
    latency: Latency
    placement: Placement
