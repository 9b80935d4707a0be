"""From the mask to regions: the connected defects of a map, bounded in number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import cv2
import numpy as np

from ssn_edge.frames.placement import Placement

MOST_REGIONS = 32
"""Of a frame, the highest by peak; the rest is counted. Noise makes a hundred thousand of them, and what
is told of a frame must fit into a message."""


@dataclass(frozen=True)
class Region:
    """A connected defect: box in the frame's pixels, the highest map value inside, and its area in the
    map's pixels and in the frame's."""

    x: int
    y: int
    width: int
    height: int
    peak: float
    area: int
    frame_area: int


@dataclass(frozen=True)
class Regions:
    """The highest :data:`MOST_REGIONS`, and how many there are in all."""

    highest: Tuple[Region, ...]
    count: int


def find_regions(anomaly_map: np.ndarray, mask: np.ndarray, placement: Placement) -> Regions:
    """The mask's 8-connected components, from map to frame, highest peak first.

    ``anomaly_map`` float32 [H, W] and ``mask`` uint8 [H, W] at the map's size; a letterbox's border holds
    none. A box covers every frame pixel that its map pixels touch, and never leaves the frame. Linear
    in the map's pixels.
    """
    left, top, right, bottom = placement.map_content
    anomaly_map, mask = anomaly_map[top:bottom, left:right], mask[top:bottom, left:right]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count == 1:
        return Regions((), 0)
    peaks = _peaks(anomaly_map, labels, stats)
    order = np.arange(1, count)
    if len(order) > MOST_REGIONS:
        order = 1 + np.argpartition(-peaks[1:], MOST_REGIONS)[:MOST_REGIONS]
    order = order[np.lexsort((order, -peaks[order]))]
    found = []
    for label in order:
        x, y, w, h, area = (int(value) for value in stats[label])
        box = placement.box(left + x, top + y, left + x + w, top + y + h)
        assert box is not None  # the border was cut off
        x0, y0, x1, y1 = box
        frame_area = round(area * placement.pixel_area)
        found.append(Region(x0, y0, x1 - x0, y1 - y0, float(peaks[label]), area, frame_area))
    return Regions(tuple(found), count - 1)


def _peaks(anomaly_map: np.ndarray, labels: np.ndarray, stats: np.ndarray) -> np.ndarray:
    """The highest value of each label, float32 [labels]; the background's is not meant to be used.

    A few regions, as a defect makes, are looked at box by box; of many, or where their boxes lie over
    each other, every pixel is looked at once.
    """
    peaks = np.full(len(stats), -np.inf, np.float32)
    boxes = stats[1:, cv2.CC_STAT_WIDTH].astype(np.int64) * stats[1:, cv2.CC_STAT_HEIGHT]
    if len(boxes) <= MOST_REGIONS and boxes.sum() <= 2 * labels.size:
        for label, (x, y, w, h) in enumerate(stats[1:, :4].tolist(), 1):
            inside = labels[y : y + h, x : x + w] == label
            peaks[label] = anomaly_map[y : y + h, x : x + w].max(where=inside, initial=-np.inf)
        return peaks
    flat, values = labels.ravel(), anomaly_map.ravel()
    if 2 * stats[0, cv2.CC_STAT_AREA] > len(flat):  # mostly background, as parts are: look at the rest alone
        inside = np.flatnonzero(flat)
        flat, values = flat[inside], values[inside]
    np.maximum.at(peaks, flat, values)
    return peaks
