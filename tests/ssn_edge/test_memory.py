"""A camera loop of many frames: nothing grows."""

import os
import tracemalloc

import numpy as np
import pytest
import tiny

from ssn_edge import Detector, backends
from ssn_edge.geometry import View

FRAMES = {"BGR": 20_000}
OTHERS = 2_000

VIEWS = {"turned": View(rotate=90, flip="vertical"), "tiles": View(tile=(200, 300), overlap=20)}
KINDS = {
    "BGR": np.random.default_rng(0).integers(0, 256, (256, 384, 3), np.uint8),
    "grey of 16 bits": np.random.default_rng(0).integers(0, 1 << 16, (256, 384), np.uint16),
}


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc")
@pytest.mark.parametrize("kind", [*KINDS, *VIEWS])
@pytest.mark.parametrize("name", backends.installed())
def test_no_frame_leaves_memory_behind(tmp_path, monkeypatch, name, kind):
    monkeypatch.setattr(tiny, "HEIGHT", 128)  # a map of 96 KiB, far above Python's own small change
    monkeypatch.setattr(tiny, "WIDTH", 192)
    frame = KINDS.get(kind, KINDS["BGR"])
    path = tiny.write_model(tmp_path / "m.onnx")
    with Detector.open(path, name, view=VIEWS.get(kind)) as detector:
        shape = detector.placement(frame.shape[:2]).map_hw
        map_out, mask_out = np.empty(shape, np.float32), np.empty(shape, np.uint8)
        frames = FRAMES.get(kind, OTHERS)
        sizes = []
        for number in range(frames):
            detector.infer_into(frame, map_out, mask_out)
            if number % (frames // 20) == 0:
                sizes.append(resident())
        tracemalloc.start()
        try:
            detector.infer_into(frame, map_out, mask_out)
            held = tracemalloc.take_snapshot()
            tracemalloc.reset_peak()
            floor = tracemalloc.get_traced_memory()[0]
            for _ in range(frames // 10):
                detector.infer_into(frame, map_out, mask_out)
            peak = tracemalloc.get_traced_memory()[1] - floor
            after = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
    grown = np.median(sizes[-5:]) - np.median(sizes[5:10])  # pools of allocator and library fill first
    ours = [one for one in after.compare_to(held, "filename") if "ssn_edge" in str(one.traceback)]
    added = sum(one.size_diff for one in ours)
    if kind in FRAMES:  # the others are too short: a megabyte of pools more or less is noise
        assert grown < 1 << 19, f"{grown} bytes more resident after {frames} frames"
    assert added < 2048, f"{added} bytes of Python's left by {frames // 10} frames"
    # numpy tells tracemalloc of its arrays: none of the frame's, the map's or the mask's size is made
    assert peak < 4 * tiny.HEIGHT * tiny.WIDTH, f"{peak} bytes at once"
