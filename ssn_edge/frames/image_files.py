"""Image files: one reader for every stage, so that a file gives the same pixels everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Tuple

import cv2
import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.files import PathLike, replacing
from ssn_edge.frames.pixels import to_bgr8

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}

CLASS_NUMBERS = 32
"""Masks with smaller values throughout hold numbers of classes, not brightness."""


def list_images(folder: PathLike) -> List[Path]:
    """Image files directly inside ``folder``, sorted by name, hidden ones left out."""
    return sorted(
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def read_image(path: PathLike) -> np.ndarray:
    """An image file as BGR uint8 [H, W, 3]; grey, RGBA and 16-bit files are converted.

    Raises InputError where the file is missing, not an image, or cut off (OpenCV itself fills
    the rest of a truncated JPEG with grey and says nothing). Orientation tags are ignored, as a
    camera has none.
    """
    return to_bgr8(_decode(path), str(path))


def read_mask(path: PathLike, image_hw: Optional[Tuple[int, int]] = None) -> np.ndarray:
    """A defect mask as bool [H, W]: pixels above half of the mask's own maximum.

    That takes masks of 0/1, of 0/255 and smoothed or JPEG-compressed ones alike (the magnetic
    tiles' are). Where no pixel reaches CLASS_NUMBERS the values number kinds of defects (VisA's
    do), and all but 0 count. Raises InputError for another height and width than ``image_hw``, where given.
    """
    mask = _decode(path)
    if mask.ndim == 3:
        mask = mask[..., :3].max(axis=2)
    if image_hw is not None and mask.shape != tuple(image_hw):
        raise InputError(
            f"{path}: mask of {mask.shape[0]}x{mask.shape[1]} for an image of "
            f"{image_hw[0]}x{image_hw[1]}; masks must have their image's size"
        )
    return mask > (mask.max() / 2 if mask.max() >= CLASS_NUMBERS else 0)


def _decode(path: PathLike) -> np.ndarray:
    try:
        data = np.fromfile(str(path), dtype=np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:  # among others, more pixels than OpenCV takes
        image = None
    if image is None or _is_truncated(data.tobytes()):
        raise InputError(
            f"{path}: not a complete image ({data.size} bytes); save or copy it again"
        )
    return image


def _is_truncated(data: bytes) -> bool:
    """True for a JPEG or PNG whose end marker is missing.

    Inside a JPEG's scan the end marker cannot occur (0xFF is stuffed), so it is looked for
    behind the last start of scan; cameras append data of their own after it.
    """
    if data[:2] == b"\xff\xd8":
        return data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) < 0
    return data[:4] == b"\x89PNG" and b"IEND" not in data


def write_image(path: PathLike, image: np.ndarray) -> None:
    """Write BGR or grey uint8 in the format of the suffix, whole or not at all."""
    with replacing(path) as temporary:
        done, data = cv2.imencode(Path(path).suffix, image)
        if not done:
            raise InputError(f"{path}: could not be encoded; use .png or .jpg")
        temporary.write_bytes(data.tobytes())
