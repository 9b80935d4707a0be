"""``--show``: a window, where there can be one."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2

from ssn_edge.detector import Detector
from ssn_edge.errors import InputError
from ssn_edge.line import sinks
from ssn_edge.line.results import Result

NO_WINDOW = "--show: this OpenCV has no windows (headless build, or no display); use --serve or --save"

PROBE = """
import cv2, numpy
cv2.namedWindow("ssn-run")
cv2.imshow("ssn-run", numpy.zeros((8, 8), numpy.uint8))
cv2.waitKey(1)
cv2.destroyAllWindows()
"""

PROBE_S = 60.0


def check() -> None:
    """InputError unless a window opens. Qt ends the process where its display is dead, so that another
    process tries."""
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform == "linux" and not any(map(os.environ.get, displays)):
        raise InputError(NO_WINDOW)
    try:
        quiet = subprocess.DEVNULL
        done = subprocess.run(
            [sys.executable, "-c", PROBE], stdin=quiet, stdout=quiet, stderr=quiet, timeout=PROBE_S
        )
    except (OSError, subprocess.TimeoutExpired):
        raise InputError(NO_WINDOW) from None
    if done.returncode:
        raise InputError(NO_WINDOW)


def show(detector: Detector, result: Result) -> int:
    """The frame in the window; the key that was pressed."""
    picture = sinks.picture_of(result, detector.info.verdict.pixel_threshold)
    try:
        cv2.imshow("ssn-run", picture)
        return cv2.waitKey(1)
    except cv2.error:
        raise InputError(NO_WINDOW) from None
