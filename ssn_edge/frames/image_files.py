"""Image files: one reader for every stage, so that a file gives the same pixels everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import List

import cv2
import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.files import PathLike, replacing
from ssn_edge.frames.decoding import Picture, Reading, decode
from ssn_edge.frames.formats import image_suffixes


def list_images(folder: PathLike) -> List[Path]:
    """Image files directly inside ``folder``, sorted by name, hidden ones left out."""
    return sorted(
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in image_suffixes() and not path.name.startswith(".")
    )


def content(path: PathLike) -> bytes:
    """A file's bytes; InputError where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def read_picture(path: PathLike, reading: Reading = Reading()) -> Picture:  # noqa: B008 (frozen)
    """A file decoded, with what is known of its wholeness; InputError as :func:`read_image`."""
    return decode(content(path), str(path), reading)


def read_image(path: PathLike, reading: Reading = Reading()) -> np.ndarray:  # noqa: B008 (frozen)
    """An image file as BGR uint8 [H, W, 3]; grey, RGBA and 16-bit files are converted.

    Raises InputError where the file is missing, not an image, or not whole as far as its format tells
    (:mod:`.decoding`). ``reading``: the model's, where there is one (``ModelInfo.reading``).
    """
    return read_picture(path, reading).bgr(str(path), reading)


def write_image(path: PathLike, image: np.ndarray) -> None:
    """Write BGR or grey uint8 in the format of the suffix, whole or not at all."""
    with replacing(path) as temporary:
        done, data = cv2.imencode(Path(path).suffix, image)
        if not done:
            raise InputError(f"{path}: could not be encoded; use .png or .jpg")
        temporary.write_bytes(data.tobytes())
