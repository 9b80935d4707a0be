"""The comparison of plans, on a small model, and the alternating clock."""

import json

import pytest

pytest.importorskip("torch", reason="plans are traced with torch")

from click.testing import CliRunner  # noqa: E402

from ssn_bench.cli import main  # noqa: E402
from ssn_bench.methods import plan_comparison  # noqa: E402
from ssn_export.graph import plan_timing  # noqa: E402


def test_plans_table(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_comparison, "PLANS", {k: plan_comparison.PLANS[k] for k in ("none", "full")})
    out = tmp_path / "plans.json"
    arguments = ["resnet18", "--plans", "--size", "64x64", "--half-seeds", "1", "--step", "--out", str(out)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(out.read_text())
    assert document["gmacs"]["full"] < 0.5 * document["gmacs"]["none"]
    for part in ("whole", "heads"):
        for rows in document[part].values():
            assert {"none", "full"} <= set(rows)
            assert all(row["lower_quartile_ms"] <= row["median_ms"] for row in rows.values())
    errors = document["float16"][0]
    assert 1e-5 < errors["full"] < 1e-1 and 1e-5 < errors["none"] < 1e-1
    assert set(document["training_step"]["rows"]) == {"plain", "fast"}
    assert out.with_suffix(".png").stat().st_size > 5000
    assert "1.00x" in result.output and "GMAC" in result.output


def test_plans_of_nothing():
    result = CliRunner().invoke(main, ["nowhere", "--plans"])
    assert result.exit_code == 2 and "neither a run folder" in result.output


def test_alternation():
    calls = []
    rows = plan_timing.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=6)
    assert calls == ["a", "a", "b", "b"] * 8  # two rounds of warm-up, each call twice
    assert rows["a"]["repetitions"] == 6
    assert plan_timing.alternate({"a": lambda: None}, rounds=50, budget_s=0)["a"]["repetitions"] == 5
