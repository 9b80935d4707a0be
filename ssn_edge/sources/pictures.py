"""Bytes of picture files to frames, as one model reads them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames.decoding import Reading, decode
from ssn_edge.frames.image_files import content
from ssn_edge.sources.source import Frame, log

UNUSED_BITS, UNUSED_OF_FEWER, LOOKED_AT = 4, 2, 20
"""So many upper bits that not even the brightest pixel of the first pictures uses: more likely a camera of
fewer bits. Of a model that knows its camera's bits, two will do."""

CAMERA_BITS = (8, 10, 12, 14)


class Pictures:
    """One ``reading`` for all pictures of a source; what is said once is said once for all of them."""

    def __init__(self, reading: Reading):
        self._reading, self._looked, self._brightest, self._first = reading, 0, 0, ""

    def frame(self, data: bytes, name: str, path: str = "") -> Frame:
        """A picture's bytes as a frame, or with the problem; ``path`` is what its messages begin with."""
        try:
            picture = decode(data, path or name, self._reading)
            image = picture.bgr(path or name, self._reading)
        except InputError as error:
            return Frame(name, None, time.time(), str(error))
        if picture.stored.dtype == np.uint16 and self._looked < LOOKED_AT:
            self._look_at_range(picture.stored, path or name)
        return Frame(
            name, image, time.time(), doubt=picture.doubt, told=picture.told, kind=picture.kind,
            several=picture.several,
        )

    def read(self, path: Path, name: str) -> Frame:
        """A file as a frame."""
        try:
            data = content(path)
        except InputError as error:
            return Frame(name, None, time.time(), str(error))
        return self.frame(data, name, str(path))

    def _look_at_range(self, stored: np.ndarray, name: str) -> None:
        self._first = self._first or name
        self._looked += 1
        self._brightest = max(self._brightest, int(stored.max()))
        if self._looked == LOOKED_AT:
            self._say_range()

    def finish(self) -> None:
        """After the last picture: what there were too few of to say it before."""
        if 0 < self._looked < LOOKED_AT:
            self._looked = LOOKED_AT
            self._say_range()

    def _say_range(self) -> None:
        """A right-aligned picture of a 12-bit camera, read as 16 bits, has 16 grey levels left."""
        used, bits = self._brightest.bit_length(), self._reading.bits
        if not 0 < used <= bits - (UNUSED_BITS if bits == 16 else UNUSED_OF_FEWER):
            return
        camera = next(one for one in CAMERA_BITS if one >= used)
        log.warning(
            "%s: uses 0..%d of the %d that the model's %d bits have, as do those behind it; if the camera "
            "gives %d bits, train with --bits %d", self._first, self._brightest, 2**bits - 1, bits, camera,
            camera,
        )
