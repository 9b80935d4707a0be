"""What addresses name, and stops that end every wait."""

import os
import sys
import threading

import cv2
import numpy as np
import pytest
from waiting import PATIENCE_S, in_thread, until

from ssn_edge import InputError, sources
from ssn_edge.frames import pixel_formats
from ssn_edge.line import stream
from ssn_edge.line.sinks import stem_of
from ssn_edge.sources import shared_memory
from ssn_edge.text import without_password

FRAME = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def alive():
    return [thread for thread in threading.enumerate() if thread.name == "ssn-capture"]


@pytest.mark.parametrize("kind", ["watch", "fifo", "fifo with an idle writer", "stdin", "shm"])
def test_a_stop_ends_every_wait(detector, tmp_path, monkeypatch, kind, shared):
    """No thread is left behind by a source that nothing comes from."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    held = []
    if kind == "watch":
        spec = f"watch:{tmp_path}"
    elif kind == "shm":
        held.append(shared_memory.Writer(shared, pixel_formats.checked("BGR", 40, 60)))
        spec = f"shm:{shared}"
    elif kind == "stdin":
        reads, writes = os.pipe()
        held += [os.fdopen(reads, "rb"), os.fdopen(writes, "wb")]
        monkeypatch.setattr(sys, "stdin", held[0])
        spec = "raw:40x60xBGR:-"
    else:
        spec = f"raw:40x60xBGR:{fifo}"
        if kind.endswith("writer"):  # that gave half a frame
            held.append(os.fdopen(os.open(fifo, os.O_RDWR), "wb", buffering=0))
            held[0].write(FRAME.tobytes()[:99])
    stop, summary = threading.Event(), stream.Summary()
    thread = in_thread(lambda: stream.run(spec, detector, stop=stop, summary=summary))
    until(alive)
    stop.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive() and summary.captured == 0
    until(lambda: not alive(), 10)
    for one in held:
        one.close()


def test_passwords_stay_inside(caplog):
    address = "rtsp://admin:secret@127.0.0.1:9/stream"
    assert "secret" not in sources.find(address).name
    with pytest.raises(InputError) as caught:
        sources.open_source(address)
    assert "secret" not in str(caught.value) and "rtsp://127.0.0.1:9/stream" in str(caught.value)
    assert without_password("rtsp://a:p@ss@host/x") == "rtsp://host/x"
    assert without_password("/dev/video0") == "/dev/video0"


def test_frames_of_one_name_are_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "1.png"), FRAME)
    names = [frame.name for frame in sources.open_source(str(tmp_path / "**" / "*.png"))]
    assert len({stem_of(name) for name in names}) == 2
    assert [stem_of(name) for name in ("a.png", "line.v2-000001", "cam.1-000002")] == [
        "a", "line.v2-000001", "cam.1-000002",
    ]


@pytest.mark.parametrize("spec, text", [
    ("raw:40xBGR:x", "give raw:HEIGHT"), ("raw:40x60xRGB:x", "pixel format 'RGB'"),
    ("watch:none", "no such folder"), ("raw:41x60xNV12:x", "even sizes"),
    ("raw:40x60xBGR:none", "mkfifo"), ("shm:none-there", "start its writer"),
    ("²", "no such file or folder"), ("raw:4²x60xBGR:x", "give raw:HEIGHT"), ("٣", "no such file or folder"),
    ("9999999999", "no such file"), ("raw:4x" + "9" * 5000 + "xBGR:x", "give raw:HEIGHT"),
    ("raw:40x60xBGR:/", "no such pipe or file"), ("shm:a\0b", "plain name"),
])
def test_wrong_addresses(spec, text):
    with pytest.raises(InputError, match=text):
        sources.open_source(spec)
