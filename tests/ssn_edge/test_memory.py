"""A camera loop of many frames: nothing grows, and no array of a frame's size is made."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import real_providers
import tiny

from ssn_edge import Detector, backends
from ssn_edge.frames.placement import View

NAMES = [*backends.installed(), *(name for name in real_providers.HERE if "openvino" in name)]
VIEWS = {"turned": View(rotate=90, flip="vertical"), "tiles": View(tile=(200, 300), overlap=20)}
KINDS = {
    "BGR": np.random.default_rng(0).integers(0, 256, (256, 384, 3), np.uint8),
    "grey of 16 bits": np.random.default_rng(0).integers(0, 1 << 16, (256, 384), np.uint16),
}
FRAMES = 300
HEIGHT, WIDTH = 128, 192
"""The model's: a map of 96 KiB is far above Python's own small change."""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "HEIGHT", HEIGHT)
    monkeypatch.setattr(tiny, "WIDTH", WIDTH)
    return tiny.write_model(tmp_path / "m.onnx")


PROGRAM = """
import ctypes, json, os, sys
import numpy as np
from ssn_edge import Detector
trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: 0)
path, backend, window, windows, leak = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
frame = np.random.default_rng(0).integers(0, 256, (256, 384, 3), np.uint8)
sizes, kept = [], []
with Detector.open(path, backend) as detector:
    map_out, mask_out = (np.empty(detector.info.size_hw, kind) for kind in (np.float32, np.uint8))
    for number in range(1, 2 * windows * window + 1):
        detector.infer_into(frame, map_out, mask_out)
        if leak:
            kept.append(np.ones(leak, np.uint8))
        if number >= windows * window and number % window == 0:
            trim(0)  # what the library freed when it opened would hide a leak of megabytes
            with open("/proc/self/statm") as file:
                sizes.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
print(json.dumps(sizes))
"""
WINDOW, WINDOWS = 400, 8
"""Frames between two readings, and how many such windows are judged: the second half of all frames, since
pools of allocator and library fill in the first."""

GROWTH = 64
"""Bytes a frame that are too many; a leak of one small object leaves more."""


def growth(sizes, window=WINDOW):
    """Bytes a frame, by the median of the windows between readings: an allocator that takes a piece more
    once, whatever its size, moves a single one of them, and a leak all."""
    return float(np.median(np.diff(sizes))) / window


@pytest.mark.parametrize("noise", [0, 8192])
def test_growth_tells_a_step_from_a_leak(noise):
    places = np.arange(WINDOWS + 1)
    base = 80_000_000 + np.random.default_rng(0).integers(-noise, noise + 1, len(places))
    for step in range(1, WINDOWS + 1):
        late = 724_000 * (places >= step)
        assert abs(growth(base + late)) < GROWTH, "one step, then flat"
        pages = (200 * WINDOW * places) // 4096 * 4096  # as the system counts
        assert growth(base + pages) > GROWTH and growth(base + late + pages) > GROWTH


def resident(path, name, leak=0):
    """Bytes after every window of the second half, read in a process of its own: what other tests'
    libraries do in the background is not the detector's."""
    root = str(Path(__file__).resolve().parents[2])
    arguments = [sys.executable, "-c", PROGRAM, path, name, WINDOW, WINDOWS, leak]
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([str(word) for word in arguments], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout)
    assert len(sizes) == WINDOWS + 1
    return sizes


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc")
@pytest.mark.parametrize("name", NAMES)
def test_resident_memory_stays(path, name):
    sizes = resident(path, name)
    assert growth(sizes) < GROWTH, sizes


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc")
@pytest.mark.parametrize("name", backends.installed())
def test_a_leak_is_seen(path, name):
    """256 bytes a frame, far from a map or an image."""
    sizes = resident(path, name, leak=256)
    assert growth(sizes) > GROWTH, sizes


@pytest.mark.skipif(not hasattr(tracemalloc, "reset_peak"), reason="this Python's tracemalloc resets no peak")
@pytest.mark.parametrize("kind", [*KINDS, *VIEWS])
@pytest.mark.parametrize("name", NAMES)
def test_no_array_is_made_for_a_frame(path, name, kind):
    """numpy tells tracemalloc of its arrays: none of the frame's, the map's or the mask's size is made."""
    frame = KINDS.get(kind, KINDS["BGR"])
    with Detector.open(path, name, view=VIEWS.get(kind)) as detector:
        shape = detector.placement(frame.shape[:2]).map_hw
        map_out, mask_out = np.empty(shape, np.float32), np.empty(shape, np.uint8)
        for _ in range(20):
            detector.infer_into(frame, map_out, mask_out)
        tracemalloc.start()
        try:
            for _ in range(50):
                detector.infer_into(frame, map_out, mask_out)
            held = tracemalloc.take_snapshot()
            tracemalloc.reset_peak()
            floor = tracemalloc.get_traced_memory()[0]
            for _ in range(FRAMES):
                detector.infer_into(frame, map_out, mask_out)
            peak = tracemalloc.get_traced_memory()[1] - floor
            after = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
    ours = [one for one in after.compare_to(held, "filename") if "ssn_edge" in str(one.traceback)]
    added = sum(one.size_diff for one in ours)
    # the smallest object that a frame could leave behind is of 28 bytes
    assert added / FRAMES < 16, f"{added} bytes of Python's left by {FRAMES} frames"
    assert peak < 4 * HEIGHT * WIDTH, f"{peak} bytes at once"
