"""Where frames come from: images, folders, globs, video files, cameras and stream URLs."""

from __future__ import annotations

import glob
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Union

import cv2
import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.images import IMAGE_SUFFIXES, list_images, read_image

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"}


@dataclass(frozen=True)
class Frame:
    """``image`` BGR uint8 [H, W, 3], or None with the ``problem``; ``time`` in seconds since 1970."""

    name: str
    image: Optional[np.ndarray]
    time: float
    problem: str = ""


def open_source(spec: str) -> Iterator[Frame]:
    """Frames of ``spec``: image, folder, glob, video, camera number, or RTSP/GStreamer URL.

    The source is checked at once: InputError if it is missing, empty or does not open.
    """
    path = Path(spec)
    if spec.isdigit():
        return _capture(int(spec), f"camera {spec}", "check the number and who else uses it")
    if "://" in spec or " ! " in spec:
        api = cv2.CAP_GSTREAMER if " ! " in spec else cv2.CAP_ANY
        return _capture(spec, spec, "check the address, and that this OpenCV supports it", api)
    if path.is_dir():
        found = list_images(path)
        if not found:
            raise InputError(f"{path}: no images in this folder; give another, or a glob")
        return _images(found)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        if not path.is_file():
            raise InputError(f"{path}: no such video; check the path")
        return _capture(spec, path.name, "the file is damaged or its codec unknown")
    if path.is_file():
        return iter([Frame(path.name, read_image(path), time.time())])
    if glob.has_magic(spec):
        names = sorted(name for name in glob.glob(spec, recursive=True))
        matches = [Path(n) for n in names if Path(n).suffix.lower() in IMAGE_SUFFIXES]
        if not matches:
            raise InputError(f"{spec}: matches no image; check the pattern")
        return _images(matches)
    raise InputError(f"{spec}: no such file or folder; give an image, folder, video, camera or URL")


def _images(paths: List[Path]) -> Iterator[Frame]:
    for path in paths:
        try:
            yield Frame(path.name, read_image(path), time.time())
        except InputError as error:
            yield Frame(path.name, None, time.time(), str(error))


def _capture(
    target: Union[int, str], name: str, remedy: str, api: int = cv2.CAP_ANY
) -> Iterator[Frame]:
    capture = cv2.VideoCapture(target, api)
    if not capture.isOpened():
        raise InputError(f"{name}: does not open; {remedy}")
    return _frames(capture, Path(name).stem or name)


def _frames(capture: cv2.VideoCapture, stem: str) -> Iterator[Frame]:
    try:
        number = 0
        while True:
            done, image = capture.read()
            if not done:
                return
            yield Frame(f"{stem}-{number:06d}", image, time.time())
            number += 1
    finally:
        capture.release()
