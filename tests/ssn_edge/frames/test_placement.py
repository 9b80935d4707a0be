"""Frames to the model's pixels and back, against the same done with OpenCV and by marked pixels."""

import dataclasses

import cv2
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge import Detector, InputError, ModelError
from ssn_edge.frames.pixels import Scratch, resize, to_bgr8
from ssn_edge.frames.placement import FLIPS, LETTERBOX_GREY, Placement, View, starts

TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
MIRRORS = {"horizontal": 1, "vertical": 0}

views = st.builds(
    View,
    roi=st.none() | st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 60)] * 2),
    rotate=st.sampled_from([0, 90, 180, 270]), flip=st.sampled_from(sorted(FLIPS)),
)


def canvas(frame, view):
    """The view by OpenCV."""
    if view.roi:
        x, y, width, height = view.roi
        frame = frame[y : y + height, x : x + width]
    if view.rotate:
        frame = cv2.rotate(frame, TURNS[view.rotate])
    return cv2.flip(frame, MIRRORS[view.flip]) if view.flip else frame


def random_frame(seed, hw=(100, 120)):
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


@settings(max_examples=60, deadline=None)
@given(view=views, seed=st.integers(0, 99))
def test_what_the_model_sees(view, seed):
    frame = random_frame(seed)
    truth = canvas(frame, view)
    placement = Placement(frame.shape[:2], truth.shape[:2], view)
    assert placement.canvas_hw == truth.shape[:2]
    seen = np.empty_like(truth)
    (whole,) = placement.tiles
    placement.load(frame, whole, seen, Scratch())
    np.testing.assert_array_equal(seen, truth)  # at equal scale: the very pixels
    small = np.empty((16, 24, 3), np.uint8)
    placement = Placement(frame.shape[:2], (16, 24), view)
    placement.load(frame, placement.tiles[0], small, Scratch())
    difference = np.abs(small.astype(int) - resize(truth, (16, 24)))
    assert difference.max() <= (1 if view.rotate or view.flip else 0)  # rounding of turned weights


@settings(max_examples=60, deadline=None)
@given(view=views, x=st.integers(0, 59), y=st.integers(0, 59), seed=st.integers(0, 99))
def test_maps_and_boxes_come_back_to_the_pixel(view, x, y, seed):
    frame = random_frame(seed)
    truth = canvas(frame, view)
    placement = Placement(frame.shape[:2], truth.shape[:2], view)
    back = placement.to_frame(truth[..., 0].astype(np.float32), outside=-1)
    x0, y0, x1, y1 = placement.part
    np.testing.assert_array_equal(back[y0:y1, x0:x1], frame[y0:y1, x0:x1, 0])
    outside = np.ones(frame.shape[:2], bool)
    outside[y0:y1, x0:x1] = False
    assert (back[outside] == -1).all()
    y, x = y % truth.shape[0], x % truth.shape[1]
    marked = np.zeros(truth.shape[:2], np.uint8)
    marked[y, x] = 1
    ((row, column),) = np.argwhere(placement.to_frame(marked))
    assert placement.box(x, y, x + 1, y + 1) == (column, row, column + 1, row + 1)


@settings(max_examples=60, deadline=None)
@given(
    view=views, geometry=st.sampled_from(["stretch", "letterbox"]), size=st.tuples(*[st.integers(8, 90)] * 2),
    corner=st.tuples(*[st.floats(0, 0.95)] * 2),
)
def test_a_box_covers_what_its_map_pixels_saw(view, geometry, size, corner):
    """Whatever the scale: each frame pixel that falls into a map pixel lies in that pixel's box."""
    placement = Placement((100, 120), size, view, geometry)
    whole = placement.to_frame(np.zeros(size, np.float32))
    assert whole.shape == (100, 120)
    x, y = int(corner[1] * size[1]), int(corner[0] * size[0])
    box = placement.box(x, y, x + 1, y + 1)
    left, top, right, bottom = placement.map_content
    assert (box is None) == (not (left <= x < right and top <= y < bottom))
    if box is None:
        return
    x0, y0, x1, y1 = placement.part
    assert x0 <= box[0] < box[2] <= x1 and y0 <= box[1] < box[3] <= y1
    mask = np.zeros(size, np.uint8)
    mask[y, x] = 1
    for row, column in np.argwhere(placement.to_frame(mask)):  # nearest neighbour: its centre is inside
        assert box[0] <= column < box[2] and box[1] <= row < box[3]


@given(length=st.integers(1, 5000), tile=st.integers(1, 600), overlap=st.integers(0, 599))
def test_tiles_cover_and_overlap(length, tile, overlap):
    tile = min(tile, length)
    places = starts(length, tile, overlap)
    assert places[0] == 0 and places[-1] == length - tile
    steps = np.diff(places)
    assert (steps > 0).all() and (steps <= tile - min(overlap, tile - 1)).all()


@pytest.fixture
def path(tmp_path):
    return tiny.write_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("more", [{"overlap": 8}, {"rotate": 90, "flip": "vertical"}])
def test_tiles_of_the_models_size_judge_every_pixel(path, more):
    """The tiny model's map is the pixel's mean, so the stitched map must be the frame's."""
    frame, view = random_frame(1, (150, 210)), View(tile=(32, 48), **more)
    with Detector.open(path, "onnxruntime", view=view) as detector:
        detection = detector.detect(frame)
        truth = canvas(frame, view).mean(2, dtype=np.float32)
        np.testing.assert_allclose(detection.anomaly_map, truth, rtol=1e-5)
        assert detection.score == pytest.approx(truth.max() / 255, rel=1e-5)
        back = detection.placement.to_frame(detection.anomaly_map)
        np.testing.assert_allclose(back, frame.mean(2), rtol=1e-5)
        map_out, mask_out = np.empty(truth.shape, np.float32), np.empty(truth.shape, np.uint8)
        assert detector.infer_into(frame, map_out, mask_out) == detection.score
        np.testing.assert_array_equal(map_out, detection.anomaly_map)
        np.testing.assert_array_equal(mask_out, detection.mask)
        assert detector.detect(frame, map_out, mask_out).anomaly_map is map_out


def test_a_spot_is_boxed_where_it_is_in_the_frame(path):
    frame = np.zeros((400, 600), np.uint8)
    frame[120:140, 310:330] = 255
    view = View(roi=(300, 100, 96, 64), rotate=270, flip="horizontal", tile=(48, 32))
    with Detector.open(path, "onnxruntime", view=view) as detector:
        (region,) = detector.detect(frame).regions
    # the tile's long side is turned, so its scale is 32/48 and 48/32: boxes round outwards
    assert 308 <= region.x <= 310 and 118 <= region.y <= 120
    assert 330 <= region.x + region.width <= 332 and 140 <= region.y + region.height <= 142


def test_letterbox_keeps_proportions(tmp_path):
    info = dataclasses.replace(tiny.info(), geometry="letterbox")
    path = tiny.write_model(tmp_path / "m.onnx", info.to_json())
    frame = random_frame(2, (64, 64))
    with Detector.open(path, "onnxruntime") as detector:
        detection = detector.detect(frame)
    assert detection.placement.map_content == (8, 0, 40, 32)
    np.testing.assert_allclose(detection.anomaly_map[:, 8:40], resize(frame, (32, 32)).mean(2), rtol=1e-5)
    assert (detection.anomaly_map[:, :8] == LETTERBOX_GREY).all()
    assert (detection.anomaly_map[:, 40:] == LETTERBOX_GREY).all()
    assert detection.placement.to_frame(detection.mask).shape == (64, 64)


def test_frames_of_every_kind_in_one_scratch():
    scratch, rng = Scratch(), np.random.default_rng(0)
    for _ in range(2):
        for frame in (
            rng.integers(0, 256, (9, 8), np.uint8), rng.integers(0, 1 << 16, (9, 8), np.uint16),
            rng.integers(0, 1 << 16, (9, 8, 4), np.uint16), rng.integers(0, 256, (9, 8, 1), np.uint8),
            rng.integers(0, 256, (6, 5, 4), np.uint8), random_frame(3),
        ):
            np.testing.assert_array_equal(to_bgr8(frame, scratch=scratch), to_bgr8(frame))


def test_what_cannot_be(path):
    tiles = {"tile": (32, 32), "overlap": 32}
    for fields in ({"rotate": 45}, {"flip": "both"}, {"roi": (-1, 0, 5, 5)}, tiles):
        with pytest.raises(InputError, match="give|smaller"):
            View(**fields)
    with Detector.open(path, "onnxruntime", view=View(roi=(90, 0, 20, 20))) as detector:
        with pytest.raises(InputError, match="leaves the frame of 100x80"):
            detector.detect(random_frame(0, (80, 100)))
        assert detector.detect(random_frame(0, (80, 120))).placement.frame_hw == (80, 120)
    with pytest.raises(ModelError, match="geometry 'fisheye'"):
        dataclasses.replace(tiny.info(), geometry="fisheye")
