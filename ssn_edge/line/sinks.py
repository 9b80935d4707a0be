"""Where verdicts go: JSON lines, pictures, a video, an MQTT topic, a function, a metrics page.

A sink has a ``name``, ``write(result)`` for every :class:`.summary.Result`, and ``close()``. It may
take its time: it runs in a thread of its own. It may raise: that is counted, and the line goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Optional, Tuple
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np

from ssn_edge.errors import BackendError, InputError, needs
from ssn_edge.files import PathLike, check_writable, finite, put_in_place, temporary_beside
from ssn_edge.frames.image_files import write_image
from ssn_edge.line.file_names import Names, flat, stem_of
from ssn_edge.line.queues import RateLimitedLog
from ssn_edge.line.sources import Frame
from ssn_edge.line.summary import Result, Summary
from ssn_edge.verdict import drawing


def record(result: Result) -> Dict[str, Any]:
    """What is told of a frame, as JSON: times in seconds since 1970 and in ms, regions in its pixels."""
    frame, detection = result.frame, result.detection
    return {
        "frame": frame.name, "number": result.number, "time": frame.time, "score": detection.score,
        "map_max": detection.map_max, "is_defect": detection.is_defect,
        "regions": [vars(region) for region in detection.regions], "region_count": detection.region_count,
        "ms": round(detection.latency.total_ms, 3), "latency_ms": round(result.latency_ms, 3),
    }


NAME_LIMIT, NAME_KEPT = 8000, 600
"""A frame's name whose JSON has more bytes is cut to its last characters: 12 bytes each at most."""


def message(result: Result) -> str:
    """:func:`record` as one line of JSON: with null for what is not finite, since JSON has no NaN, and below
    16 kB whatever the frame's name."""
    document = record(result)
    if len(json.dumps(document["frame"])) > NAME_LIMIT:
        document["frame"] = "..." + document["frame"][-NAME_KEPT:]
    return json.dumps(finite(document), allow_nan=False)


class Lost(BackendError):
    """``count`` results that a sink had taken did not get to where they belong."""

    def __init__(self, text: str, count: int):
        super().__init__(text)
        self.count = count


def picture_of(result: Result, pixel_threshold: float) -> np.ndarray:
    """The frame with its map, boxes and verdict."""
    assert result.frame.image is not None
    return drawing.overlay(result.frame.image, result.detection, pixel_threshold)


class JsonLines:
    """One line a frame, so that others can follow it. At ``max_bytes`` the file becomes ``PATH.1``, that
    one ``PATH.2``, and so on up to ``keep``. A line that does not fit on the disk leaves no half of itself.
    """

    name = "json"

    def __init__(self, path: PathLike, max_bytes: int = 100_000_000, keep: int = 10, append: bool = False):
        self._path, self._max_bytes, self._keep = Path(path), max_bytes, keep
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "ab" if append else "wb", buffering=0)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); choose another --json") from None

    def write(self, result: Result) -> None:
        line = (message(result) + "\n").encode()
        if self._file.closed:  # a rotation that failed, on a full disk for example
            self._file = open(self._path, "ab", buffering=0)
        if self._file.tell() and self._file.tell() + len(line) > self._max_bytes:
            self._rotate()
        place = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError(28, "No space left on device")
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(place)
                self._file.seek(place)
            raise InputError(f"{self._path}: not written ({error.strerror})") from None

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        self._file.close()
        if self._keep:
            with contextlib.suppress(FileNotFoundError):  # someone else's rotation took it
                os.replace(self._path, f"{self._path}.1")
        self._file = open(self._path, "wb", buffering=0)

    def close(self) -> None:
        self._file.close()


STAMPED = "[0-9]" * 8 + "T" + "[0-9]" * 6 + ".[0-9][0-9][0-9]Z-*.png"
"""Names that ``defects_only`` gives."""


class Pictures:
    """Overlays, one file a frame, named after it; where another frame of this run had that name, with the
    frame's suffix and then its time as well. With ``defects_only`` those of NG parts, as PNG, named by their
    time; beyond ``keep`` of these in the folder the oldest goes."""

    name = "pictures"

    def __init__(
        self, folder: PathLike, pixel_threshold: float, defects_only: bool = False, keep: Optional[int] = None
    ):
        self._folder, self._threshold = Path(folder), pixel_threshold
        self._defects_only, self._keep = defects_only, keep
        self._written: Deque[Path] = deque()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._names = Names(self._folder, ".png" if defects_only else ".jpg")
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None
        check_writable(self._folder / "picture.png")
        if keep:
            self._written.extend(sorted(self._folder.glob(STAMPED)))

    def write(self, result: Result) -> None:
        if self._defects_only and not result.detection.is_defect:
            return
        path = self._path(result.frame)
        write_image(path, picture_of(result, self._threshold))
        if self._keep:
            self._written.append(path)
            while len(self._written) > self._keep:
                with contextlib.suppress(FileNotFoundError):
                    self._written.popleft().unlink()

    def _path(self, frame: Frame) -> Path:
        stem, whole = stem_of(frame.name), flat(frame.name)
        if not self._defects_only:
            return self._names.take(stem, whole, f"{whole}-{frame.time * 1000:.0f}")
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(frame.time))
        moment += f".{int(frame.time % 1 * 1000):03d}Z"
        path = self._names.take(f"{moment}-{stem}", f"{moment}-{whole}")
        if os.path.lexists(path):  # an earlier run's: from now on it counts as new
            with contextlib.suppress(ValueError):
                self._written.remove(path)
        return path

    def close(self) -> None:
        """Every file is whole already."""


CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}


class Video:
    """Overlays as a video of ``fps``, in its place once it is whole. The first frame sets its size."""

    name = "video"

    def __init__(self, path: PathLike, pixel_threshold: float, fps: float = 25.0):
        self._path, self._threshold, self._fps = Path(path), pixel_threshold, fps
        if self._path.suffix not in CODECS:
            raise InputError(f"{path}: give a name that ends in {', '.join(CODECS)}")
        self._temporary = temporary_beside(self._path)
        self._writer: Optional[cv2.VideoWriter] = None
        self._size: Tuple[int, int] = (0, 0)
        self._frames = 0

    def write(self, result: Result) -> None:
        picture = picture_of(result, self._threshold)
        if self._writer is None:
            height, width = (n - n % 2 for n in picture.shape[:2])
            self._size = width, height
            code = cv2.VideoWriter_fourcc(*CODECS[self._path.suffix])  # type: ignore[attr-defined]
            self._writer = cv2.VideoWriter(str(self._temporary), code, self._fps, self._size)
            if not self._writer.isOpened():
                raise BackendError(f"{self._path}: this OpenCV cannot write it; give a name in .avi")
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size)
        self._writer.write(picture)
        self._frames += 1

    def close(self) -> None:
        if self._writer is None:
            self._temporary.unlink()
            return
        self._writer.release()
        there = cv2.VideoCapture(str(self._temporary))
        whole = there.grab() and there.get(cv2.CAP_PROP_FRAME_COUNT) >= self._frames
        there.release()
        try:
            if not whole:  # OpenCV's writer says nothing of a full disk
                raise OSError
            put_in_place(self._temporary, self._path)
        except OSError as error:
            with contextlib.suppress(FileNotFoundError):
                self._temporary.unlink()
            reason = error.strerror or "a full disk?"
            raise Lost(f"{self._path}: not written whole ({reason}); free some space", self._frames) from None


class Callback:
    """Calls ``function(result)`` for every frame, or with ``changes`` only where the verdict differs from
    the last one: what a relay or a light needs."""

    def __init__(self, function: Callable[[Result], object], changes: bool = False, name: str = "callback"):
        self.name, self._function, self._changes = name, function, changes
        self._last: Optional[bool] = None

    def write(self, result: Result) -> None:
        if not self._changes or result.detection.is_defect != self._last:
            self._function(result)
            self._last = result.detection.is_defect  # only now: one that failed is tried again

    def close(self) -> None:
        """Nothing is held."""


class Mqtt:
    """The record of every frame, or of defects only, as JSON to ``mqtt://[user:password@]host[:port]/topic``
    (``mqtts`` with TLS). InputError unless a broker answers and takes us. Later paho-mqtt connects again by
    itself; while it cannot, up to 1000 messages wait, and those that still do at the end are Lost.
    """

    name = "mqtt"

    def __init__(self, address: str, defects_only: bool = False):
        with needs("mqtt", "--mqtt"):
            import paho.mqtt.client as paho
        try:
            parts = urlsplit(address)
            given = parts.port, parts.hostname, parts.path.lstrip("/")
        except ValueError:  # a port that is none
            given = None, None, ""
        if not all(given[1:]) or parts.scheme not in ("mqtt", "mqtts"):
            _, user, shown = address.rpartition("@")  # what ends a host elsewhere may be in a password here
            remedy = "give mqtt://host:1883/topic, or mqtts://"
            raise InputError(f"{shown}: {remedy}" + "; in a password / is %2F, # %23 and ? %3F" * bool(user))
        self._topic, self._defects_only = given[2], defects_only
        self._waiting: Deque[Any] = deque()
        self._answered, self._refusal, self._log = threading.Event(), "", RateLimitedLog()
        self._host, self._client = parts.hostname, paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(1000)
        self._client.reconnect_delay_set(*MQTT_RETRY_S)
        self._client.on_connect = self._hear
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or "") or None)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._connect(parts.port or (8883 if parts.scheme == "mqtts" else 1883))

    def _connect(self, port: int) -> None:
        where = f"{self._host}:{port}"
        try:
            self._client.connect(self._host, port)
        except OSError as error:
            raise InputError(f"{where}: no MQTT broker answers ({error}); check it") from None
        self._client.loop_start()
        if self._answered.wait(MQTT_ANSWER_S) and not self._refusal:
            return
        self._stop()
        if self._refusal:
            raise InputError(f"{where}: the broker refuses ({self._refusal}); check user and password")
        raise InputError(f"{where}: no MQTT broker answers within {MQTT_ANSWER_S:g} s; check host and port")

    def _hear(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        """The broker's answer, in paho's thread: the first one is waited for, later ones are told."""
        refusal = str(reason) if reason.is_failure else ""
        if not self._answered.is_set():
            self._refusal = refusal
            self._answered.set()
        elif refusal:
            self._log.warn(f"{self.name}: {self._host} refuses ({refusal}); messages wait for it")

    def write(self, result: Result) -> None:
        if self._defects_only and not result.detection.is_defect:
            return
        info = self._client.publish(self._topic, message(result), qos=1)
        if info.rc == 15:  # MQTT_ERR_QUEUE_SIZE; disconnected is no failure yet: the message waits
            raise BackendError(f"{self._host}: 1000 messages wait for the broker; this one is lost")
        self._waiting.append(info)
        while self._waiting and _published(self._waiting[0]):
            self._waiting.popleft()

    def close(self) -> None:
        until = time.monotonic() + MQTT_FLUSH_S
        while self._left() and time.monotonic() < until:
            time.sleep(0.05)
        left = self._left()
        self._stop()
        if left:
            raise Lost(f"{self._host}: the last {left} messages did not reach the broker", left)

    def _stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _left(self) -> int:
        return sum(not _published(info) for info in self._waiting)


def _published(info: Any) -> bool:
    """paho raises for a message that was queued while there was no connection; it is on its way then."""
    try:
        return bool(info.is_published())
    except (RuntimeError, ValueError):
        return bool(info._published)


MQTT_ANSWER_S = MQTT_FLUSH_S = 5.0
"""How long the start waits for a broker, and the end."""

MQTT_RETRY_S = 1, 10
"""First and longest pause before a broker that was lost is tried again."""


class Metrics:
    """Prometheus' text page at ``http://HOST:PORT/metrics``; loopback unless another host is given."""

    name = "metrics"

    def __init__(self, summary: Summary, host: str = "127.0.0.1", port: int = 9108):
        with needs("metrics", "--metrics"):
            import prometheus_client as prometheus
            from prometheus_client.metrics_core import CounterMetricFamily
        registry = prometheus.CollectorRegistry()
        registry.register(_Counts(summary, CounterMetricFamily))
        buckets = tuple(np.round(np.geomspace(0.001, 10, 25), 6))
        self._latency = prometheus.Histogram(
            "ssn_latency_seconds", "From a frame's arrival to its verdict", registry=registry, buckets=buckets
        )
        self._score = prometheus.Gauge("ssn_score", "Of the last frame", registry=registry)
        self._last = prometheus.Gauge("ssn_last_frame_time_seconds", "Since 1970", registry=registry)
        try:
            self._server, self._thread = prometheus.start_http_server(port, host, registry)
        except OSError as error:
            raise InputError(f"{host}:{port}: cannot listen there ({error.strerror}); give another") from None
        self.port: int = self._server.server_port

    def write(self, result: Result) -> None:
        self._latency.observe(result.latency_ms / 1e3)
        self._score.set(result.detection.score)
        self._last.set(result.frame.time)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Counts:
    """The summary's counters, read when the page is."""

    def __init__(self, summary: Summary, family: Any):
        self._summary, self._family = summary, family

    def collect(self) -> Any:
        summary = self._summary
        counts = {
            "captured": "Frames that the source gave", "judged": "Frames with a verdict",
            "defects": "Frames judged NG", "dropped": "Frames that a newer one replaced",
            "broken": "Frames that could not be judged", "stalls": "Times that inference hung",
            "gap_count": "Times that the source was lost",
        }
        for name, text in counts.items():
            yield self._family(f"ssn_{name.replace('_count', 's')}", text, value=getattr(summary, name))
        for name, text in (("late", "Results a sink was too slow for"), ("failed", "Results not written")):
            family = self._family(f"ssn_sink_{name}", text, labels=["sink"])
            for sink, count in dict(getattr(summary, name)).items():
                family.add_metric([sink], count)
            yield family
