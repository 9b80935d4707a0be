"""Roofline bounds."""

from types import SimpleNamespace

import pytest

pytest.importorskip("onnx", reason="stages are read from ONNX files")

from ssn_bench.profile import roofline  # noqa: E402
from ssn_export.work.stages import Work  # noqa: E402


def test_bound_is_the_slower_of_arithmetic_and_traffic():
    peak = roofline.Peak(macs=1e12, bytes=1e9)
    assert roofline.bound_ms([Work(10**9, 1)], peak, 2) == pytest.approx(1)
    assert roofline.bound_ms([Work(1, 10**6)], peak, 2) == pytest.approx(2)
    assert roofline.bound_ms([Work(10**9, 1), Work(1, 10**6)], peak, 2) == pytest.approx(3)


def test_predictions_take_the_data_sheets_rates_of_half():
    """A T4: 65 TFLOPS in half, two operations a product; 320 GB/s, two bytes an element."""
    works = {"a": Work(65 * 10**9, 1), "b": Work(1, 320 * 10**6)}
    found = roofline.predict(SimpleNamespace(work=works), ["T4"])
    assert found == {"T4": pytest.approx(2 + 2)}
    everywhere = roofline.predict(SimpleNamespace(work=works), ["all"])
    assert {"V100S", "Orin-NX-16GB", "RTX-A2000"} <= set(everywhere)
