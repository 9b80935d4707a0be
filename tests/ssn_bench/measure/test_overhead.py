"""What our own code costs, measured on a library of known length."""

import json

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

from ssn_bench.cli import main
from ssn_bench.measure import overhead


@pytest.fixture
def model(tmp_path):
    return tiny.write_bundle(tmp_path / "m.ssn")


def test_overhead_of_a_library_of_known_length(model, monkeypatch):
    """Where the library sleeps, nearly all of a frame is the library's."""
    import time

    settings = overhead.OverheadSettings((48, 64), 0.5)
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
