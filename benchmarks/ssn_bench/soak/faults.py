"""What goes wrong on the made-up line of the soak: a camera and a disk that fail at their appointed times."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

import cv2
import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.line import sinks, stream
from ssn_edge.sources import Frame

FAULTS = {  # name -> share of the run after which it happens
    "frames lost": 0.10, "frames broken": 0.18, "frames of another size": 0.26, "source dead for 5 s": 0.34,
    "disk full for 3 s": 0.48, "slow sink for 5 s": 0.58, "clock jumps an hour": 0.70,
    "clock jumps back": 0.76, "inference hangs for 3 s": 0.84,
}
LOST, BROKEN, RESIZED, DEAD_S, FULL_S, SLOW_S, HANG_S, STALL_S = 10, 5, 5, 5.0, 3.0, 5.0, 3.0, 2.0
RETRY_S = (0.5, 2.0)


class FaultyCamera:
    """Frames on a fixed schedule; what it gave is counted, to be compared with what arrived."""

    def __init__(self, fps: float, seconds: float, frame_hw: Tuple[int, int]):
        self._fps, self.seconds, self.start = fps, seconds, 0.0
        rng = np.random.default_rng(0)
        coarse = rng.integers(60, 200, (4, frame_hw[0] // 30, frame_hw[1] // 30, 3), np.uint8)
        self._frames = [cv2.resize(one, frame_hw[::-1], interpolation=cv2.INTER_CUBIC) for one in coarse]
        self._due = dict(FAULTS)
        self._odd: List[Tuple[Optional[np.ndarray], str]] = []  # frames of a fault, still to come
        self._dead_until, self.given, self.broken, self.lost = 0.0, 0, 0, 0
        self.happened: Dict[str, float] = {}

    def elapsed(self) -> float:
        return time.monotonic() - self.start if self.start else 0.0

    def due(self, name: str) -> bool:
        """Once, when its time has come."""
        if name in self._due and self.elapsed() >= self._due[name] * self.seconds:
            del self._due[name]
            self.happened[name] = self.elapsed()
            return True
        return False

    def within(self, name: str, seconds: float) -> bool:
        """The fault's time has come, and has not passed."""
        began = FAULTS[name] * self.seconds
        if began <= self.elapsed() < began + seconds:
            self.happened.setdefault(name, self.elapsed())
            return True
        return False

    def open(self, _: threading.Event) -> Iterator[Frame]:
        if time.monotonic() < self._dead_until:
            raise InputError("camera: does not open; the cable is out")
        self.start = self.start or time.monotonic()
        return self._run()

    def _run(self) -> Iterator[Frame]:
        next_due = time.monotonic()
        while self.elapsed() < self.seconds:
            next_due += 1 / self._fps
            time.sleep(max(0.0, next_due - time.monotonic()))
            if self.due("frames lost"):
                self.lost += LOST
                next_due += LOST / self._fps
                continue
            if self.due("source dead for 5 s"):
                self._dead_until = time.monotonic() + DEAD_S
                raise OSError("the cable was pulled")
            yield self._next()
        threading.Event().wait(0.5)  # a camera has no end: the stream is stopped from outside

    def _next(self) -> Frame:
        if self.due("frames broken"):
            torn = np.zeros((9, 9, 2), np.uint8)
            self._odd = [(None, "cut off by the driver"), (torn, "")] * BROKEN
        if self.due("frames of another size"):
            self._odd = [(np.ascontiguousarray(self._frames[0][:720, :1280]), "")] * RESIZED
        image, problem = self._odd.pop() if self._odd else (self._frames[self.given % len(self._frames)], "")
        self.broken += image is None or image.shape[2] == 2
        self.given += 1
        return Frame(f"soak-{self.given:07d}", image, time.time(), problem)


class Disk(sinks.JsonLines):
    """JSON lines on a disk that is full for a while: the kernel's own ENOSPC, from /dev/full."""

    def __init__(self, path: Path, camera: FaultyCamera):
        super().__init__(path, max_bytes=10_000_000, keep=1_000_000)
        self._camera, self._real, self._full = camera, self._file, open("/dev/full", "wb", buffering=0)
        self.refused = 0

    def write(self, result: stream.Result) -> None:
        if self._camera.within("disk full for 3 s", FULL_S):
            self._real, self._file = self._file, self._full
            try:
                super().write(result)
            except InputError:
                self.refused += 1
                raise
            finally:
                self._file = self._real
        else:
            super().write(result)

    def close(self) -> None:
        self._full.close()
        super().close()
