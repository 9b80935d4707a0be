"""From a camera's frame to the pictures that the model sees, and back.

A frame's part (``View.roi``) is turned, then mirrored: the *canvas*. The model sees the canvas whole,
stretched or letterboxed as it was trained, or in overlapping tiles. A :class:`Placement` says for one
size of frames which pixels go where; boxes and maps go back by the same integers, outwards rounded.

Rectangles are (x0, y0, x1, y1) with x1 and y1 outside, as slices are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames.pixels import Scratch, convert, resize, resize_map, resize_mask

Rect = Tuple[int, int, int, int]

MAX_TILES = 1024
"""Of a frame: each is a call of the network."""

LETTERBOX_GREY = 114
"""Border of a letterboxed image: near the mean of the pictures that backbones were trained on."""

FLIPS: Dict[str, Tuple[int, ...]] = {"": (), "horizontal": (1,), "vertical": (0,)}
"""The axes that each reverses."""


class Tile(NamedTuple):
    """A part of the canvas that the model sees at once: its rectangle in the canvas, in the frame, and in
    the model's image, which is all of that unless letterboxed."""

    canvas: Rect
    frame: Rect
    image: Rect


@dataclass(frozen=True)
class View:
    """What is done with every frame before the model sees it.

    ``roi`` (x, y, width, height) in the frame's pixels, None for all of it; ``rotate`` 0, 90, 180 or
    270 degrees clockwise, then ``flip``; ``tile`` (height, width) in pixels of the result cuts it into
    tiles that overlap by at least ``overlap`` pixels. InputError where that makes no sense.

    >>> View(roi=(100, 0, 512, 256), rotate=90, tile=(256, 256), overlap=32).rotate
    90
    """

    roi: Optional[Tuple[int, int, int, int]] = None
    rotate: int = 0
    flip: str = ""
    tile: Optional[Tuple[int, int]] = None
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.roi is not None and (min(self.roi[:2]) < 0 or min(self.roi[2:]) < 1):
            raise InputError(f"region of interest {self.roi}: give x,y,width,height in pixels")
        if self.rotate not in (0, 90, 180, 270):
            raise InputError(f"rotation of {self.rotate} degrees; give 0, 90, 180 or 270")
        if self.flip not in FLIPS:
            raise InputError(f"flip {self.flip!r}; give horizontal or vertical")
        if self.tile is not None and min(self.tile) < 1:
            raise InputError(f"tiles of {self.tile}: give height and width in pixels")
        if self.overlap < 0 or self.tile is not None and self.overlap >= min(self.tile):
            raise InputError(f"tiles of {self.tile} with an overlap of {self.overlap}: it must be smaller")


@dataclass(frozen=True)
class Placement:
    """Where the pixels of frames of ``frame_hw`` go, for a model of ``size_hw``.

    ``geometry`` is "stretch" or "letterbox", ``bits`` those in use of uint16 frames. The anomaly map has
    ``map_hw``: the model's size, or with tiles the canvas's.

    >>> placement = Placement(frame_hw=(480, 640), size_hw=(256, 256), geometry="letterbox")
    >>> placement.map_content                 # x0, y0, x1, y1 of the frame in the map
    (0, 32, 256, 224)
    >>> placement.box(128, 32, 129, 33)       # what one pixel of the map covers of the frame
    (320, 0, 323, 3)
    """

    frame_hw: Tuple[int, int]
    size_hw: Tuple[int, int]
    view: View = View()
    geometry: str = "stretch"
    bits: int = 16

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.part
        if x1 > self.frame_hw[1] or y1 > self.frame_hw[0]:
            height, width = self.frame_hw
            raise InputError(
                f"region of interest {self.view.roi} leaves the frame of {width}x{height} (width x height); "
                "give a smaller one"
            )

    @cached_property
    def part(self) -> Rect:
        """The region of interest."""
        if self.view.roi is None:
            return 0, 0, self.frame_hw[1], self.frame_hw[0]
        x, y, width, height = self.view.roi
        return x, y, x + width, y + height

    @cached_property
    def canvas_hw(self) -> Tuple[int, int]:
        """Height and width of the region of interest, turned."""
        x0, y0, x1, y1 = self.part
        hw = y1 - y0, x1 - x0
        return hw if self.view.rotate in (0, 180) else hw[::-1]

    @cached_property
    def map_hw(self) -> Tuple[int, int]:
        """Height and width of the anomaly map."""
        return self.canvas_hw if self.view.tile else self.size_hw

    @cached_property
    def tiles(self) -> Tuple[Tile, ...]:
        """The canvas's parts that the model sees one after the other, evenly spread."""
        height, width = self.canvas_hw
        if not self.view.tile:
            return (self._tile((0, 0, width, height)),)
        tall, wide = (min(pair) for pair in zip(self.view.tile, self.canvas_hw))
        rows, columns = starts(height, tall, self.view.overlap), starts(width, wide, self.view.overlap)
        count = len(rows) * len(columns)
        if count > MAX_TILES:
            raise InputError(
                f"{count} tiles of {tall}x{wide} in {height}x{width}, more than {MAX_TILES}: give larger "
                "ones, or a smaller overlap"
            )
        return tuple(self._tile((x, y, x + wide, y + tall)) for y in rows for x in columns)

    def _tile(self, canvas: Rect) -> Tile:
        x0, y0, x1, y1 = canvas
        image = _letterbox((y1 - y0, x1 - x0), self.size_hw, self.geometry)
        return Tile(canvas, self._to_frame(canvas), image)

    def load(self, frame: np.ndarray, tile: Tile, out: np.ndarray, scratch: Scratch) -> None:
        """One tile of a checked frame into the model's image ``out``, uint8 BGR [H, W, 3] of ``size_hw``."""
        x0, y0, x1, y1 = tile.frame
        bgr = convert(frame[y0:y1, x0:x1], scratch, self.bits)
        left, top, right, bottom = tile.image
        if tile.image != (0, 0, self.size_hw[1], self.size_hw[0]):
            out[:] = LETTERBOX_GREY
            out = out[top:bottom, left:right]
        if not (self.view.rotate or self.view.flip):
            resize(bgr, out.shape[:2], out=out)
            return
        unturned = out.shape[:2] if self.view.rotate in (0, 180) else out.shape[1::-1]
        small = resize(bgr, unturned, out=scratch.get("unturned", (*unturned, 3)))
        np.copyto(out, np.flip(np.rot90(small, -(self.view.rotate // 90)), FLIPS[self.view.flip]))

    def box(self, x0: int, y0: int, x1: int, y1: int) -> Optional[Rect]:
        """The frame's pixels that a box of the map touches; None if it lies in the letterbox's border."""
        left, top, right, bottom = self.map_content
        height, width = self.canvas_hw
        x0, x1 = max(x0, left) - left, min(x1, right) - left
        y0, y1 = max(y0, top) - top, min(y1, bottom) - top
        if x0 >= x1 or y0 >= y1:
            return None
        wide, tall = right - left, bottom - top
        return self._to_frame((
            x0 * width // wide, y0 * height // tall, -(-x1 * width // wide), -(-y1 * height // tall),
        ))

    def to_frame(self, array: np.ndarray, outside: float = 0) -> np.ndarray:
        """A map or mask [map_hw] as one of the frame's size, ``outside`` where the model did not look.

        uint8 goes by nearest neighbour, float32 bilinear; at equal scale the values are the map's own.
        """
        left, top, right, bottom = self.map_content
        array = resize_map(array[top:bottom, left:right], self.canvas_hw)
        frame = np.full(self.frame_hw, outside, array.dtype)
        x0, y0, x1, y1 = self.part
        unflipped = np.flip(array, FLIPS[self.view.flip])
        frame[y0:y1, x0:x1] = np.rot90(unflipped, self.view.rotate // 90)
        return frame

    def stitch(self, tile_map: np.ndarray, tile: Tile, map_out: np.ndarray, scratch: Scratch) -> None:
        """A tile's map [H, W] into the canvas's; where tiles overlap the higher value stays."""
        left, top, right, bottom = tile.image
        x0, y0, x1, y1 = tile.canvas
        size = y1 - y0, x1 - x0
        part = resize_map(tile_map[top:bottom, left:right], size, scratch.get("tile", size, np.float32))
        target = map_out[y0:y1, x0:x1]
        np.maximum(target, part, out=target)

    @cached_property
    def map_content(self) -> Rect:
        """Where in the map the canvas is: all of it, but for a letterbox's border."""
        height, width = self.map_hw
        return (0, 0, width, height) if self.view.tile else self.tiles[0].image

    @cached_property
    def pixel_area(self) -> float:
        """Pixels of the frame that one of the map covers."""
        left, top, right, bottom = self.map_content
        return self.canvas_hw[0] * self.canvas_hw[1] / ((bottom - top) * (right - left))

    def _to_frame(self, rect: Rect) -> Rect:
        """A rectangle of the canvas in the frame."""
        x0, y0, x1, y1 = rect
        height, width = self.canvas_hw
        if self.view.flip == "horizontal":
            x0, x1 = width - x1, width - x0
        elif self.view.flip == "vertical":
            y0, y1 = height - y1, height - y0
        for _ in range(self.view.rotate // 90):  # a quarter turn back at a time
            x0, y0, x1, y1 = y0, width - x1, y1, width - x0
            height, width = width, height
        left, top = self.part[:2]
        return left + x0, top + y0, left + x1, top + y1


def _letterbox(image_hw: Tuple[int, int], size_hw: Tuple[int, int], geometry: str) -> Rect:
    """Where an image goes in (height, width): everywhere, or for "letterbox" centred with its
    proportions kept."""
    if geometry != "letterbox":
        return 0, 0, size_hw[1], size_hw[0]
    (height, width), (tall, wide) = image_hw, size_hw
    scale = min(tall / height, wide / width)
    h, w = (max(1, min(limit, round(n * scale))) for n, limit in ((height, tall), (width, wide)))
    top, left = (tall - h) // 2, (wide - w) // 2
    return left, top, left + w, top + h


def fit_image(bgr: np.ndarray, size_hw: Tuple[int, int], geometry: str = "stretch") -> np.ndarray:
    """A photo as the model is trained on it, uint8 BGR [H, W, 3]: where the runtime puts it, too."""
    placement = Placement((bgr.shape[0], bgr.shape[1]), size_hw, geometry=geometry)
    image = np.empty((*size_hw, 3), np.uint8)
    placement.load(bgr, placement.tiles[0], image, Scratch())
    return image


def fit_mask(mask: np.ndarray, size_hw: Tuple[int, int], geometry: str = "stretch") -> np.ndarray:
    """A bool mask [H, W] where :func:`fit_image` puts its image; the border has no defects."""
    placement = Placement((mask.shape[0], mask.shape[1]), size_hw, geometry=geometry)
    left, top, right, bottom = placement.map_content
    fitted = np.zeros(size_hw, bool)
    fitted[top:bottom, left:right] = resize_mask(mask, (bottom - top, right - left))
    return fitted


def starts(length: int, tile: int, overlap: int) -> Tuple[int, ...]:
    """Where tiles begin that cover ``length`` and overlap by at least ``overlap``."""
    count = 1 + max(0, -(-(length - tile) // (tile - min(overlap, tile - 1))))
    return tuple(round(i * (length - tile) / max(count - 1, 1)) for i in range(count))
