"""Passwords and tokens that are not in the process list."""

import pytest
from commands import fails
from commands import ssn_run as run

from ssn_edge.line.live import LiveView


def test_passwords_from_the_environment_and_files(model, photos, tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("rtsp://line:hunter2@127.0.0.1:9/stream\nsecond line\n")
    secret.chmod(0o600)
    monkeypatch.setenv("CAMERA", "rtsp://line:hunter2@127.0.0.1:9/stream")
    for source in ("env:CAMERA", f"@{secret}"):
        result = run(model, source)
        assert result.exit_code == 2 and "rtsp://127.0.0.1:9/stream: does not open" in result.output
        assert "hunter2" not in result.output and "hint" not in result.output
        assert "warning" not in result.output
    secret.chmod(0o644)
    assert f"chmod 600 {secret}" in run(model, f"@{secret}").output
    result = run(model, "rtsp://line:hunter2@127.0.0.1:9/stream")
    assert "hint: SOURCE" in result.output and "env:NAME or @FILE" in result.output
    assert "hunter2" not in result.output
    monkeypatch.chdir(photos)
    (photos / "a.png").rename("@a.png")
    assert "1 frame: 1 OK" in run(model, "./@a.png").output


def test_tokens_from_the_environment_and_files(model, photos, tmp_path, monkeypatch):
    secret = tmp_path / "token"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    monkeypatch.setenv("TOKEN", "hunter2")
    given, real = [], LiveView.__init__

    def opened(self, *arguments):
        given.append(arguments[-1])
        real(self, *arguments)

    monkeypatch.setattr(LiveView, "__init__", opened)
    for token in ("env:TOKEN", f"@{secret}"):
        result = run(model, photos, "--serve", 0, "--token", token)
        assert result.exit_code == 0 and given[-1] == "hunter2", result.output
        assert "hunter2" not in result.output and "hint" not in result.output
    assert "hint: --token" in run(model, photos, "--serve", 0, "--token", "hunter2").output
    run(model, photos, "--serve", 0)
    assert given[-1] is None


def test_secrets_that_are_not_there(model, photos, tmp_path, monkeypatch):
    monkeypatch.delenv("NOTHING", raising=False)
    monkeypatch.setenv("PASSWORD", "hunter2")
    monkeypatch.setenv("SLASH", "rtsp://line:hunter2/x@127.0.0.1/stream")
    for name, content in (("empty", b"\nhunter2"), ("long", b"hunter2" * 1000), ("latin", b"hunter2\xff"),
                          ("nul", b"hunter2\0")):
        (tmp_path / name).write_bytes(content)
    for given, text in (
        ("env:NOTHING", "not set"), ("env:PASSWORD", "no address"), ("env:SLASH", "%2F"),
        ("@", "Is a directory"),
        (f"@{tmp_path / 'none'}", "No such file"), (f"@{tmp_path / 'empty'}", "first line"),
        (f"@{tmp_path / 'long'}", "first line"), (f"@{tmp_path / 'latin'}", "not UTF-8"),
        (f"@{tmp_path / 'nul'}", "first line"), ("@/dev/zero", "first line"),
    ):
        for arguments in ((given,), (photos, "--mqtt", given)):
            line = fails(model, *arguments)
            assert text in line and "hunter2" not in line and given in line, line


def test_mqtt_password_from_a_file(model, photos, tmp_path):
    pytest.importorskip("paho.mqtt.client", reason="the [mqtt] extra is not installed")
    (tmp_path / "address").write_text("mqtt://line:hunter2@127.0.0.1:9/x\n")
    result = run(model, photos, "--mqtt", f"@{tmp_path / 'address'}")
    assert "127.0.0.1:9: no MQTT broker" in result.output and "hunter2" not in result.output
    assert "hint: --mqtt" in run(model, photos, "--mqtt", "mqtt://line:hunter2@127.0.0.1:9/x").output
