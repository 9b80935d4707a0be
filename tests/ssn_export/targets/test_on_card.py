"""Plans timed as engines on a card, over the stand-in that records."""

import hashlib

import numpy as np
import onnx
import pytest
import recording_rtx
import tiny

from ssn_edge.errors import BackendError
from ssn_edge.model.onnx_metadata import read_info
from ssn_export.targets import on_card, plan_timing
from ssn_export.targets.target import Target
from ssn_export.tensorrt import engine


@pytest.fixture
def rtx(monkeypatch):
    yield from recording_rtx.stood_in(monkeypatch)


@pytest.fixture
def built(rtx, monkeypatch):
    """What was asked to be built, by plan; an engine is its description in bytes."""
    requests = {}

    def build(request, log):
        info = read_info(request.model)
        core = tiny.engine_info(
            model=info, product="rtx", tensorrt="1.7.1.116", compute_capability="8.6", device="", batch=1,
            compute_capabilities=request.capabilities,
        )
        plan = b"vtrt...." + core.to_name().encode() + b"...."
        requests[info.plan] = request
        return engine.Built(plan, core, info, hashlib.sha256(plan).hexdigest(), {})

    monkeypatch.setattr(on_card.engine, "build", build)
    monkeypatch.setattr(on_card.builder, "targets", lambda product: ["8.6", "8.9"])
    return requests


def models(folder):
    """Two graphs with their descriptions."""
    return {
        plan: onnx.load(tiny.write_model(folder / f"{plan}.onnx", tiny.info(plan=plan).to_json()))
        for plan in ("none", "full")
    }


def test_each_plan_is_an_engine_for_this_card_alone(built, rtx, tmp_path):
    seen = []

    def alternate(calls):
        for plan, call in calls.items():
            maps = call()
            images = np.random.default_rng(0).integers(0, 256, (1, *maps.shape[1:], 3), dtype=np.uint8)
            np.testing.assert_array_equal(maps, images.astype(np.float64).mean(3).astype(np.float32))
            seen.append(plan)
        made_up = {"none": 2.0, "full": 1.0}
        return {
            plan: {"median_ms": ms, "lower_quartile_ms": ms, "upper_quartile_ms": ms, "repetitions": 1}
            for plan, ms in made_up.items()
        }

    table = on_card.timed(models(tmp_path), alternate=alternate)
    assert seen == ["none", "full"] and table["fastest"] == "full"
    assert table["device"] == recording_rtx.CARD.name and table["backend"] == "rtx 1.7.1.116"
    assert {request.capabilities for request in built.values()} == {("8.6",)}
    assert not [path for request in built.values() for path in request.model.parent.glob("*")], "nothing left"


def test_they_take_turns(built, rtx, tmp_path):
    table = on_card.timed(models(tmp_path), lambda calls: plan_timing.alternate(calls, rounds=3))
    assert {row["repetitions"] for row in table["candidates"].values()} == {3}
    runs = sum(call == ("run", 1) for call in rtx.calls)
    assert runs >= 2 * 2 * 5, "each twice a round, with two rounds to warm up"


def test_sessions_are_closed_where_one_does_not_open(built, rtx, tmp_path, monkeypatch):
    """The fixture finds buffers that were not given back."""
    build = on_card.engine.build

    def building(request, log):
        if built:
            rtx.failing.add("context")
        return build(request, log)

    monkeypatch.setattr(on_card.engine, "build", building)
    with pytest.raises(BackendError, match="TensorRT for RTX"):
        on_card.timed(models(tmp_path))
    assert len(built) == 2, "the first was open"


def test_only_the_card_that_was_named_is_timed(rtx, monkeypatch):
    monkeypatch.setattr(on_card.builder, "targets", lambda product: ["8.6", "8.9"])
    assert on_card.why_not(Target("rtx")) is None
    assert on_card.why_not(Target("rtx", "RTX-A2000")) is None
    why_not = on_card.why_not(Target("rtx", "RTX-4000-Ada"))
    assert why_not == "the card here is NVIDIA RTX A2000, not RTX-4000-Ada"
    monkeypatch.setattr(on_card.builder, "targets", lambda product: ["8.9"])
    assert on_card.why_not(Target("rtx")) == "NVIDIA RTX A2000 has compute capability 8.6"
