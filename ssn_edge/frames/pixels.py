"""Pixels as the model takes them: any frame as BGR of 8 bits, and one resize for every stage.

Training, evaluation, export and the runtime call the same functions, so that a photo gives the same
pixels, and so the same score, everywhere.
"""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import cv2
import numpy as np

from ssn_edge.errors import InputError


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


def to_bgr8(
    frame: np.ndarray, name: str = "frame", scratch: Optional[Scratch] = None, bits: int = 16
) -> np.ndarray:
    """Grey, BGR or BGRA of uint8 or uint16 as BGR uint8 [H, W, 3], without a copy if it is.

    ``bits``: those in use of uint16 pixels, from the lowest on. The result lies in ``scratch`` where given.
    Raises InputError for another dtype or shape, and for values beyond ``bits``.
    """
    check_frame(frame, name)
    return convert(frame, scratch or Scratch(), bits, name)


def convert(frame: np.ndarray, scratch: Scratch, bits: int = 16, name: str = "frame") -> np.ndarray:
    """:func:`to_bgr8` of what :func:`check_frame` has let pass.

    Of ``bits`` the upper 8 are kept: a fixed scale, so that brightness means the same in every frame.
    """
    if frame.dtype == np.uint16:
        if bits < 16 and frame.max() >> bits:
            raise InputError(
                f"{name}: grey value {frame.max()} needs {used_bits(frame)} bits, the model was trained on "
                f"{bits} of 16; set the camera as it was, or train again"
            )
        frame = np.right_shift(frame, bits - 8, out=scratch.get("eight", frame.shape), casting="unsafe")
    if frame.ndim == 3 and frame.shape[2] == 3:
        return frame
    grey = frame.ndim == 2 or frame.shape[2] == 1
    code = cv2.COLOR_GRAY2BGR if grey else cv2.COLOR_BGRA2BGR
    return cv2.cvtColor(frame, code, dst=scratch.get("bgr", (*frame.shape[:2], 3)))


def used_bits(frame: np.ndarray) -> int:
    """Bits that the brightest pixel of an unsigned frame needs.

    >>> used_bits(np.array([[0, 1536]], np.uint16))
    11
    """
    return int(frame.max()).bit_length()


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


def resize_map(
    array: np.ndarray, size_hw: Tuple[int, int], out: Optional[np.ndarray] = None
) -> np.ndarray:
    """A map float32 [H, W] (bilinear) or a mask uint8 [H, W] (nearest neighbour) at another size.

    Both sample at pixel centres, so that mask and map stay on top of each other. ``out`` receives the
    result where given; an array of that size already comes back as it is.
    """
    if array.shape == size_hw:
        return array
    how = cv2.INTER_NEAREST_EXACT if array.dtype == np.uint8 else cv2.INTER_LINEAR
    return cv2.resize(array, size_hw[::-1], dst=out, interpolation=how)


def resize_mask(mask: np.ndarray, size_hw: Tuple[int, int]) -> np.ndarray:
    """A bool mask [H, W] at another size, by :func:`resize_map`'s nearest neighbour."""
    return resize_map(mask.astype(np.uint8), size_hw).astype(bool)
