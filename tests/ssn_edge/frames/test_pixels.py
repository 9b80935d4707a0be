"""Frames of every kind as the model takes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssn_edge.errors import InputError
from ssn_edge.frames import pixels

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize(
    "frame",
    [
        PHOTO.astype(np.float32),
        PHOTO.astype(bool),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        "photo.png",
        None,
    ],
)
def test_wrong_frames_are_named(frame):
    with pytest.raises(InputError, match="camera 3"):
        pixels.to_bgr8(frame, "camera 3")


@given(
    frame=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.one_of(
            st.tuples(st.integers(1, 9), st.integers(1, 9)),
            st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])),
        ),
    ),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
@settings(max_examples=40, deadline=None)
def test_any_frame_gives_the_models_size(frame, size):
    resized = pixels.resize(pixels.to_bgr8(frame), size)
    assert resized.shape == (*size, 3) and resized.dtype == np.uint8
    out = np.empty_like(resized)
    assert pixels.resize(pixels.to_bgr8(frame), size, out=out) is out
    np.testing.assert_array_equal(out, resized)
