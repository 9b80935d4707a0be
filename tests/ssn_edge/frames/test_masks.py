"""Masks as tools write them, each made here, against the pixels that were drawn."""

import cv2
import numpy as np
import pytest

from ssn_edge.errors import InputError
from ssn_edge.frames.masks import read_mask


@pytest.fixture
def drawn():
    """Two defects: a blob and a scratch of one pixel."""
    first, second = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    first[10:25, 12:40], second[40, 5:70] = True, True
    return first, second


def written(tmp_path, mask, suffix=".png", *options):
    path = tmp_path / f"m{suffix}"
    assert cv2.imwrite(str(path), mask, options)
    return read_mask(path)


@pytest.mark.parametrize("one, two", [
    (255, 255), (1, 1), (1, 2), (100, 255), (85, 170), (64, 192), (30, 40), (255, 100), (200, 210),
])
def test_two_kinds_of_defect(tmp_path, drawn, one, two):
    mask = np.zeros((60, 80), np.uint8)
    mask[drawn[0]], mask[drawn[1]] = one, two
    np.testing.assert_array_equal(written(tmp_path, mask), drawn[0] | drawn[1])


def test_colours_of_classes(tmp_path, drawn):
    """The first of VOC's: 128 0 0 and 64 0 0 as BGR."""
    mask = np.zeros((60, 80, 3), np.uint8)
    mask[drawn[0]], mask[drawn[1]] = (0, 0, 128), (0, 0, 64)
    np.testing.assert_array_equal(written(tmp_path, mask), drawn[0] | drawn[1])


@pytest.mark.parametrize("count", [3, 12, 40, 150])
def test_numbered_instances(tmp_path, count):
    mask = np.zeros((120, 160), np.uint8)
    for number in range(count):
        y, x = divmod(number, 16)
        mask[12 * y : 12 * y + 6, 10 * x : 10 * x + 5] = number + 1
    np.testing.assert_array_equal(written(tmp_path, mask), mask > 0)


def test_sixteen_bits(tmp_path, drawn):
    mask = np.zeros((60, 80), np.uint16)
    mask[drawn[0]], mask[drawn[1]] = 1000, 65535
    np.testing.assert_array_equal(written(tmp_path, mask), drawn[0] | drawn[1])


@pytest.mark.parametrize("colour", [0, 90, 255])
def test_transparent_ground(tmp_path, drawn, colour):
    mask = np.full((60, 80, 4), colour, np.uint8)
    mask[..., 3] = 255 * drawn[0]
    np.testing.assert_array_equal(written(tmp_path, mask), drawn[0])


def test_an_opaque_picture_with_alpha_is_judged_by_its_colour(tmp_path, drawn):
    mask = np.zeros((60, 80, 4), np.uint8)
    mask[drawn[0]], mask[..., 3] = 255, 255
    np.testing.assert_array_equal(written(tmp_path, mask), drawn[0])


def test_what_is_transparent_does_not_count(tmp_path, drawn):
    """A drawing program keeps colour under what was erased."""
    mask = np.zeros((60, 80, 4), np.uint8)
    mask[drawn[0]], mask[drawn[1]] = (0, 0, 255, 255), (0, 255, 0, 0)
    mask[30:35, 30:35] = (255, 255, 0, 255)
    expected = drawn[0].copy()
    expected[30:35, 30:35] = True
    np.testing.assert_array_equal(written(tmp_path, mask), expected)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_a_jpeg_keeps_classes_and_no_noise(tmp_path, drawn, quality):
    """Off by a pixel at edges at most."""
    blob = drawn[0].copy()
    blob[35:50, 50:70] = True
    mask = np.zeros((60, 80), np.uint8)
    mask[drawn[0]], mask[35:50, 50:70] = 255, 120
    found = written(tmp_path, mask, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)
    cross = np.ones((3, 3), np.uint8)
    assert not (cv2.erode(blob.astype(np.uint8), cross).astype(bool) & ~found).any()
    assert not (found & ~cv2.dilate(blob.astype(np.uint8), cross).astype(bool)).any()


def test_an_empty_jpeg_with_noise_is_empty(tmp_path):
    mask = np.random.default_rng(0).integers(0, 4, (64, 64)).astype(np.uint8)
    assert not written(tmp_path, mask, ".jpg").any()


def test_smoothed_masks_are_cut_at_half(tmp_path):
    """What has more values than kinds of defects, and no area of one value between."""
    large = np.zeros((240, 320), np.uint8)
    cv2.circle(large, (160, 120), 80, 255, -1)
    small = cv2.resize(large, (80, 60), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(written(tmp_path, small), small > 127.5)


def test_a_compressed_mask_saved_as_png_is_cut_at_half(tmp_path):
    """As the magnetic tiles' are: noise beside edges."""
    large = np.zeros((64, 96), np.uint8)
    cv2.circle(large, (48, 32), 17, 255, -1)
    noisy = cv2.imdecode(cv2.imencode(".jpg", large, (cv2.IMWRITE_JPEG_QUALITY, 80))[1], 0)
    assert len(np.unique(noisy)) > 20
    np.testing.assert_array_equal(written(tmp_path, noisy), large > 0)


def test_empty_masks_are_empty_and_sizes_are_held(tmp_path):
    assert not written(tmp_path, np.zeros((10, 12), np.uint8)).any()
    with pytest.raises(InputError, match="m.png: mask of 10x12 for an image of 10x13"):
        read_mask(tmp_path / "m.png", (10, 13))


@pytest.mark.parametrize("suffix, options", [
    (".webp", (cv2.IMWRITE_WEBP_QUALITY, 75)), (".webp", (cv2.IMWRITE_WEBP_QUALITY, 30)), (".jp2", ()),
    (".jpg", (cv2.IMWRITE_JPEG_QUALITY, 75)),
])
def test_lossy_formats_keep_the_defect_and_no_noise(tmp_path, drawn, suffix, options):
    mask = np.zeros((60, 80), np.uint8)
    mask[drawn[0]] = 255
    found = written(tmp_path, np.dstack([mask] * 3), suffix, *options)
    assert abs(int(found.sum()) - drawn[0].sum()) <= 60  # a pixel at the rim


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jp2"])
def test_noise_of_low_values_is_empty(tmp_path, suffix):
    mask = np.random.default_rng(0).integers(0, 4, (64, 64)).astype(np.uint8)
    assert not written(tmp_path, np.dstack([mask] * 3), suffix).any()
