"""Pixel formats of cameras, against OpenCV and the standard's own numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge import InputError
from ssn_edge.frames import pixel_formats
from ssn_edge.frames.pixel_formats import FORMATS, MemoryLayout


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(list(FORMATS)), half=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    extra=st.integers(0, 9), seed=st.integers(0, 99),
)
def test_strides_do_not_matter(name, half, extra, seed):
    """A frame with gaps between its rows is the frame without them."""
    height, width = 2 * half[0], 2 * half[1]
    packed = pixel_formats.checked(name, height, width)
    rows = np.random.default_rng(seed).integers(0, 256, (packed.rows, packed.row), np.uint8)
    apart = pixel_formats.checked(name, height, width, packed.row + extra)
    data = np.full((packed.rows, apart.row), 255 - rows[0, 0], np.uint8)
    data[:, : packed.row] = rows
    memory = data.tobytes()[: apart.size]  # the last row ends with its pixels
    one = pixel_formats.to_bgr(pixel_formats.view(rows.tobytes(), packed), packed)
    two = pixel_formats.to_bgr(pixel_formats.view(memory, apart), apart)
    np.testing.assert_array_equal(one, two)
    assert one.shape[:2] == (height, width)
    with pytest.raises(InputError, match="bytes"):
        pixel_formats.view(memory[:-1], apart)


def test_yuv_is_bt601():
    """Grey and the primaries by the standard's equations (limited range)."""
    for y, u, v in ((16, 128, 128), (235, 128, 128), (81, 90, 240), (145, 54, 34), (41, 240, 110)):
        planes = np.concatenate([np.full((4, 4), y, np.uint8), np.tile(np.array([u, v], np.uint8), (2, 2))])
        yuyv = np.tile(np.array([[[y, u], [y, v]]], np.uint8), (4, 2, 1))
        red = 1.164 * (y - 16) + 1.596 * (v - 128)
        green = 1.164 * (y - 16) - 0.813 * (v - 128) - 0.391 * (u - 128)
        blue = 1.164 * (y - 16) + 2.018 * (u - 128)
        truth = np.clip([blue, green, red], 0, 255)
        for name, data in (("NV12", planes), ("YUYV", yuyv)):
            layout = MemoryLayout(name, 4, 4)
            shown = pixel_formats.to_bgr(pixel_formats.view(data.tobytes(), layout), layout)
            assert np.abs(shown - truth).max() <= 2
