"""Regions of a mask against a flood fill of our own, and their bound."""

from types import SimpleNamespace
from unittest import mock

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
    shape=st.tuples(st.integers(1, 24), st.integers(1, 24)), density=st.floats(0, 1),
    seed=st.integers(0, 999), looked_at=st.sampled_from([1, 20, 4096]),
)
def test_they_are_what_a_flood_fill_finds(shape, density, seed, looked_at):
    """At the frame's own scale: every box, peak and area; the 32 highest of any number, however many pixels
    are looked at first."""
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
    with mock.patch.object(regions, "LOOKED_AT", looked_at):
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


@pytest.fixture
def compared(monkeypatch):
    """How many values were compared one by one, label by label: slow, above all in numpy before 1.25."""
    counts = []

    def at(peaks, labels, values):
        counts.append(len(values))
        np.maximum.at(peaks, labels, values)

    maximum = SimpleNamespace(at=at, reduceat=np.maximum.reduceat)
    monkeypatch.setattr(regions, "np", SimpleNamespace(**{**vars(np), "maximum": maximum}))
    return counts


def test_a_hundred_thousand_regions_are_counted_and_not_walked(monkeypatch, compared):
    """A noisy canvas: the highest are placed in the frame one by one, all others only counted; nearly all
    pixels are below a value that enough regions reach, and are not compared further."""
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
    assert sum(compared) < 0.03 * mask.sum()


def test_large_regions_one_above_the_other_are_compared_line_by_line(compared):
    """The highest pixels are all in the first of them, so that every pixel has to be looked at."""
    rng = np.random.default_rng(1)
    level = np.repeat(np.arange(50.0), 20)[:, None]
    anomaly_map = (level + rng.random((1000, 900))).astype(np.float32)
    mask = np.ones((1000, 900), np.uint8)
    mask[19::20] = 0
    found = find_regions(anomaly_map, mask, Placement(mask.shape, mask.shape))
    truth = [float(anomaly_map[20 * n : 20 * n + 19].max()) for n in range(49, 49 - MOST_REGIONS, -1)]
    assert [region.peak for region in found.highest] == truth and found.count == 50
    assert sum(compared) < 0.03 * mask.sum()


def test_equal_peaks_are_told_in_the_order_of_their_places():
    anomaly_map = np.zeros((40, 40), np.float32)
    anomaly_map[::4, ::4] = 5
    mask = (anomaly_map > 0).astype(np.uint8)
    found = find_regions(anomaly_map, mask, Placement(mask.shape, mask.shape))
    assert found.count == 100
    assert [(r.y, r.x) for r in found.highest] == [(n // 10 * 4, n % 10 * 4) for n in range(MOST_REGIONS)]
