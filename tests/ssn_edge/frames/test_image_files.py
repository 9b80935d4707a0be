"""Reading files: every kind, and every kind of damage."""

import cv2
import numpy as np
import pytest

from ssn_edge.errors import InputError
from ssn_edge.frames import formats, image_files

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


def test_one_list_of_suffixes_by_what_opencv_decodes(tmp_path):
    large = cv2.resize(PHOTO, (96, 64))
    for suffix in formats.image_suffixes():
        writer = next(w for w, all_of in formats._WRITERS.items() if suffix in all_of)
        _, data = cv2.imencode(writer, large[..., 0] if writer == ".pgm" else large)
        (tmp_path / f"photo{suffix.upper()}").write_bytes(data.tobytes())
    found = image_files.list_images(tmp_path)
    assert len(found) == len(formats.image_suffixes()) >= 14
    for path in found:
        assert image_files.read_image(path).shape == large.shape, path
    assert not formats.image_suffixes() & formats.VIDEO_SUFFIXES
