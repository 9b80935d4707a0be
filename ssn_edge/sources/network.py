"""``http(s)://``: cameras that send JPEG after JPEG, single pictures, clips and streams."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from email.message import Message
from typing import Any, Callable, Iterator, List, Optional

import cv2

from ssn_edge.errors import InputError
from ssn_edge.frames.decoding import Reading
from ssn_edge.sources import mjpeg, multipart, video
from ssn_edge.sources.pictures import Pictures
from ssn_edge.sources.source import TIMEOUT_MS, Frame, Source, log
from ssn_edge.text import one_line, without_password

REMEDY = "check the address, and that this OpenCV supports it"


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows a redirect within http or within https: never to a file, nor from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Optional[urllib.request.Request]:
        """Called by urllib."""
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != req.type:
            raise urllib.error.URLError(f"sends on to {scheme}://, which is not followed; give that address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Basic(urllib.request.HTTPBasicAuthHandler):
    def http_error_auth_reqed(self, *arguments: Any) -> Any:
        """Called by urllib; a scheme that is another handler's, or nobody's, is an answer of status 401."""
        with contextlib.suppress(ValueError):
            return super().http_error_auth_reqed(*arguments)


class _Digest(urllib.request.HTTPDigestAuthHandler):
    def http_error_auth_reqed(self, *arguments: Any) -> Any:
        """As :class:`_Basic`'s."""
        with contextlib.suppress(ValueError):
            return super().http_error_auth_reqed(*arguments)


def request(address: str) -> http.client.HTTPResponse:
    """An address asked, with user:password in it as Basic or Digest; InputError unless there is an answer."""
    shown = without_password(address)
    try:
        scheme, _, rest = address.partition("://")
        host, slash, path = rest.partition("/")
        login, at, host = host.rpartition("@")
        plain = urllib.parse.quote(f"{scheme}://{host}{slash}{path}", safe="%/:=&?~#+!$,;'@()*[]")
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if at:
            user, _, password = login.partition(":")
            unquote = urllib.parse.unquote
            passwords.add_password(None, f"{scheme}://{host}/", unquote(user), unquote(password))
        opener = urllib.request.build_opener(_SameScheme, _Basic(passwords), _Digest(passwords))
        answer: http.client.HTTPResponse = opener.open(plain, timeout=TIMEOUT_MS / 1000)
        return answer
    except urllib.error.HTTPError as error:
        if error.fp is not None:  # Python 3.8 has none for a digest that was refused
            error.close()
        remedy = "give http://USER:PASSWORD@HOST/..." if error.code in (401, 403) else "check the address"
        raise InputError(f"{shown}: does not open (status {error.code}); {remedy}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InputError(f"{shown}: does not open ({_why(error)}); check the address") from None


def _why(error: Exception) -> str:
    """Never an address, which may hold a password."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "its certificate is not trusted: SSL_CERT_FILE names a file with yours"
    if isinstance(reason, (http.client.HTTPException, ValueError)):
        return type(reason).__name__
    return one_line(getattr(reason, "strerror", None) or reason)


def find(spec: str, reading: Reading) -> Source:
    """What an address answers with: parts without end, a picture, or what OpenCV plays."""
    answer = request(spec)
    kind, name = answer.headers.get_content_type(), without_password(spec)
    if kind.startswith("multipart/"):
        return _camera(spec, name, answer, reading)
    with answer:
        if kind.startswith("image/"):
            return _picture(name, answer, reading)
        try:
            head = answer.read1(video.HEAD)  # what is there: a live stream may take its time
        except (OSError, http.client.HTTPException):
            head = b""
    return _played(spec, name, answer.headers, head)


def _camera(spec: str, name: str, answer: http.client.HTTPResponse, reading: Reading) -> Source:
    counter, pictures, first = itertools.count(), Pictures(reading), [answer]

    def opened(stop: threading.Event) -> Iterator[Frame]:
        return _parts(first.pop() if first else request(spec), name, counter, pictures, stop)

    return Source(name, opened, True, "latest")


def _parts(
    answer: http.client.HTTPResponse, name: str, counter: Iterator[int], pictures: Pictures,
    stop: threading.Event,
) -> Iterator[Frame]:
    stem = video.label(name)
    boundary = answer.headers.get_boundary()
    fruitless = _Fruitless(name)
    read = _reader(answer, name, stop, fruitless)
    with answer:
        for data in multipart.parts(read, boundary):
            if stop.is_set():
                return
            fruitless.since = None
            yield pictures.frame(data, f"{stem}-{next(counter):06d}")


class _Fruitless:
    """Says once that bytes come, and no picture."""

    def __init__(self, name: str):
        self._name, self._said = name, False
        self.since: Optional[float] = None

    def note(self) -> None:
        """With every read that a picture needs."""
        now = time.monotonic()
        self.since = now if self.since is None else self.since
        if not self._said and now - self.since > TIMEOUT_MS / 1000:
            self._said = True
            log.warning("%s: sends data, but no picture for %.0f s; check that it sends MJPEG, part by part",
                        self._name, now - self.since)


def _reader(
    answer: http.client.HTTPResponse, name: str, stop: threading.Event, fruitless: _Fruitless
) -> Callable[[int], bytes]:
    def read(count: int) -> bytes:
        if stop.is_set():
            return b""
        fruitless.note()
        try:
            return answer.read1(count)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise InputError(f"{name}: breaks off ({_why(error)}); check the camera") from None

    return read


def _picture(name: str, answer: http.client.HTTPResponse, reading: Reading) -> Source:
    try:
        data = answer.read(mjpeg.LARGEST + 1)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{name}: breaks off ({_why(error)}); check the address") from None
    if len(data) > mjpeg.LARGEST:
        raise InputError(f"{name}: a picture of more than {mjpeg.LARGEST >> 20} MB; check the address")
    frame = Pictures(reading).frame(data, video.label(name), name)
    if frame.image is None:
        raise InputError(frame.problem)
    return Source(name, lambda _: iter([frame]))


def _played(spec: str, name: str, headers: Message, head: bytes) -> Source:
    """A clip, whose frames are counted, where it says how long it is; otherwise a stream."""
    capture = video.open_live(spec, name, REMEDY)
    first, length = [capture], (headers.get("Content-Length") or "").strip()
    size = int(length) if length.isdigit() else None
    named = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    stem = video.label(name)

    def opened() -> cv2.VideoCapture:
        return _taken(first) or video.open_live(spec, name, REMEDY)

    if 0 < named < 2.0**31 or headers.get_content_maintype() == "video" and size:
        return Source(name, lambda _: video.counted_frames(opened(), stem, name, head, size))
    counter = itertools.count()
    return Source(name, lambda _: video.live_frames(opened(), stem, counter), True, "latest")


def _taken(first: List[cv2.VideoCapture]) -> Optional[cv2.VideoCapture]:
    return first.pop() if first else None
