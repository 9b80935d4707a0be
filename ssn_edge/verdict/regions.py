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

LOOKED_AT = 4096
"""Pixels, about: the highest are in as many regions as are told, unless few large ones have them all."""

SAMPLE = 8192
"""Pixels, about, by which it is found what so many of all reach."""


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
    none. A box covers every frame pixel that its map pixels touch, and never leaves the frame. Equal
    peaks are in the order of their labels. Linear in the map's pixels.
    """
    left, top, right, bottom = placement.map_content
    anomaly_map, mask = anomaly_map[top:bottom, left:right], mask[top:bottom, left:right]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count == 1:
        return Regions((), 0)
    peaks = _peaks(anomaly_map, labels, stats)
    order = np.flatnonzero(peaks > -np.inf)
    if len(order) > MOST_REGIONS:
        least = len(order) - MOST_REGIONS
        order = order[peaks[order] >= np.partition(peaks[order], least)[least]]
    order = order[np.lexsort((order, -peaks[order]))][:MOST_REGIONS]
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
    """The highest value of each label, float32 [labels]; -inf for the background, and for labels that are
    not among the highest :data:`MOST_REGIONS`.

    A few regions, as a defect makes, are looked at box by box. Of many the highest pixels are enough: a label
    without one is lower than all that have one. Where too few have, as beside a large bright region, or where
    boxes lie over each other, every pixel is looked at, stretch by stretch of one label.
    """
    peaks = np.full(len(stats), -np.inf, np.float32)
    boxes = stats[1:, cv2.CC_STAT_WIDTH].astype(np.int64) * stats[1:, cv2.CC_STAT_HEIGHT]
    if len(boxes) <= MOST_REGIONS and boxes.sum() <= 2 * labels.size:
        for label, (x, y, w, h) in enumerate(stats[1:, :4].tolist(), 1):
            inside = labels[y : y + h, x : x + w] == label
            peaks[label] = anomaly_map[y : y + h, x : x + w].max(where=inside, initial=-np.inf)
        return peaks
    flat, values = labels.ravel(), anomaly_map.ravel()
    inside = flat != 0
    highest = np.flatnonzero(inside & (values >= _high(values, inside)))
    np.maximum.at(peaks, flat[highest], values[highest])
    if np.count_nonzero(peaks > -np.inf) < min(MOST_REGIONS, len(boxes)):
        begins = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
        np.maximum.at(peaks, flat[begins], np.maximum.reduceat(values, begins))
        peaks[0] = -np.inf
    return peaks


def _high(values: np.ndarray, inside: np.ndarray) -> float:
    """What about :data:`LOOKED_AT` of the values ``inside`` reach, by a sample of them."""
    step = len(values) // SAMPLE | 1  # odd, so that it does not go down columns
    sample = values[::step][inside[::step]]
    if not len(sample):
        return -np.inf
    rank = max(0, len(sample) - max(1, LOOKED_AT // step))
    return float(np.partition(sample, rank)[rank])
