"""Bytes of picture files to frames, as one model reads them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames.decoding import Reading, decode
from ssn_edge.frames.pixels import used_bits
from ssn_edge.sources.source import Frame, log

UNUSED_BITS = 4
"""So many upper bits that not even the brightest pixel uses: more likely a camera of fewer bits."""

CAMERA_BITS = (8, 10, 12, 14)


class Pictures:
    """One ``reading`` for all pictures of a source; what is said once is said once for all of them."""

    def __init__(self, reading: Reading):
        self._reading, self._warned = reading, False

    def frame(self, data: bytes, name: str, path: str = "") -> Frame:
        """A picture's bytes as a frame, or with the problem; ``path`` is what its messages begin with."""
        try:
            picture = decode(data, path or name, self._reading)
            image = picture.bgr(path or name, self._reading)
        except InputError as error:
            return Frame(name, None, time.time(), str(error))
        self._look_at_range(picture.stored, path or name)
        return Frame(
            name, image, time.time(), doubt=picture.doubt, told=picture.told, kind=picture.kind,
            several=picture.several,
        )

    def read(self, path: Path, name: str) -> Frame:
        """A file as a frame."""
        try:
            data = path.read_bytes()
        except OSError as error:
            problem = f"{path}: cannot be read ({error.strerror}); check the path"
            return Frame(name, None, time.time(), problem)
        return self.frame(data, name, str(path))

    def _look_at_range(self, stored: np.ndarray, name: str) -> None:
        """A right-aligned picture of a 12-bit camera, read as 16 bits, has 16 grey levels left."""
        if stored.dtype != np.uint16 or self._warned:
            return
        used, bits = used_bits(stored), self._reading.bits
        if 0 < used <= bits - UNUSED_BITS:
            self._warned = True
            camera = next(one for one in CAMERA_BITS if one >= used)
            log.warning(
                "%s: uses 0..%d of %d; if the camera gives %d bits, train with --bits %d",
                name, int(stored.max()), 2**bits - 1, camera, camera,
            )
