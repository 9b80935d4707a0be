"""``ssn-run --serve``: the stream in a browser, with its map, scores, counters, threshold and last NG parts.

A sink that keeps the newest picture, and a small HTTP server that shows it: one page, the picture as MJPEG,
figures as server-sent events. It listens on loopback; on another address every request needs the token.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections import deque
from typing import Any, Deque, Dict, Iterator, Optional, Tuple

import cv2
import numpy as np

from ssn_edge.detector import Detector
from ssn_edge.errors import InputError
from ssn_edge.line.live_server import PICTURES_A_SECOND, TOKEN, WATCHERS, Server, is_loopback
from ssn_edge.line.results import Result, Summary
from ssn_edge.line.sinks import picture_of
from ssn_edge.line.slider import Slider

WIDTH, THUMB_WIDTH, GALLERY = 960, 240, 12
THUMBS_A_SECOND = 5
VALUES = 300
"""Scores that a new page starts with."""


class LiveView:
    """A sink. ``token``: made up where the address is not loopback and none is given; ``address`` has it."""

    name = "live"

    def __init__(
        self, detector: Detector, summary: Summary, host: str = "127.0.0.1", port: int = 8080,
        token: Optional[str] = None,
    ):
        if token and not TOKEN.fullmatch(token):
            raise InputError("token: has characters that addresses do not; give letters, digits and - . _ ~")
        self.detector, self.summary = detector, summary
        self.token = token or (None if is_loopback(host) else secrets.token_urlsafe(16))
        self.slider = Slider(detector, self.token is not None)
        self.picture: Optional[bytes] = None
        self.gallery: Deque[Tuple[int, str, bytes]] = deque(maxlen=GALLERY)
        self.changed = threading.Condition()
        self.watchers = threading.BoundedSemaphore(WATCHERS)
        self.ended = False
        self._watched = 0
        self._figures: Dict[str, Any] = {}
        self._last = time.monotonic()
        self._values: Deque[Tuple[int, float, bool]] = deque(maxlen=VALUES)
        self._next_picture = self._next_thumb = 0.0
        self._rate = Rate()
        try:
            self._server = Server((host, port), self)
        except OSError as error:
            raise InputError(f"{host}:{port}: cannot listen there ({error.strerror}); give another") from None
        port = self._server.server_port
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{port}/" + (f"?token={self.token}" if self.token else "")
        self._thread = threading.Thread(target=self._server.serve_forever, name="ssn-live", daemon=True)
        self._thread.start()

    def write(self, result: Result) -> None:
        """Take one result; a picture is made of it only while someone looks, or where it is NG."""
        now, detection = time.monotonic(), result.detection
        wanted = self._watched and now >= self._next_picture
        thumb = detection.is_defect and now >= self._next_thumb
        overlay = self._overlay(result) if wanted or thumb else None
        picture = jpeg(overlay, WIDTH) if wanted and overlay is not None else None
        figures = self._describe(result)
        with self.changed:
            self._last = now
            self._rate.add(now)
            self._values.append((result.number, figures["value"], detection.is_defect))
            if picture is not None:
                self.picture, self._next_picture = picture, now + 1 / PICTURES_A_SECOND
            if thumb and overlay is not None:
                self._next_thumb = now + 1 / THUMBS_A_SECOND
                self.gallery.append((result.number, result.frame.name, jpeg(overlay, THUMB_WIDTH)))
            self._figures = {**figures, "rate": self._rate.value()}
            self.changed.notify_all()

    def _overlay(self, result: Result) -> np.ndarray:
        return picture_of(result, self.detector.info.verdict.pixel_threshold)

    def _describe(self, result: Result) -> Dict[str, Any]:
        """Of one frame. ``value`` is what the page draws and whose threshold the slider has: with two sources
        the score, beside which it tells the map's maximum."""
        verdict, summary, detection = self.detector.info.verdict, self.summary, result.detection
        return {
            "number": result.number, "name": result.frame.name, "is_defect": detection.is_defect,
            "value": detection.map_max if verdict.source == "map_max" else detection.score,
            "map_max": detection.map_max, "latency_ms": result.latency_ms, "judged": summary.judged,
            "defects": summary.defects, "dropped": summary.dropped, "broken": summary.broken,
            "gaps": summary.gap_count,
        }

    def figures(self, after: int) -> Dict[str, Any]:
        """What the page shows: of the newest frame, the slider, and the values of all frames behind number
        ``after``."""
        shots = [{"number": number, "name": name} for number, name, _ in self.gallery]
        values = [value for number, value, _ in self._values if number > after]
        alarms = [alarm for number, _, alarm in self._values if number > after]
        silent = time.monotonic() - self._last
        return {**self._figures, **self.slider.figures(), "gallery": shots[::-1], "values": values,
                "alarms": alarms, "silent_s": silent}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Pictures are made only while someone looks."""
        with self.changed:
            self._watched += 1
        try:
            yield
        finally:
            with self.changed:
                self._watched -= 1

    def close(self) -> None:
        """End all streams, then the server."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._server.drop(0.0)
        self._thread.join()


def jpeg(picture: np.ndarray, width: int) -> bytes:
    """A picture uint8 BGR [H, W, 3] as a JPEG file's bytes, at most ``width`` pixels wide."""
    if picture.shape[1] > width:
        height = max(1, round(picture.shape[0] * width / picture.shape[1]))
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return bytes(data)


class Rate:
    """Frames a second over the last 60 of them."""

    def __init__(self) -> None:
        self._times: Deque[float] = deque(maxlen=60)

    def add(self, now: float) -> None:
        """A frame came at ``now``, in monotonic seconds."""
        self._times.append(now)

    def value(self) -> float:
        """Frames a second; 0 before the second frame."""
        spent = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
        return (len(self._times) - 1) / spent if spent else 0.0
