"""Reading files: every kind, and every kind of damage."""

import cv2
import numpy as np
import pytest

from ssn_edge.errors import InputError
from ssn_edge.frames import image_files, masks

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
    np.testing.assert_array_equal(image_files.read_image(path), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_truncated_files_are_refused(tmp_path, suffix, share):
    path = tmp_path / f"photo{suffix}"
    cv2.imwrite(str(path), RNG.integers(0, 256, (200, 300, 3), np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=f"photo{suffix}.*not a complete image"):
        image_files.read_image(path)


def test_data_behind_a_jpeg_does_not_matter(tmp_path):
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), PHOTO)
    path.write_bytes(path.read_bytes() + b"\0" * 5000)
    assert image_files.read_image(path).shape == PHOTO.shape


@pytest.mark.parametrize("truth, on", [(1, 1), (255, 255), (255, 131), (70, 40)])
def test_masks_are_cut_at_half_of_their_maximum(tmp_path, truth, on):
    mask = np.zeros((10, 12), np.uint8)
    mask[2, 2], mask[4:6, 3] = truth, on
    mask[8, 8] = truth // 3
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    expected = np.zeros(mask.shape, bool)
    expected[2, 2], expected[4:6, 3] = True, True
    np.testing.assert_array_equal(masks.read_mask(tmp_path / "m.png"), expected)


def test_mask_of_another_size_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros((10, 12), np.uint8))
    with pytest.raises(InputError, match="m.png: mask of 10x12 for an image of 10x13"):
        masks.read_mask(tmp_path / "m.png", (10, 13))


def test_an_empty_mask_is_empty(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros((10, 12), np.uint8))
    assert not masks.read_mask(tmp_path / "m.png").any()
