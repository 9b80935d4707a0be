"""Roofline bounds."""

import pytest

torch = pytest.importorskip("torch", reason="methods are built with torch")

from ssn_bench.profile import roofline  # noqa: E402
from ssn_bench.profile.stages import Work  # noqa: E402


def test_bound_is_the_slower_of_arithmetic_and_traffic():
    peak = roofline.Peak(macs=1e12, bytes=1e9)
    assert roofline.bound_ms([Work(10**9, 1)], peak, 2) == pytest.approx(1)
    assert roofline.bound_ms([Work(1, 10**6)], peak, 2) == pytest.approx(2)
    assert roofline.bound_ms([Work(10**9, 1), Work(1, 10**6)], peak, 2) == pytest.approx(3)
