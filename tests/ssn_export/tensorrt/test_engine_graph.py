"""Which of a bundle's graphs an engine is built of."""

from types import SimpleNamespace

import pytest
import tiny

from ssn_edge import backends
from ssn_edge.model import bundle
from ssn_export.tensorrt import engine


def library(monkeypatch, capability, typed=True):
    """A product and its GPU; None: no GPU may be looked at."""
    flags = SimpleNamespace(**({"STRONGLY_TYPED": 1} if typed else {}))
    product = SimpleNamespace(trt=SimpleNamespace(NetworkDefinitionCreationFlag=flags))

    def device():
        assert capability is not None, "the GPU was looked at"
        return SimpleNamespace(compute_capability=capability, name="a GPU")

    found = SimpleNamespace(PRODUCT=product, open_device=device)
    monkeypatch.setattr(backends, "engine_library", lambda name="tensorrt": found)
    monkeypatch.setattr(engine.builder, "check_targets", lambda product, capabilities: None)


@pytest.fixture
def path(tmp_path):
    path = tiny.write_bundle(tmp_path / "m.ssn", float32_nodes=())
    tiny.add(path, tiny.target_graph(), tiny.target_graph("orin", plan="row-first"))
    return path


@pytest.mark.parametrize("product, capability, precision, plan", [
    ("rtx", None, None, "full"),
    ("rtx", None, "float32", "none"),  # there is none of it for RTX
    ("tensorrt", "8.7", None, "row-first"),
    ("tensorrt", "8.7", "float32", "none"),
    ("tensorrt", "8.6", None, "none"),
])
def test_of_the_targets_graph_or_of_the_one_for_any(path, monkeypatch, product, capability, precision, plan):
    library(monkeypatch, capability)
    found = bundle.read(path)
    request = engine.of_bundle(found, precision, {"product": product})
    (entry,) = (one for one in found.entries if one.name == request.model.name)
    assert (entry.plan, entry.precision) == (plan, precision or "float16")
    assert entry.role == ("graph" if plan != "none" else bundle.read(path).graphs()[entry.precision].role)


def test_tensorrt_8_gets_the_float32_graph(path, monkeypatch):
    """It takes precisions from nowhere but its flag, so orin's half graph is of no use to it."""
    library(monkeypatch, "8.7", typed=False)
    found = bundle.read(path)
    request = engine.of_bundle(found, None, {"product": "tensorrt"})
    assert request.model.name == found.graphs()["float32"].name and request.fp16


def test_no_gpu_is_looked_at_without_a_graph_for_an_orin(tmp_path, monkeypatch):
    path = tiny.write_bundle(tmp_path / "m.ssn")
    tiny.add(path, tiny.target_graph())
    library(monkeypatch, None)
    found = bundle.read(path)
    request = engine.of_bundle(found, None, {"product": "tensorrt"})
    assert request.model.name == found.graphs()["float16"].name
