"""Videos with frames of known grey levels, made here."""

import cv2
import numpy as np
import pytest

from ssn_edge.frames import jpeg as decoder

STRICT = decoder.simplejpeg is not None
"""Whether JPEG tells that it is whole: a cut with an end marker is seen."""

LEVELS = [10 * number for number in range(1, 25)]


def picture(level, size=(48, 64)):
    """Grey with a grain, so that the bytes of a frame are many."""
    grain = np.random.default_rng(level).integers(-8, 9, (*size, 3))
    return np.clip(level + grain, 0, 255).astype(np.uint8)


def jpeg(level):
    return cv2.imencode(".jpg", picture(level))[1].tobytes()


def clip(path, code="MJPG", levels=LEVELS):
    """The path of a video; the test is skipped where this OpenCV cannot write it."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 25, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {code} in {path.suffix}")
    for level in levels:
        writer.write(picture(level))
    writer.release()
    return path


def zeros(path, start, end):
    """Zeros over a share of a file."""
    data = bytearray(path.read_bytes())
    place, count = int(len(data) * start), int(len(data) * (end - start))
    data[place : place + count] = bytes(count)
    path.write_bytes(data)
    return path


def cut(path, share):
    """The first share of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def removed(path, start, end):
    """Without a share of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * start)] + data[int(len(data) * end) :])
    return path
