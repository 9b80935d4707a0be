"""The soak finds what it looks for, on a short run; the overhead is what a slow model says it is."""


import pytest
import tiny

from ssn_bench.soak import faults, line_soak
from ssn_edge import Detector


@pytest.fixture
def model(tmp_path):
    return tiny.write_bundle(tmp_path / "m.ssn")


@pytest.fixture
def short(monkeypatch):
    """Every fault, at a tenth of its length."""
    names = {"DEAD_S": 0.5, "FULL_S": 0.3, "SLOW_S": 0.8, "HANG_S": 0.5, "STALL_S": 0.25}
    monkeypatch.setattr(line_soak, "TERMINATIONS", 1)
    for name, value in {**names, "RETRY_S": (0.1, 0.3)}.items():
        monkeypatch.setattr(faults, name, value)


def test_short_soak_keeps_its_promises(model, tmp_path, short):
    with Detector.open(model, "onnxruntime") as detector:
        line = line_soak.Line(detector, tmp_path, 30, 8)
        line.run(lambda share: None)
    found = line_soak.checks(line, tmp_path)
    assert not [row for row in found if not row.held and "memory" not in row.what]  # 8 s are too few for that
    assert set(line.camera.happened) == set(faults.FAULTS)


def test_soak_notices_what_is_lost(model, tmp_path, short, monkeypatch):
    """A sink that swallows a line, and a stream that miscounts, are caught."""
    write = faults.Disk.write
    monkeypatch.setattr(faults.Disk, "write", lambda self, r: r.number == 20 or write(self, r))
    earlier = {name: 0.1 + share / 2 for name, share in faults.FAULTS.items()}
    monkeypatch.setattr(faults, "FAULTS", earlier)
    with Detector.open(model, "onnxruntime") as detector:
        line = line_soak.Line(detector, tmp_path, 30, 5)
        line.run(lambda share: None)
    line.summary.captured += 1
    lost = {row.what for row in line_soak.checks(line, tmp_path) if not row.held}
    assert {"all other lines whole and in order", "captured = judged + dropped + broken"} <= lost


def test_terminated_programs(model, tmp_path, short):
    found = line_soak.terminate(model, tmp_path, "onnxruntime")
    assert all(row.held for row in found), found
    assert [row.seen for row in found][-1] == "300"
