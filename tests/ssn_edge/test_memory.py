"""A camera loop of many frames: nothing grows."""

import os
import tracemalloc

import numpy as np
import pytest
import tiny

from ssn_edge import Detector, backends

FRAMES = 20_000
LEFT = FRAMES // 10
"""Warm-up: pools of the allocator and of the library fill first."""

KINDS = {
    "BGR": np.random.default_rng(0).integers(0, 256, (256, 384, 3), np.uint8),
    "grey of 16 bits": np.random.default_rng(0).integers(0, 1 << 16, (256, 384), np.uint16),
}


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", backends.installed())
def test_no_frame_leaves_memory_behind(tmp_path, monkeypatch, name, kind):
    monkeypatch.setattr(tiny, "HEIGHT", 128)  # a map of 96 KiB, far above Python's own small change
    monkeypatch.setattr(tiny, "WIDTH", 192)
    frame = KINDS[kind]
    map_out = np.empty((tiny.HEIGHT, tiny.WIDTH), np.float32)
    mask_out = np.empty((tiny.HEIGHT, tiny.WIDTH), np.uint8)
    with Detector.open(tiny.write_model(tmp_path / "m.onnx"), name) as detector:
        for _ in range(LEFT):
            detector.infer_into(frame, map_out, mask_out)
        before = resident()
        for _ in range(FRAMES - 2 * LEFT):
            detector.infer_into(frame, map_out, mask_out)
        grown = resident() - before
        tracemalloc.start()
        try:
            detector.infer_into(frame, map_out, mask_out)
            held = tracemalloc.take_snapshot()
            tracemalloc.reset_peak()
            floor = tracemalloc.get_traced_memory()[0]
            for _ in range(LEFT):
                detector.infer_into(frame, map_out, mask_out)
            peak = tracemalloc.get_traced_memory()[1] - floor
            after = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
    ours = [one for one in after.compare_to(held, "filename") if "ssn_edge" in str(one.traceback)]
    added = sum(one.size_diff for one in ours)
    assert grown < 1 << 20, f"{grown} bytes more resident after {FRAMES} frames"
    assert added < 2048, f"{added} bytes of Python's left by {LEFT} frames"
    # numpy tells tracemalloc of its arrays: none of the frame's, the map's or the mask's size is made
    assert peak < map_out.nbytes, f"{peak} bytes at once"
