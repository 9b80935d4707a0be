"""Reading, converting and resizing: every kind of file, and every kind of damage."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssn_edge import images
from ssn_edge.errors import InputError

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize(
    "stored, expected",
    [
        (PHOTO, PHOTO),
        (PHOTO[..., 0], np.repeat(PHOTO[..., :1], 3, 2)),
        (np.dstack([PHOTO, PHOTO[..., :1]]), PHOTO),
        (PHOTO.astype(np.uint16) * 257, PHOTO),
        (PHOTO[..., 0].astype(np.uint16) * 257, np.repeat(PHOTO[..., :1], 3, 2)),
    ],
    ids=["BGR", "grey", "BGRA", "16-bit BGR", "16-bit grey"],
)
def test_every_kind_of_png_becomes_bgr8(tmp_path, stored, expected):
    path = tmp_path / "photo.png"
    assert cv2.imwrite(str(path), stored)
    np.testing.assert_array_equal(images.read_image(path), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_truncated_files_are_refused(tmp_path, suffix, share):
    path = tmp_path / f"photo{suffix}"
    cv2.imwrite(str(path), RNG.integers(0, 256, (200, 300, 3), np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=f"photo{suffix}.*not a complete image"):
        images.read_image(path)


def test_data_behind_a_jpeg_does_not_matter(tmp_path):
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), PHOTO)
    path.write_bytes(path.read_bytes() + b"\0" * 5000)
    assert images.read_image(path).shape == PHOTO.shape


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
        images.to_bgr8(frame, "camera 3")


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
    resized = images.resize(images.to_bgr8(frame), size)
    assert resized.shape == (*size, 3) and resized.dtype == np.uint8
    out = np.empty_like(resized)
    assert images.resize(images.to_bgr8(frame), size, out=out) is out
    np.testing.assert_array_equal(out, resized)


@pytest.mark.parametrize("truth, on", [(1, 1), (255, 255), (255, 131), (70, 40)])
def test_masks_are_cut_at_half_of_their_maximum(tmp_path, truth, on):
    mask = np.zeros((10, 12), np.uint8)
    mask[2, 2], mask[4:6, 3] = truth, on
    mask[8, 8] = truth // 3
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    expected = np.zeros(mask.shape, bool)
    expected[2, 2], expected[4:6, 3] = True, True
    np.testing.assert_array_equal(images.read_mask(tmp_path / "m.png"), expected)


def test_mask_of_another_size_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros((10, 12), np.uint8))
    with pytest.raises(InputError, match="m.png: mask of 10x12 for an image of 10x13"):
        images.read_mask(tmp_path / "m.png", (10, 13))


def test_an_empty_mask_is_empty(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros((10, 12), np.uint8))
    assert not images.read_mask(tmp_path / "m.png").any()
