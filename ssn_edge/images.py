"""Images and frames as the model takes them: one reader and one resize for every stage.

Training, evaluation, export and the runtime call the same functions, so that a file gives the
same pixels, and so the same score, everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Tuple

import cv2
import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.files import PathLike, replacing

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}

LETTERBOX_GREY = 114
"""Border of a letterboxed image: near the mean of the pictures that backbones were trained on."""

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


class Scratch:
    """Arrays made once and used again while their shape stays, so that no frame allocates one."""

    def __init__(self) -> None:
        self._arrays: Dict[str, np.ndarray] = {}

    def get(self, name: str, shape: Tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
        """An array of ``shape`` with what its last user left in it."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape:
            array = self._arrays[name] = np.empty(shape, dtype)
        return array


def check_frame(frame: np.ndarray, name: str = "frame") -> None:
    """InputError unless :func:`to_bgr8` takes it."""
    if not isinstance(frame, np.ndarray) or frame.dtype not in (np.uint8, np.uint16):
        found = getattr(frame, "dtype", type(frame).__name__)
        raise InputError(f"{name}: pixels of type {found}; give uint8 (0..255) or uint16")
    channels = frame.shape[2] if frame.ndim == 3 else 1
    if frame.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in frame.shape:
        raise InputError(
            f"{name}: array of shape {frame.shape}; give [height, width] grey, "
            "[height, width, 3] BGR or [height, width, 4] BGRA"
        )


def to_bgr8(frame: np.ndarray, name: str = "frame", scratch: Optional[Scratch] = None) -> np.ndarray:
    """Grey, BGR or BGRA of uint8 or uint16 as BGR uint8 [H, W, 3], without a copy if it is.

    16 bits keep their upper 8: a fixed scale, so that brightness means the same in every frame.
    The result lies in ``scratch`` where given. Raises InputError for another dtype or shape.
    """
    check_frame(frame, name)
    scratch = scratch or Scratch()
    if frame.dtype == np.uint16:
        frame = np.right_shift(frame, 8, out=scratch.get("eight", frame.shape), casting="unsafe")
    if frame.ndim == 3 and frame.shape[2] == 3:
        return frame
    grey = frame.ndim == 2 or frame.shape[2] == 1
    code = cv2.COLOR_GRAY2BGR if grey else cv2.COLOR_BGRA2BGR
    return cv2.cvtColor(frame, code, dst=scratch.get("bgr", (*frame.shape[:2], 3)))


def resize(
    bgr: np.ndarray, size_hw: Tuple[int, int], out: Optional[np.ndarray] = None
) -> np.ndarray:
    """Stretch uint8 BGR to the model's (height, width): bilinear, on the 8-bit pixels.

    The published code's resize (OpenCV's INTER_LINEAR, no antialiasing). ``out`` receives the
    result where given. An image of that size already comes back as it is.
    """
    height, width = size_hw
    if bgr.shape[:2] == (height, width):
        if out is None:
            return bgr
        np.copyto(out, bgr)
        return out
    return cv2.resize(bgr, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)


def content_rect(
    image_hw: Tuple[int, int], size_hw: Tuple[int, int], geometry: str
) -> Tuple[int, int, int, int]:
    """Where an image goes in (height, width), x0, y0, x1, y1: everywhere, or for "letterbox" centred with
    its proportions kept."""
    if geometry != "letterbox":
        return 0, 0, size_hw[1], size_hw[0]
    (height, width), (tall, wide) = image_hw, size_hw
    scale = min(tall / height, wide / width)
    h, w = (max(1, min(limit, round(n * scale))) for n, limit in ((height, tall), (width, wide)))
    top, left = (tall - h) // 2, (wide - w) // 2
    return left, top, left + w, top + h


def fit_image(bgr: np.ndarray, size_hw: Tuple[int, int], geometry: str = "stretch") -> np.ndarray:
    """An image as the model was trained on: stretched, or letterboxed."""
    left, top, right, bottom = content_rect(bgr.shape[:2], size_hw, geometry)
    if (bottom - top, right - left) == tuple(size_hw):
        return resize(bgr, size_hw)
    image = np.full((*size_hw, 3), LETTERBOX_GREY, np.uint8)
    resize(bgr, (bottom - top, right - left), out=image[top:bottom, left:right])
    return image


def fit_mask(mask: np.ndarray, size_hw: Tuple[int, int], geometry: str = "stretch") -> np.ndarray:
    """A bool mask where :func:`fit_image` puts its image; the border has no defects."""
    left, top, right, bottom = content_rect(mask.shape[:2], size_hw, geometry)
    fitted = np.zeros(size_hw, bool)
    fitted[top:bottom, left:right] = resize_mask(mask, (bottom - top, right - left))
    return fitted


def resize_mask(mask: np.ndarray, size_hw: Tuple[int, int]) -> np.ndarray:
    """A bool mask at (height, width), nearest neighbour, for evaluation at the map's size."""
    height, width = size_hw
    resized = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return resized.astype(bool)
