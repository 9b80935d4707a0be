"""Where a photo's defects are: in mask files, or in the shapes that labelling tools wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple, Union

import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames import masks
from ssn_edge.frames.decoding import Reading
from ssn_edge.frames.image_files import content
from ssn_edge.frames.structure import inspect
from ssn_train.data.label_files import Shapes

Mask = Union[Path, Tuple[Union[Path, Shapes], ...]]
"""A mask file, or several parts that are taken together: files, or what labelling tools wrote."""


def parts_of(mask: Mask) -> Tuple[Union[Path, Shapes], ...]:
    """All of them, one or several."""
    return mask if isinstance(mask, tuple) else (mask,)


def mask_files(mask: Mask) -> Tuple[Path, ...]:
    """The files that it is read from."""
    return tuple(part.source if isinstance(part, Shapes) else part for part in parts_of(mask))


def name_of(mask: Mask) -> str:
    """For messages."""
    return ", ".join(map(str, mask_files(mask)))


def read_truth(
    mask: Mask, image_hw: Optional[Tuple[int, int]] = None, reading: Reading = Reading()  # noqa: B008 (frozen)
) -> np.ndarray:
    """Pixels of the defects as bool [H, W], of all parts together.

    InputError for files that cannot be read, and for another size than ``image_hw``.
    """
    found = [
        masks.sized(part.draw(), image_hw, str(part.source)) if isinstance(part, Shapes)
        else masks.read_mask(part, image_hw, reading)
        for part in parts_of(mask)
    ]
    if len({one.shape for one in found}) > 1:
        raise InputError(f"{name_of(mask)}: masks of one photo have different sizes; write them again")
    return np.logical_or.reduce(found)


def orientation_of(mask: Mask) -> int:
    """The mask files' orientation tag; of shapes 1, since tools draw on upright photos. InputError where
    several masks of one photo disagree."""
    tags = {1 if isinstance(part, Shapes) else inspect(content(part)).tag for part in parts_of(mask)}
    if len(tags) > 1:
        raise InputError(f"{name_of(mask)}: different orientation tags for one photo; write them again")
    return tags.pop()
