"""The live page's HTTP server: one page, the picture as MJPEG, figures as server-sent events, and what comes
back. It lets in who has the token, or without one this machine alone.
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
from http import cookies
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple
from urllib.parse import parse_qs, urlsplit

from ssn_edge.errors import InputError, SsnEdgeError
from ssn_edge.files import finite
from ssn_edge.text import one_line
from ssn_edge.values import whole_number

if TYPE_CHECKING:
    from ssn_edge.line.live import LiveView

PAGE = Path(__file__).with_name("live.html")
PICTURES_A_SECOND = 15
WATCHERS = 16
"""Streams at once: each holds a thread."""

CONNECTIONS = WATCHERS + 32
"""At once, each with a thread, streams included: a newcomer beyond them is turned away without one."""

REQUEST_S = 5.0
"""How long a connection may take, request and answer, unless it is a stream or a bundle is written."""

FULL = b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\ntoo many connections\n"

BODY_LIMITS = {"/threshold": 200, "/save": 1000}
COOKIE, TOKEN = "ssn_token", re.compile(r"[A-Za-z0-9._~-]+")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


class Server(ThreadingHTTPServer):
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
        """In a thread of its own, or turned away."""
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
        """The thread's work; it makes room when it ends."""
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
        """Twice a second."""
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
    server: Server

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
        elif path == "/promise":
            asked = parse_qs(urlsplit(self.path).query).get("threshold", [""])
            self._at(asked[0], self.server.view.slider.at)
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
        path = urlsplit(self.path).path
        length = whole_number(self.headers.get("Content-Length", "").strip())
        if length is None or length > BODY_LIMITS.get(path, -1):
            self._answer(404, b"POST a number to /threshold, or a position to /save")
            return
        body = self.rfile.read(length)
        if len(body) < length:  # a number cut short is another number
            self._answer(400, b"cut short")
        elif path == "/save":
            self._save(body)
        else:
            self._at(body, self.server.view.slider.move)

    def _at(self, number: Any, call: Callable[[float], Any]) -> None:
        """Answer with what ``call`` says of a threshold as it was sent."""
        try:
            found = call(float(number))
        except (ValueError, SsnEdgeError):
            self._answer(400, b"not a number")
        else:
            self._answer(*((204, b"") if found is None else (200, _json(found), "application/json")))

    def _save(self, body: bytes) -> None:
        """The write may take its time, in this thread: the stream does not wait for it."""
        try:
            given = json.loads(body)
            name, threshold = str(given["name"]).strip(), float(given["threshold"])
        except (KeyError, TypeError, ValueError, RecursionError):
            self._answer(400, b'not {"name": "...", "threshold": ...}')
            return
        self.server.keep(self.connection)
        try:
            saved = self.server.view.slider.save(name, threshold)
        except (SsnEdgeError, OSError) as error:
            self._answer(409 if isinstance(error, InputError) else 500, one_line(error, 300).encode())
        else:
            self._answer(200, saved.encode())

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
            f"style-src 'nonce-{nonce}'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
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
            self.wfile.write(b"data: " + _json(figures) + b"\n\n")
            time.sleep(1 / PICTURES_A_SECOND)


def _json(figures: Dict[str, Any]) -> bytes:
    """With null for what is not finite."""
    return json.dumps(finite(figures), allow_nan=False).encode()
