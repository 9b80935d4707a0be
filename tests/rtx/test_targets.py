"""Graphs for RTX cards, chosen by what NVIDIA's compiler makes of them, without a GPU: the whole export."""

import math

import onnx
import pytest
from commands import call
from run_folder import write_run

from ssn_edge import Detector, backends
from ssn_edge.model import bundle
from ssn_edge.model.onnx_metadata import read_info
from ssn_export.cli import main
from ssn_export.graph import graph_builder
from ssn_export.tensorrt import compiled, kernels
from ssn_export.work import cards
from ssn_train.network.design import Design

PLANS = ("none", "full")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(bundle, output) with an engine, the CPU taking what RTX cards do not: that both are there."""
    folder = tmp_path_factory.mktemp("targets")
    run = write_run(folder / "run", "resnet18", Design(seg_width=16, cls_width=4, cls_kernel=3))

    def compare(graphs, backend):
        row = {"median_ms": 1.0, "lower_quartile_ms": 1.0, "upper_quartile_ms": 1.0, "repetitions": 1}
        return {"backend": "made up", "threads": 1, "fastest": "full", "candidates": {"full": row}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_builder, "PLANS", PLANS)
        patch.setattr(graph_builder, "CPU_PLANS", PLANS)
        patch.setattr(graph_builder.plan_timing, "compare", compare)
        code, output = call(main, run, "--out", folder / "m.ssn", "--fp16", "--engine", "rtx", "--sm", "86")
    assert code == 0, output
    return folder / "m.ssn", output


def test_the_bundle_holds_both_graphs(exported):
    """This small model's plan none has fewer kernels, which cost more than its bytes."""
    path, output = exported
    found = bundle.read(path)
    (own,) = found.of_role("graph")
    assert (own.target, own.precision, own.plan) == ("rtx", "float16", "none")
    assert [entry.plan for entry in found.graphs().values()] == ["full", "full"]
    assert "rtx gets a float16 graph of its own, plan none" in output
    assert read_info(found.place(own)).parity["map_rms"] <= 3e-3


def test_the_table_is_the_compilers(exported):
    """The least is taken, the mean is the geometric one, and the bound of the graph as it was written is that
    of the file compiled once more."""
    path, _ = exported
    found = bundle.read(path)
    (own,) = found.of_role("graph")
    table = read_info(found.place(own)).plan_table
    assert table["compiler"].startswith("TensorRT for RTX ") and table["compute_capability"] == "8.6"
    assert table["cards"] == [name for name in cards.read() if name.startswith("RTX-")]
    rows = table["candidates"]
    assert set(rows) == set(PLANS) and table["fastest"] == min(rows, key=lambda plan: rows[plan]["bound_ms"])
    for row in rows.values():
        mean = math.prod(second for _, second in row["bounds_ms"].values()) ** (1 / len(table["cards"]))
        assert row["bound_ms"] == pytest.approx(mean, rel=1e-2)
        assert row["kernels"] > 10 and 1e-4 < row["half_rms"] < 1e-2
    model = onnx.load(str(found.place(own)))
    report = kernels.report(compiled.compiled(model.SerializeToString(), "own").kernels, model)
    limits = [report.bounds()[name][1] for name in table["cards"]]
    assert table["as_written_ms"]["own"] == pytest.approx(math.prod(limits) ** 0.25, rel=1e-6)
    assert table["as_written_ms"]["own"] < table["as_written_ms"]["for any"]


def test_the_engine_is_built_of_it(exported):
    path, _ = exported
    found = bundle.read(path)
    (own,), (engine,) = found.of_role("graph"), found.of_role("engine")
    assert engine.engine.onnx_sha256 == own.sha256 and engine.plan == "none"
    if backends.engine_problem("rtx") is not None:
        with Detector.open(path) as detector:
            assert detector.path.name == found.graphs()["float32"].name


def test_commands_tell_of_both(exported):
    path, _ = exported
    found = bundle.read(path)
    (own,) = found.of_role("graph")
    code, output = call(main, path, "--info")
    assert code == 0 and any(own.name in line and line.endswith("for rtx") for line in output.splitlines())
    code, output = call(main, path, "--layers", "--sm", "86", "--precision", "float16")
    half = found.graphs()["float16"].name
    titles = [line for line in output.splitlines() if line.startswith("for ")]
    assert code == 0 and len(titles) == 2
    assert titles[0].startswith(f"for RTX cards, plan none: {own.name}, TensorRT for RTX")
    assert titles[1].startswith(f"for any machine, plan full: {half}, TensorRT for RTX")
