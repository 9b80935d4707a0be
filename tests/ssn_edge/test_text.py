"""Short texts: one line whatever a library says, and no password in what is shown."""

import pytest

from ssn_edge.text import one_line, without_password


def test_one_line():
    assert one_line("a\n  b\t c\r\n") == "a b c"
    assert len(one_line("x" * 1000)) == 160 and one_line(None, 3) == "Non"


@pytest.mark.parametrize("address, shown", [
    ("rtsp://camera.local/stream", "rtsp://camera.local/stream"),
    ("rtsp://user:secret@camera.local:554/a@b", "rtsp://camera.local:554/a@b"),
    ("http://user@host", "http://host"),
    ("rtspsrc location=rtsp://h/s user-pw=secret ! sink", "rtspsrc location=rtsp://h/s user-pw=... ! sink"),
    ("photos/a.png", "photos/a.png"),
])
def test_no_password_is_shown(address, shown):
    assert without_password(address) == shown and "secret" not in without_password(address)
