"""Defect masks as tools write them: two values, classes, instances, alpha, smoothed or compressed."""

from __future__ import annotations

from typing import Optional, Tuple

import cv2
import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.files import PathLike
from ssn_edge.frames.decoding import Picture, Reading
from ssn_edge.frames.image_files import read_picture

CLASS_NUMBERS = 32
"""Masks with smaller values throughout hold numbers of classes, not brightness."""

FEW = 8
"""So many values besides 0 are kinds of defects; smoothed edges have more."""

NOISE = 0.1
"""Of the brightest: darker values may be what a compression left beside an edge."""

FLAT_SHARE = 0.5
"""Of the pixels between black and white: where so many lie in squares of one value, these are areas with
numbers; edges and a compression's noise have none."""

LOSSY_NOISE, LOSSY_LEVEL = 32, 64
"""Of 8 bits in a lossy format: what is darker throughout is an empty mask; what is brighter counts."""

NOISE_COVER = 0.3
"""Of a mask's pixels: so many of the lowest values, scattered, are an empty mask's noise."""


def read_mask(
    path: PathLike, image_hw: Optional[Tuple[int, int]] = None, reading: Reading = Reading()  # noqa: B008
) -> np.ndarray:
    """A defect mask as bool [H, W]; :func:`marked` says which pixels count.

    Raises InputError for what is no whole image, and for another height and width than ``image_hw``, where
    given.
    """
    return sized(marked(read_picture(path, reading)), image_hw, str(path))


def sized(mask: np.ndarray, image_hw: Optional[Tuple[int, int]], name: str) -> np.ndarray:
    """``mask``, or InputError where it has not its image's size."""
    if image_hw is not None and mask.shape != tuple(image_hw):
        raise InputError(
            f"{name}: mask of {mask.shape[0]}x{mask.shape[1]} for an image of "
            f"{image_hw[0]}x{image_hw[1]}; masks must have their image's size"
        )
    return mask


def marked(picture: Picture) -> np.ndarray:
    """Pixels of a defect, bool [H, W].

    Of grey values or colours all but 0 count where they are kinds or numbers of defects: few of them, or
    small ones, or areas of one value. Else they are brightness, smoothed or compressed, and count above half
    of the brightest; in JPEG and its like, whose noise is known, above a quarter of white. Where colour is
    the same everywhere, what is not transparent counts.
    """
    levels = _levels(picture.stored)
    highest = int(levels.max())
    if picture.lossy:
        level = LOSSY_LEVEL if highest >= 2 * LOSSY_LEVEL else max(highest / 2, LOSSY_NOISE)
    elif highest < CLASS_NUMBERS:
        level = highest if _is_noise(levels) else 0
    else:
        level = 0 if _numbers(levels, highest) else highest / 2
    return np.asarray(levels > level)


def _levels(image: np.ndarray) -> np.ndarray:
    """The brightest channel, or what is opaque where colour says nothing."""
    if image.ndim == 2:
        return image
    brightest: np.ndarray = image[..., :3].max(axis=2)
    if image.shape[2] < 4:
        return brightest
    alpha = image[..., 3]
    seen = image[..., :3][alpha > 0]
    if alpha.min() == alpha.max() or not len(seen):
        return brightest
    if (seen == seen[0]).all():  # one colour on a transparent ground: it may be black
        return alpha
    return np.where(alpha > 0, brightest, 0)


def _numbers(levels: np.ndarray, highest: int) -> bool:
    values = np.unique(levels[levels > 0])
    if len(values) <= FEW and values[0] >= NOISE * highest:
        return True
    between = (levels > 0) & (levels < 0.9 * highest)
    return bool(between.any()) and (_flat(levels) & between).sum() >= FLAT_SHARE * between.sum()


def _flat(levels: np.ndarray) -> np.ndarray:
    """Pixels in a square of four of one value."""
    alike = np.ones((2, 2), np.uint8)
    corners = cv2.erode(levels, alike) == cv2.dilate(levels, alike)
    return np.asarray(cv2.dilate(corners.astype(np.uint8), alike, anchor=(0, 0)).astype(bool))


def _is_noise(levels: np.ndarray) -> bool:
    """Several low values scattered over a large part of the picture."""
    marked = levels > 0
    several = len(np.unique(levels[marked])) > 1
    return several and marked.mean() > NOISE_COVER and _flat(levels)[marked].mean() < FLAT_SHARE
