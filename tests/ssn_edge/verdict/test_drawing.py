"""Pictures of a verdict: what is marked is where it was."""

import numpy as np
import pytest

from ssn_edge import View
from ssn_edge.testing import fake_detector
from ssn_edge.verdict.drawing import NG_COLOUR, OK_COLOUR, PART_COLOUR, heatmap, overlay


def mean(image):
    anomaly_map = image.astype(np.float32).mean(2)
    return anomaly_map.max() / 255, anomaly_map


def test_a_heat_map_grows_from_low_to_high():
    ramp = np.linspace(-2, 4, 64, dtype=np.float32)[None]
    picture = heatmap(ramp, 0.0, 2.0)
    assert picture.shape == (1, 64, 3) and picture.dtype == np.uint8
    luma = picture[0].astype(float) @ [0.114, 0.587, 0.299]
    assert (np.diff(luma) >= -1).all() and luma[0] < 50 < 150 < luma[-1]
    assert (picture[0, ramp[0] <= 0] == picture[0, 0]).all()  # clipped


@pytest.mark.parametrize("frame", [
    np.zeros((320, 480), np.uint8), np.zeros((320, 480, 4), np.uint8), np.zeros((320, 480, 3), np.uint16),
])
def test_a_sound_frame_has_a_green_banner_and_nothing_else(frame):
    picture = overlay(frame, fake_detector(mean).detect(frame), 100.0)
    assert picture.shape == (320 + 30, 480, 3)
    assert not picture[:320].any() and (picture[-1, -1] == OK_COLOUR).all()


def test_a_defect_is_boxed_and_tinted_where_it_is():
    frame = np.zeros((320, 480, 3), np.uint8)
    frame[100:200, 300:400] = 255
    detection = fake_detector(mean).detect(frame)
    picture = overlay(frame, detection, 100.0)
    (region,) = detection.regions
    assert (picture[region.y, region.x] == NG_COLOUR).all() and (picture[-1, -1] == NG_COLOUR).all()
    np.testing.assert_allclose(picture[150, 350], (np.array(NG_COLOUR) + 255) / 2, atol=1)  # half of it
    assert not picture[50, 50].any()
    assert not frame[50:60].any() and (frame[150, 350] == 255).all()  # the frame itself stays


def test_the_part_that_is_judged_is_outlined():
    frame = np.zeros((320, 480, 3), np.uint8)
    detection = fake_detector(view=View(roi=(40, 60, 200, 100))).detect(frame)
    picture = overlay(frame, detection, 100.0)
    assert (picture[60, 40:240] == PART_COLOUR).all() and not picture[50].any()
