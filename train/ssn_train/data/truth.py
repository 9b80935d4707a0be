"""Where a photo's defects are: a mask file, a folder of several, or the shapes that a labelling tool
wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple, Union

import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames import masks
from ssn_edge.frames.decoding import Reading
from ssn_edge.frames.image_files import list_images, read_picture
from ssn_train.data.label_files import Shapes

Mask = Union[Path, Shapes]


def mask_files(mask: Mask) -> Tuple[Path, ...]:
    """The files that it is read from."""
    if isinstance(mask, Shapes):
        return (mask.source,)
    return tuple(list_images(mask)) if mask.is_dir() else (mask,)


def read_truth(
    mask: Mask, image_hw: Optional[Tuple[int, int]] = None, reading: Reading = Reading()  # noqa: B008 (frozen)
) -> np.ndarray:
    """Pixels of the defects as bool [H, W]: of several masks, as MVTec LOCO has them, all together.

    InputError for files that cannot be read, and for another size than ``image_hw``.
    """
    if isinstance(mask, Shapes):
        return masks.sized(mask.draw(), image_hw, str(mask.source))
    parts = [masks.read_mask(path, image_hw, reading) for path in mask_files(mask)]
    if not parts:
        raise InputError(f"{mask}: holds no mask; put them back")
    return np.logical_or.reduce(parts)


def orientation_of(mask: Mask, reading: Reading) -> int:
    """The mask files' orientation tag; of shapes 1, since tools draw on upright photos. InputError where
    several masks of one photo disagree."""
    if isinstance(mask, Shapes):
        return 1
    tags = {read_picture(path, reading).tag for path in mask_files(mask)}
    if len(tags) > 1:
        raise InputError(f"{mask}: its masks have different orientation tags; write them again")
    return tags.pop() if tags else 1
