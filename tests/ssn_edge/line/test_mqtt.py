"""Messages to a broker: one of our own that refuses, is deaf or forgets, and mosquitto where there is one."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading

import numpy as np
import pytest
import waiting

from ssn_edge import InputError
from ssn_edge.errors import BackendError
from ssn_edge.line import mqtt, sinks, stream
from ssn_edge.sources import Frame

paho = pytest.importorskip("paho.mqtt.client", reason="the [mqtt] extra is not installed")

DARK, BRIGHT = np.full((64, 96, 3), 20, np.uint8), np.full((64, 96, 3), 250, np.uint8)
ACCEPTED, NOT_AUTHORIZED = 0, 5
CONNECT, PUBLISH, PINGREQ, DISCONNECT = 1, 3, 12, 14


@pytest.fixture
def result(detector):
    detections = [detector.detect(DARK), detector.detect(BRIGHT)]
    frame = Frame("frame", DARK, 0.0)
    return lambda number: stream.Result(number, frame, detections[number % 2], 0.0, 1.0)


class Broker:
    """The least of MQTT 3.1.1. ``answer``: the code of its CONNACK, None for silence; ``acknowledged``: so
    many messages get their PUBACK."""

    def __init__(self, answer=ACCEPTED, acknowledged=1000):
        self.answer, self.acknowledged = answer, acknowledged
        self.got, self.users, self.answers = [], [], []
        self._clients, self._server = [], socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.address = f"mqtt://line:p%40ss@127.0.0.1:{self.port}/line/1"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.drop()

    def drop(self):
        while self._clients:
            with contextlib.suppress(OSError):  # it has left by itself
                self._clients.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, client.makefile("rb") as file:
            try:
                while self._packet(client, file):
                    pass
            except OSError:
                return

    def _packet(self, client, file):
        """Whether another may follow."""
        head = file.read(1)
        length = shift = 0
        while head:
            (byte,) = file.read(1)
            length, shift = length | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        body = file.read(length)
        kind = head[0] >> 4 if head else DISCONNECT
        if kind == CONNECT and self.answer is not None:
            self.users.append(body[-len("p@ss"):])
            client.sendall(bytes([0x20, 2, 0, self.answer]))
            self.answers.append(self.answer)
            return self.answer == ACCEPTED
        if kind == PUBLISH:
            place = 2 + int.from_bytes(body[:2], "big")
            self.got.append((body[2:place].decode(), json.loads(body[place + 2 :])))
            if len(self.got) <= self.acknowledged:
                client.sendall(b"\x40\x02" + body[place : place + 2])
        if kind == PINGREQ:
            client.sendall(b"\xd0\x00")
        return kind != DISCONNECT


def no_client_is_left():
    return not [thread for thread in threading.enumerate() if thread.name.startswith("paho")]


def test_records_arrive(detector):
    with Broker() as broker:
        assert stream.run([DARK, BRIGHT], detector, [sinks.Mqtt(broker.address)]).complete
        assert stream.run([DARK, BRIGHT], detector, [sinks.Mqtt(broker.address, defects_only=True)]).complete
        assert [(topic, told["number"], told["is_defect"]) for topic, told in broker.got] == [
            ("line/1", 0, False), ("line/1", 1, True), ("line/1", 1, True),
        ]
        assert broker.users == [b"p@ss"] * 2 and no_client_is_left()


def test_a_wrong_password_ends_the_start():
    with Broker(NOT_AUTHORIZED) as broker:
        with pytest.raises(InputError, match="Not authorized") as caught:
            sinks.Mqtt(broker.address)
        assert f"127.0.0.1:{broker.port}" in str(caught.value) and "p@ss" not in str(caught.value)
        assert "check user and password" in str(caught.value)
    assert no_client_is_left()


def test_what_does_not_answer_is_no_broker(monkeypatch):
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.1)
    with Broker(answer=None) as broker, pytest.raises(InputError, match="no MQTT broker answers within"):
        sinks.Mqtt(broker.address)
    assert no_client_is_left()


@pytest.mark.parametrize("acknowledged", [0, 10])
def test_every_message_that_did_not_arrive_is_counted(result, monkeypatch, acknowledged):
    monkeypatch.setattr(mqtt, "FLUSH_S", 0.5)
    with Broker(acknowledged=acknowledged) as broker:
        sink = sinks.Mqtt(broker.address)
        for number in range(30):
            sink.write(result(number))
        waiting.until(lambda: len(broker.got) == acknowledged + 20)  # paho has 20 on their way at a time
        with pytest.raises(BackendError, match="did not reach the broker") as caught:
            sink.close()
    assert getattr(caught.value, "count", 1) == 30 - acknowledged


def test_a_password_changed_meanwhile_is_told_and_the_line_goes_on(result, monkeypatch, caplog):
    monkeypatch.setattr(mqtt, "RETRY_S", (0.05, 0.05))
    monkeypatch.setattr(mqtt, "FLUSH_S", waiting.PATIENCE_S)
    with Broker() as broker:
        sink = sinks.Mqtt(broker.address)
        sink.write(result(0))
        waiting.until(lambda: len(broker.got) == 1)
        broker.answer = NOT_AUTHORIZED
        broker.drop()
        waiting.until(lambda: broker.answers.count(NOT_AUTHORIZED) >= 3)
        waiting.until(lambda: caplog.messages)
        assert ["Not authorized" in text and "127.0.0.1" in text for text in caplog.messages] == [True]
        sink.write(result(1))
        broker.answer = ACCEPTED
        sink.close()
        assert {told["number"] for _, told in broker.got} == {0, 1}


@pytest.mark.parametrize("address, text", [
    ("http://x/y", "x/y: give mqtt://"), ("mqtt://127.0.0.1", "give mqtt://"), ("mqtt://h:²/t", "give mqtt://"),
    ("mqtt://127.0.0.1:9/topic", "no MQTT broker"), ("mqtt://line:p/ss@host/topic", "^host/topic: .*%2F"),
    ("mqtt://line:p#ss@host/topic", "^host/topic: .*%23"),
])
def test_wrong_brokers(address, text):
    with pytest.raises(InputError, match=text):
        sinks.Mqtt(address)


@pytest.fixture
def mosquitto(tmp_path):
    """Starts the broker with the given lines of its configuration."""
    broker = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    if broker is None:
        pytest.skip("mosquitto, an MQTT broker, is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = []

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def start(anonymous=True):
        file = tmp_path / "mosquitto.conf"
        file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous {str(anonymous).lower()}\n")
        running.append(subprocess.Popen([broker, "-c", str(file)], stderr=subprocess.DEVNULL))
        waiting.until(listens)
        return f"mqtt://127.0.0.1:{port}/line/1"

    def stop():
        while running:
            process = running.pop()
            process.terminate()
            process.wait()

    start.stop, start.port = stop, port
    yield start
    stop()


def test_mosquitto_refuses_whom_it_does_not_know(mosquitto):
    address = mosquitto(anonymous=False)
    with pytest.raises(InputError, match="Not authorized"):
        sinks.Mqtt(address)
    assert no_client_is_left()


def test_through_a_broker_that_restarts(detector, mosquitto, monkeypatch):
    monkeypatch.setattr(mqtt, "RETRY_S", (0.05, 0.05))
    monkeypatch.setattr(mqtt, "FLUSH_S", waiting.PATIENCE_S)
    address, got, subscribed = mosquitto(), {}, []
    listener = paho.Client(paho.CallbackAPIVersion.VERSION2)
    listener.on_connect = lambda *_: listener.subscribe("line/1", qos=1)
    listener.on_subscribe = lambda *_: subscribed.append(True)

    def hear(_, __, message):
        told = json.loads(message.payload)
        got[told["number"]] = told["is_defect"]

    listener.on_message = hear
    listener.reconnect_delay_set(0.05, 0.05)
    listener.connect("127.0.0.1", mosquitto.port)
    listener.loop_start()
    waiting.until(lambda: subscribed)

    def frames():
        for number in range(30):
            if number == 10:
                waiting.until(lambda: set(range(10)) <= set(got))
                mosquitto.stop()
            if number == 20:
                mosquitto()
                waiting.until(lambda: len(subscribed) == 2)
            yield BRIGHT if number % 2 else DARK

    try:
        summary = stream.run(frames(), detector, [sinks.Mqtt(address)])
        waiting.until(lambda: set(range(20, 30)) <= set(got))
    finally:
        listener.disconnect()
        listener.loop_stop()
    assert summary.failed == {"mqtt": 0}
    # What waited while the broker was down may reach a broker that nobody listens to yet.
    assert all(is_defect == bool(number % 2) for number, is_defect in got.items())
