"""Verdicts to an MQTT broker, with paho-mqtt."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Deque
from urllib.parse import SplitResult, unquote, urlsplit

from ssn_edge.errors import BackendError, InputError, needs
from ssn_edge.line.queues import RateLimitedLog
from ssn_edge.line.results import Lost, Result, message

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessageInfo

ANSWER_S = FLUSH_S = 5.0
"""How long the start waits for a broker, and the end."""

RETRY_S = 1, 10
"""First and longest pause before a broker that was lost is tried again."""


class Mqtt:
    """The record of every frame, or of defects only, as JSON to ``mqtt://[user:password@]host[:port]/topic``
    (``mqtts`` with TLS). InputError unless a broker answers and takes us. Later paho-mqtt connects again by
    itself; while it cannot, up to 1000 messages wait, and those that still do at the end are Lost.
    """

    name = "mqtt"

    def __init__(self, address: str, defects_only: bool = False):
        with needs("mqtt", "--mqtt"):
            import paho.mqtt.client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        parts = _parts(address)
        self._topic, self._defects_only = parts.path.lstrip("/"), defects_only
        self._waiting: Deque[MQTTMessageInfo] = deque()
        self._answered, self._refusal, self._log = threading.Event(), "", RateLimitedLog()
        self._host, self._client = str(parts.hostname), paho.Client(CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(1000)
        self._client.reconnect_delay_set(*RETRY_S)
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
        if self._answered.wait(ANSWER_S) and not self._refusal:
            return
        self._stop()
        if self._refusal:
            raise InputError(f"{where}: the broker refuses ({self._refusal}); check user and password")
        raise InputError(f"{where}: no MQTT broker answers within {ANSWER_S:g} s; check host and port")

    def _hear(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        """The broker's answer, in paho's thread: the first one is waited for, later ones are told."""
        refusal = str(reason) if reason.is_failure else ""
        if not self._answered.is_set():
            self._refusal = refusal
            self._answered.set()
        elif refusal:
            self._log.warn(f"{self.name}: {self._host} refuses ({refusal}); messages wait for it")

    def write(self, result: Result) -> None:
        """Publish one result; BackendError where too many wait already."""
        if self._defects_only and not result.detection.is_defect:
            return
        info = self._client.publish(self._topic, message(result), qos=1)
        if info.rc == 15:  # MQTT_ERR_QUEUE_SIZE; disconnected is no failure yet: the message waits
            raise BackendError(f"{self._host}: 1000 messages wait for the broker; this one is lost")
        self._waiting.append(info)
        while self._waiting and _published(self._waiting[0]):
            self._waiting.popleft()

    def close(self) -> None:
        """Wait a few seconds for what is still on its way; Lost says how many did not arrive."""
        until = time.monotonic() + FLUSH_S
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


def _parts(address: str) -> SplitResult:
    """The address's parts; InputError unless it has a host and a topic."""
    with contextlib.suppress(ValueError):  # a port that is none
        parts = urlsplit(address)
        sound = parts.port is None or parts.port >= 0
        if sound and parts.scheme in ("mqtt", "mqtts") and parts.hostname and parts.path.lstrip("/"):
            return parts
    _, user, shown = address.rpartition("@")  # what ends a host elsewhere may be in a password here
    remedy = "give mqtt://host:1883/topic, or mqtts://"
    raise InputError(f"{shown}: {remedy}" + "; in a password / is %2F, # %23 and ? %3F" * bool(user))


def _published(info: MQTTMessageInfo) -> bool:
    """paho raises for a message that was queued while there was no connection; it is on its way then."""
    try:
        return bool(info.is_published())
    except (RuntimeError, ValueError):
        return bool(info._published)
