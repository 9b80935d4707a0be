"""Frames in memory that is someone else's: a format's name, a size and a stride, as BGR or grey arrays.

Formats are what cameras' drivers give: ``BGR``, ``GRAY8``, ``NV12`` (a plane of brightness, then one of
colour at half the height) and ``YUYV``. YUV is taken as BT.601 with limited range, as OpenCV does.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple, Union

import cv2
import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames.pixels import Scratch

Memory = Union[bytes, bytearray, memoryview, np.ndarray]


class Format(NamedTuple):
    """``number`` in the C interface and in shared memory; bytes of a pixel in a row; OpenCV's code to BGR."""

    number: int
    pixel: int
    code: Optional[int]


FORMATS: Dict[str, Format] = {
    "BGR": Format(0, 3, None),
    "GRAY8": Format(1, 1, None),
    "NV12": Format(2, 1, cv2.COLOR_YUV2BGR_NV12),
    "YUYV": Format(3, 2, cv2.COLOR_YUV2BGR_YUY2),
}


class MemoryLayout(NamedTuple):
    """How a frame lies in memory: ``stride`` bytes from one row to the next, 0 where rows touch."""

    name: str
    height: int
    width: int
    stride: int = 0

    @property
    def row(self) -> int:
        """Bytes from one row to the next."""
        return self.stride or self.width * FORMATS[self.name].pixel

    @property
    def rows(self) -> int:
        """Rows in memory: half as many again for NV12, whose colours follow."""
        return self.height * 3 // 2 if self.name == "NV12" else self.height

    @property
    def size(self) -> int:
        """Bytes of a frame; the last row may end with its pixels."""
        return self.row * (self.rows - 1) + self.width * FORMATS[self.name].pixel


MAX_SIDE = 1 << 15


def checked(name: str, height: int, width: int, stride: int = 0) -> MemoryLayout:
    """A layout that can be one; InputError says what cannot."""
    if name not in FORMATS:
        raise InputError(f"pixel format {name!r}; give one of {', '.join(FORMATS)}")
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise InputError(f"frame of {height}x{width} pixels; give 1 to {MAX_SIDE} each")
    if name == "YUYV" and width % 2 or name == "NV12" and (width % 2 or height % 2):
        raise InputError(f"{name} of {height}x{width}: its colours are shared by two pixels; give even sizes")
    layout = MemoryLayout(name, height, width, stride)
    if stride and stride < width * FORMATS[name].pixel or stride > 1 << 20:
        raise InputError(f"stride of {stride} bytes for {width} pixels of {name}; give 0, or the camera's")
    return layout


def view(memory: Memory, layout: MemoryLayout) -> np.ndarray:
    """The frame as an array over ``memory``, without a copy: [H, W, 3], [H, W], [H * 3/2, W] or [H, W, 2]."""
    flat = np.frombuffer(memory, np.uint8)
    if len(flat) < layout.size:
        size = f"{layout.height}x{layout.width}"
        raise InputError(f"{layout.name} of {size}: {len(flat)} of {layout.size} bytes")
    pixel = FORMATS[layout.name].pixel
    shape: Tuple[int, ...] = (layout.rows, layout.width)
    strides: Tuple[int, ...] = (layout.row, pixel)
    if pixel > 1:
        shape, strides = (*shape, pixel), (*strides, 1)
    return np.lib.stride_tricks.as_strided(flat, shape, strides, writeable=False)


def to_bgr(array: np.ndarray, layout: MemoryLayout, scratch: Optional[Scratch] = None) -> np.ndarray:
    """What :func:`view` gave as BGR or grey uint8, as the detector takes it; colours lie in ``scratch``."""
    code = FORMATS[layout.name].code
    if code is None:
        return array
    out = (scratch or Scratch()).get(layout.name, (layout.height, layout.width, 3))
    return cv2.cvtColor(np.asarray(array), code, dst=out)
