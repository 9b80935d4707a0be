"""The soak finds what it looks for, on a short run; the overhead is what a slow model says it is."""

import json

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

from ssn_bench.cli import main
from ssn_bench.measure import overhead
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


def test_overhead_of_a_library_of_known_length(model, monkeypatch):
    """Where the library sleeps, nearly all of a frame is the library's."""
    import time

    settings = overhead.Settings((48, 64), 0.5)
    quick = overhead.bench(model, "onnxruntime", settings, lambda share: None)
    timed = overhead.Timed._timed

    def slow(self, *args, **kwargs):
        call, self._call = self._call, lambda *a, **k: (time.sleep(0.02), call(*a, **k))[1]
        try:
            return timed(self, *args, **kwargs)
        finally:
            self._call = call

    monkeypatch.setattr(overhead.Timed, "_timed", slow)
    found = overhead.bench(model, "onnxruntime", settings, lambda share: None)
    for part in found["parts"].values():
        assert part["share"][1] < 0.05 and part["whole_ms"] > 20
        assert 0 < part["own_ms"][1] < 2
    assert quick["parts"]["infer_into"]["share"][1] > 0.1  # a model of next to nothing


def test_overhead_on_the_command_line(model, tmp_path):
    out = tmp_path / "overhead.json"
    arguments = [str(model), "--overhead", "--backend", "onnxruntime", "--budget", "1", "--out", str(out)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0 and "% of a frame" in result.output, result.output
    assert np.isfinite(json.loads(out.read_text())["parts"]["detect"]["own_ms"]).all()
    wrong = CliRunner().invoke(main, [*arguments, "--c", str(tmp_path / "none")])
    assert wrong.exit_code == 2 and "make c builds it" in wrong.output
