"""Pictures of a verdict: the map as a heat map, overlays with boxes and a banner."""

from __future__ import annotations

import cv2
import numpy as np

from ssn_edge.frames.pixels import to_bgr8
from ssn_edge.verdict.detection import Detection

OK_COLOUR, NG_COLOUR = (90, 160, 60), (50, 60, 210)  # BGR
PART_COLOUR = (200, 200, 200)  # outline of the region of interest


def heatmap(anomaly_map: np.ndarray, low: float, high: float) -> np.ndarray:
    """Logits [H, W] as BGR uint8 [H, W, 3], ``low`` dark blue to ``high`` yellow."""
    scaled = np.clip((anomaly_map - low) / max(high - low, 1e-9), 0, 1)
    return cv2.applyColorMap((255 * scaled).astype(np.uint8), cv2.COLORMAP_VIRIDIS)


def overlay(frame: np.ndarray, detection: Detection, pixel_threshold: float) -> np.ndarray:
    """The frame with the map where it exceeds the threshold, boxes, and a banner below.

    ``frame`` as given to the detector; returns BGR uint8, taller than the frame by the banner.
    """
    image = to_bgr8(frame, bits=detection.placement.bits).copy()
    width = image.shape[1]
    if detection.mask.any():
        mask = detection.placement.to_frame(detection.mask) > 0
        tinted = cv2.addWeighted(image, 0.5, np.full_like(image, NG_COLOUR), 0.5, 0)
        image[mask] = tinted[mask]
    thickness = max(1, round(min(image.shape[:2]) / 300))
    if detection.placement.view.roi:
        x0, y0, x1, y1 = detection.placement.part
        cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), PART_COLOUR, thickness)
    for region in detection.regions:
        corner = (region.x + region.width - 1, region.y + region.height - 1)
        cv2.rectangle(image, (region.x, region.y), corner, NG_COLOUR, thickness)
    return np.vstack([image, _banner(width, detection, pixel_threshold)])


def _banner(width: int, detection: Detection, pixel_threshold: float) -> np.ndarray:
    colour = NG_COLOUR if detection.is_defect else OK_COLOUR
    height = max(24, width // 16)
    strip = np.full((height, width, 3), colour, np.uint8)
    text = (
        f"{'NG' if detection.is_defect else 'OK'}  score {detection.score:.3f}  "
        f"map {detection.map_max:.2f} / {pixel_threshold:.2f}"
    )
    scale = height / 40
    needed = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] + 12
    scale *= min(1.0, width / needed)
    place = (6, round(height * 0.7))
    cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return strip
