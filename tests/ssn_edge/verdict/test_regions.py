"""Regions of a mask against a flood fill of our own, and their bound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge.frames.placement import Placement
from ssn_edge.verdict import regions
from ssn_edge.verdict.regions import MOST_REGIONS, Region, find_regions


def flooded(mask):
    """Sets of (row, column), by walking to the eight neighbours."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        grown, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            grown.add((y, x))
            around = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= around
            edge += around
        found.append(grown)
    return found


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 24), st.integers(1, 24)), density=st.floats(0, 1), seed=st.integers(0, 999)
)
def test_they_are_what_a_flood_fill_finds(shape, density, seed):
    """At the frame's own scale: every box, peak and area; the 32 highest of any number."""
    rng = np.random.default_rng(seed)
    anomaly_map = rng.permutation(shape[0] * shape[1]).astype(np.float32).reshape(shape)  # no ties
    mask = (rng.random(shape) < density).astype(np.uint8)
    truth = []
    for pixels in flooded(mask):
        rows, columns = ([pixel[axis] for pixel in pixels] for axis in (0, 1))
        truth.append(Region(
            min(columns), min(rows), max(columns) - min(columns) + 1, max(rows) - min(rows) + 1,
            max(float(anomaly_map[pixel]) for pixel in pixels), len(pixels), len(pixels),
        ))
    truth.sort(key=lambda region: -region.peak)
    found = find_regions(anomaly_map, mask, Placement(shape, shape))
    assert (found.highest, found.count) == (tuple(truth[:MOST_REGIONS]), len(truth))


def test_regions_in_frame_pixels():
    anomaly_map = np.zeros((10, 20), np.float32)
    anomaly_map[2:4, 5:8] = 3
    anomaly_map[8, 19] = 7
    anomaly_map[7, 18] = 5  # touches it diagonally: one region
    mask = (anomaly_map > 1).astype(np.uint8)
    found = find_regions(anomaly_map, mask, Placement((100, 400), mask.shape))
    assert found.highest == (
        Region(360, 70, 40, 20, 7.0, 2, 400), Region(100, 20, 60, 20, 3.0, 6, 1200),
    )
    assert found.count == 2


@given(
    mask=st.integers(1, 2**30 - 1), frame=st.tuples(st.integers(1, 999), st.integers(1, 999)),
    geometry=st.sampled_from(["stretch", "letterbox"]),
)
@settings(max_examples=80, deadline=None)
def test_regions_stay_inside_the_frame(mask, frame, geometry):
    bits = np.array([mask >> k & 1 for k in range(30)], np.uint8).reshape(5, 6)
    placement = Placement(frame, bits.shape, geometry=geometry)
    left, top, right, bottom = placement.map_content
    found = find_regions(bits.astype(np.float32), bits, placement)
    assert sum(region.area for region in found.highest) == bits[top:bottom, left:right].sum()
    whole = frame[0] * frame[1]
    assert sum(region.frame_area for region in found.highest) <= whole + found.count  # each is rounded
    for region in found.highest:
        assert 0 <= region.x < region.x + region.width <= frame[1]
        assert 0 <= region.y < region.y + region.height <= frame[0]


def test_a_hundred_thousand_regions_are_counted_and_not_walked(monkeypatch):
    """A noisy canvas: the highest are placed in the frame one by one, all others only counted."""
    rng = np.random.default_rng(0)
    anomaly_map = rng.standard_normal((1080, 1920)).astype(np.float32)
    mask = (anomaly_map > 1.28).astype(np.uint8)
    placed = []
    box = Placement.box
    monkeypatch.setattr(Placement, "box", lambda self, *xy: placed.append(xy) or box(self, *xy))
    found = find_regions(anomaly_map, mask, Placement(mask.shape, mask.shape))
    assert found.count > 100_000 and len(found.highest) == len(placed) == MOST_REGIONS
    peaks = [region.peak for region in found.highest]
    assert peaks == sorted(peaks, reverse=True) and peaks[0] == anomaly_map.max()


@pytest.mark.parametrize("background", [1900, 10])
@pytest.mark.parametrize("boxes", [(1, 2), (50, 40)])
def test_every_way_to_the_peaks_agrees(background, boxes):
    """Box by box; every pixel; and of those only what is not background: by what the boxes and areas say."""
    rng = np.random.default_rng(1)
    anomaly_map = rng.standard_normal((40, 50)).astype(np.float32)
    labels = np.zeros((40, 50), np.int32)
    places = {1: (3, 4), 2: (10, 20), 3: (30, 40)}
    for label, (y, x) in places.items():
        labels[y : y + 2, x] = label
    stats = np.array([[0, 0, 50, 40, background], *([x, y, *boxes, 2] for y, x in places.values())], np.int32)
    truth = [anomaly_map[labels == label].max() for label in places]
    assert regions._peaks(anomaly_map, labels, stats)[1:].tolist() == truth
