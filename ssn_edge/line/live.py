"""``ssn-run --serve``: the stream in a browser, with its map, scores, counters, threshold and last NG parts.

A sink that keeps the newest picture, and a small HTTP server that shows it: one page, the picture as MJPEG,
figures as server-sent events. It listens on loopback; on another address every request needs the token.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import re
import secrets
import socket
import sys
import threading
import time
from collections import deque
from http import cookies
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, Optional, Tuple
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

from ssn_edge.detector import Detector
from ssn_edge.errors import InputError, SsnEdgeError
from ssn_edge.files import finite
from ssn_edge.line.results import Result, Summary
from ssn_edge.line.sinks import picture_of
from ssn_edge.values import whole_number

PAGE = Path(__file__).with_name("live.html")
WIDTH, THUMB_WIDTH, GALLERY = 960, 240, 12
PICTURES_A_SECOND, THUMBS_A_SECOND = 15, 5
WATCHERS = 16
"""Streams at once: each holds a thread."""

CONNECTIONS = WATCHERS + 32
"""At once, each with a thread, streams included: a newcomer beyond them is turned away without one."""

REQUEST_S = 5.0
"""How long a connection may take, request and answer, unless it is a stream."""

FULL = b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\ntoo many connections\n"

VALUES = 300
"""Scores that a new page starts with."""

BODY_LIMIT = 200
COOKIE, TOKEN = "ssn_token", re.compile(r"[A-Za-z0-9._~-]+")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


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
        self.own_threshold = detector.info.verdict.image_threshold
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
            self._server = _Server((host, port), self)
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
        """``value`` is what the page draws and whose threshold it moves: with two sources the score, beside
        which it tells the map's maximum."""
        verdict, summary, detection = self.detector.info.verdict, self.summary, result.detection
        return {
            "number": result.number, "name": result.frame.name, "is_defect": detection.is_defect,
            "value": detection.map_max if verdict.source == "map_max" else detection.score,
            "source": verdict.source, "threshold": verdict.image_threshold, "own": self.own_threshold,
            "map_max": detection.map_max, "map_threshold": verdict.map_threshold,
            "latency_ms": result.latency_ms, "judged": summary.judged,
            "defects": summary.defects, "dropped": summary.dropped, "broken": summary.broken,
            "gaps": summary.gap_count,
        }

    def figures(self, after: int) -> Dict[str, Any]:
        """What the page shows: of the newest frame, and the values of all frames behind number ``after``."""
        shots = [{"number": number, "name": name} for number, name, _ in self.gallery]
        values = [value for number, value, _ in self._values if number > after]
        alarms = [alarm for number, _, alarm in self._values if number > after]
        silent = time.monotonic() - self._last
        return {**self._figures, "gallery": shots[::-1], "values": values, "alarms": alarms,
                "silent_s": silent}

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


class _Server(ThreadingHTTPServer):
    """A thread a connection, as many as there is room for, each for as long as REQUEST_S or a stream."""

    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def __init__(self, address: Tuple[str, int], view: LiveView):
        self.view = view
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        self._lock = threading.Lock()
        self._since: Dict[socket.socket, float] = {}
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.settimeout(0)
                request.send(FULL)
            self.shutdown_request(request)
            return
        with self._lock:
            self._since[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread to be had
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def _leave(self, request: socket.socket) -> None:
        self.keep(request)
        self._room.release()

    def keep(self, request: socket.socket) -> None:
        """No clock runs for it any more: it is a stream, or has ended."""
        with self._lock:
            self._since.pop(request, None)

    def service_actions(self) -> None:
        self.drop(REQUEST_S)

    def drop(self, after_s: float) -> None:
        """End connections that have taken so long, however slowly they talk; their threads end with them."""
        now = time.monotonic()
        with self._lock:  # so that none becomes a stream between
            for request, since in self._since.items():
                if now - since >= after_s:
                    with contextlib.suppress(OSError):
                        request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = 30
    server: _Server

    def log_message(self, *_: object) -> None:
        """The console is the stream's."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if not self._allowed():
            return
        if path == "/":
            self._page()
        elif path in ("/stream", "/events"):
            self._watch(self._pictures if path == "/stream" else self._events)
        elif path.startswith("/ng/"):
            self._thumb(path[4:])
        else:
            self._answer(404, b"no such page")

    def do_POST(self) -> None:
        if not self._allowed():
            return
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.headers.get("Host"):
            self._answer(403, b"from another site")
            return
        length = whole_number(self.headers.get("Content-Length", "").strip())
        if urlsplit(self.path).path != "/threshold" or length is None or length > BODY_LIMIT:
            self._answer(404, b"POST a number to /threshold")
            return
        body = self.rfile.read(length)
        try:
            if len(body) < length:  # a number cut short is another number
                raise ValueError
            self.server.view.detector.set_threshold(float(body))
        except (ValueError, SsnEdgeError):
            self._answer(400, b"not a number")
        else:
            self._answer(204, b"")

    def _allowed(self) -> bool:
        """The token where there is one; else a name of this machine, since a page from elsewhere can make a
        browser ask us under its own name (DNS rebinding)."""
        token = self.server.view.token
        if token is None:
            if is_loopback(urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""):
                return True
            self._answer(403, b"ask for localhost")
            return False
        jar: Any = cookies.SimpleCookie()
        with contextlib.suppress(cookies.CookieError):
            jar.load(self.headers.get("Cookie", ""))
        asked = parse_qs(urlsplit(self.path).query).get("token", [""])[0]
        given = asked or (jar[COOKIE].value if COOKIE in jar else "")
        if hmac.compare_digest(given.encode(), token.encode()):
            return True
        self._answer(403, b"the address needs ?token=..., as ssn-run printed it")
        return False

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8", **more: str) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store",
                   "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        for name, value in {**headers, **{key.replace("_", "-"): text for key, text in more.items()}}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(12)
        policy = (
            f"default-src 'none'; img-src 'self' data:; connect-src 'self'; script-src 'nonce-{nonce}'; "
            f"style-src 'nonce-{nonce}'; frame-ancestors 'none'"
        )
        token = self.server.view.token
        more = {"Set_Cookie": f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"} if token else {}
        page = PAGE.read_text(encoding="utf-8").replace("NONCE", nonce).encode()
        self._answer(200, page, "text/html; charset=utf-8", Content_Security_Policy=policy, **more)

    def _thumb(self, number: str) -> None:
        with self.server.view.changed:
            found = [data for known, _, data in self.server.view.gallery if str(known) == number]
        self._answer(*((200, found[0], "image/jpeg") if found else (404, b"gone")))

    def _watch(self, send: Callable[[LiveView], None]) -> None:
        view = self.server.view
        if not view.watchers.acquire(blocking=False):
            self._answer(503, b"too many watchers")
            return
        self.server.keep(self.connection)
        try:
            with view.watching(), contextlib.suppress(OSError):  # the browser went away
                send(view)
        finally:
            view.watchers.release()

    def _start(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    def _pictures(self, view: LiveView) -> None:
        self._start("multipart/x-mixed-replace; boundary=frame")
        self.wfile.write(b"--frame\r\n")
        shown: Optional[bytes] = None
        while not view.ended:
            with view.changed:
                if view.picture is shown:
                    view.changed.wait(timeout=1)
                if view.picture is shown or view.picture is None:
                    continue
                shown = view.picture
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(shown)}\r\n\r\n"
            # The next boundary at once: browsers show a part when they have seen its end.
            self.wfile.write(head.encode() + shown + b"\r\n--frame\r\n")

    def _events(self, view: LiveView) -> None:
        self._start("text/event-stream")
        after = -1
        while not view.ended:
            with view.changed:
                view.changed.wait(timeout=1)
                figures = view.figures(after)
            after = figures.get("number", after)
            self.wfile.write(f"data: {json.dumps(finite(figures), allow_nan=False)}\n\n".encode())
            time.sleep(1 / PICTURES_A_SECOND)
