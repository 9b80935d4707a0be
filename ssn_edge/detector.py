"""The detector: a model file opened once, frames in, verdicts out."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Tuple

import numpy as np

from ssn_edge import backends, schema
from ssn_edge.errors import InputError, ModelError
from ssn_edge.files import PathLike
from ssn_edge.images import resize, to_bgr8
from ssn_edge.postprocess import Region, find_regions
from ssn_edge.schema import ModelInfo


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one frame: conversion and resize, the network, verdict and regions."""

    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float

    @property
    def total_ms(self) -> float:
        return self.preprocess_ms + self.inference_ms + self.postprocess_ms


@dataclass(frozen=True)
class Detection:
    """The verdict on one frame.

    ``score`` 0..1 from the classification head and ``map_max``, the map's highest logit;
    ``anomaly_map`` float32 [H, W] logits and ``mask`` uint8 [H, W] 0/1, both at the model's
    size; ``regions`` in the frame's own pixels, highest peak first.
    """

    score: float
    map_max: float
    is_defect: bool
    anomaly_map: np.ndarray
    mask: np.ndarray
    regions: Tuple[Region, ...]
    latency: Latency


class Detector:
    """An opened model. Use :meth:`open`; not for several threads at once.

    >>> with Detector.open("model.onnx") as detector:
    ...     detection = detector.detect(frame)          # BGR uint8 [height, width, 3]
    ...     print(detection.is_defect, detection.score)
    """

    def __init__(self, info: ModelInfo, backend: Any, session: Any, batch: int):
        self.info = info
        self.backend_name = f"{backend.NAME} {backend.version()}"
        self._backend = backend
        self._session = session
        self._images = np.empty((batch, *info.input_hw, 3), np.uint8)
        self._scores = np.empty(batch, np.float32)

    @classmethod
    def open(
        cls,
        model: PathLike,
        backend: str = "auto",
        threshold: Optional[float] = None,
        batch: int = 1,
    ) -> Detector:
        """Open an ``.onnx`` file written by ssn-export.

        ``threshold`` replaces the model's image threshold; ``batch`` is the number of images that
        :meth:`infer_batch` takes at once (1 for :meth:`detect`). Raises InputError for a missing
        file, ModelError for a damaged or foreign one, BackendError where no library is installed.
        """
        path = Path(model)
        if not path.is_file():
            raise InputError(f"{path}: no such model file; write one with ssn-export RUN")
        if path.suffix != ".onnx":
            raise InputError(f"{path}: not an .onnx file; write one with ssn-export RUN")
        library = backends.load(backend)
        session = library.open_session(path, batch)
        info = schema.from_metadata(library.metadata(session), str(path))
        if threshold is not None:
            verdict = dataclasses.replace(
                info.verdict, image_threshold=threshold, method="set by the caller"
            )
            info = dataclasses.replace(info, verdict=verdict)
        return cls(info, library, session, batch)

    def detect(self, frame: np.ndarray) -> Detection:
        """Judge one frame: grey, BGR or BGRA, uint8 or uint16, any size (the camera's, for a model
        exported with ``--frame``).

        Raises InputError for anything else.
        """
        start = time.perf_counter()
        self._load(frame)
        ready = time.perf_counter()
        anomaly_map = np.empty(self.info.size_hw, np.float32)
        self._run(self._images, anomaly_map[None], self._scores)
        inferred = time.perf_counter()
        score, map_max = float(self._scores[0]), float(anomaly_map.max())
        verdict = self.info.verdict
        mask = (anomaly_map >= verdict.pixel_threshold).astype(np.uint8)
        regions = find_regions(anomaly_map, mask, frame.shape[:2])
        is_defect = verdict.is_defect(score, map_max)
        done = time.perf_counter()
        latency = Latency(*(1e3 * t for t in (ready - start, inferred - ready, done - inferred)))
        return Detection(score, map_max, is_defect, anomaly_map, mask, regions, latency)

    def infer_into(
        self, frame: np.ndarray, map_out: np.ndarray, mask_out: Optional[np.ndarray] = None
    ) -> float:
        """Judge one frame into the caller's arrays and return the score.

        ``map_out`` float32 [H, W] and ``mask_out`` uint8 [H, W] (0/1), C-contiguous, at the model's
        size; InputError otherwise.
        """
        self._check_out("map_out", map_out, np.float32)
        self._load(frame)
        self._run(self._images, map_out[None], self._scores)
        if mask_out is not None:
            self._check_out("mask_out", mask_out, np.uint8)
            threshold = np.float32(self.info.verdict.pixel_threshold)
            np.greater_equal(map_out, threshold, out=mask_out.view(np.bool_))
        return float(self._scores[0])

    def infer_batch(self, images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Maps float32 [batch, H, W] and scores float32 [batch] of images at the file's input size.

        ``images`` uint8 [batch, H, W, 3] BGR with the batch size given to :meth:`open`.
        """
        if images.shape != self._images.shape or images.dtype != np.uint8:
            raise InputError(
                f"images: {images.dtype} {images.shape}; expected uint8 {self._images.shape}"
            )
        maps = np.empty((len(images), *self.info.size_hw), np.float32)
        scores = np.empty(len(images), np.float32)
        self._run(np.ascontiguousarray(images), maps, scores)
        return maps, scores

    def close(self) -> None:
        """Free the session; the detector cannot be used afterwards. May be called twice."""
        self._session = None

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _load(self, frame: np.ndarray) -> None:
        if len(self._images) != 1:
            raise InputError(f"opened for batches of {len(self._images)}; use infer_batch")
        bgr = to_bgr8(frame)
        if self.info.frame and bgr.shape[:2] != self.info.frame:
            (height, width), (h, w) = bgr.shape[:2], self.info.frame
            raise InputError(
                f"frame of {height}x{width}: this model takes {h}x{w} camera frames alone; export "
                f"it with --frame {height}x{width}, or without --frame for any size"
            )
        resize(bgr, self.info.input_hw, out=self._images[0])

    def _run(self, images: np.ndarray, maps: np.ndarray, scores: np.ndarray) -> None:
        if self._session is None:
            raise ModelError("the detector is closed; open it again")
        self._backend.run(self._session, images, maps, scores)

    def _check_out(self, name: str, array: np.ndarray, dtype: type) -> None:
        fits = array.shape == self.info.size_hw and array.dtype == dtype
        if not (fits and array.flags.c_contiguous):
            raise InputError(
                f"{name}: {array.dtype} {array.shape}; expected C-contiguous "
                f"{np.dtype(dtype)} {self.info.size_hw}"
            )
