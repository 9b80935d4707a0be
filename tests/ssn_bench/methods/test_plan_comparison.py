"""The comparison of plans, on a small model, and the alternating clock."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="plans are traced with torch")

from click.testing import CliRunner  # noqa: E402
from random_model import random_model  # noqa: E402

from ssn_bench.cli import main  # noqa: E402
from ssn_bench.methods import plan_comparison, random_models  # noqa: E402
from ssn_edge.backends.onnxruntime_backend import inference_session  # noqa: E402
from ssn_export.targets import plan_timing  # noqa: E402
from ssn_train.network.design import Design  # noqa: E402


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
    for rows in document["compiled"].values():  # none where NVIDIA's compiler is not installed
        assert set(rows) == {"none", "full"} and all(row["kernels"] > 20 for row in rows.values())
    errors = document["float16"][0]
    assert 1e-5 < errors["full"] < 1e-1 and 1e-5 < errors["none"] < 1e-1
    assert set(document["training_step"]["rows"]) == {"plain", "fast"}
    assert out.with_suffix(".png").stat().st_size > 5000
    assert "1.00x" in result.output and "GMAC" in result.output


def test_heads_alone_of_three_levels_without_classification():
    """The features of a photo give what the model makes of them."""
    model, backbone = random_model("resnet18", (64, 96), Design(("8", "16", "32"), (9, 10), 2, 9, 0))
    subject = random_models.Subject(model, backbone, [0.0] * sum(model.channels), "three", False)
    session = inference_session(plan_comparison._trace_heads(subject, "full").SerializeToString())
    assert [one.name for one in session.get_inputs()] == ["level0", "level1", "level2"]
    with torch.no_grad():
        features = model.features(torch.randn(1, 3, 64, 96))
        logits, score = model.discriminator(*model.head_inputs(features))
    ours = session.run(None, {f"level{n}": level.numpy() for n, level in enumerate(features)})
    np.testing.assert_allclose(ours[0], logits[:, 0], atol=1e-4 * float(logits.abs().max()))
    np.testing.assert_allclose(ours[1], score, rtol=1e-4)
    rows = plan_comparison._steps(subject)["rows"]
    assert set(rows) == {"plain", "fast"}


def test_plans_of_nothing():
    result = CliRunner().invoke(main, ["nowhere", "--plans"])
    assert result.exit_code == 2 and "neither a run folder" in result.output


def test_alternation():
    calls = []
    rows = plan_timing.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=6)
    assert calls == ["a", "a", "b", "b"] * 8  # two rounds of warm-up, each call twice
    assert rows["a"]["repetitions"] == 6
    assert plan_timing.alternate({"a": lambda: None}, rounds=50, budget_s=0)["a"]["repetitions"] == 5
