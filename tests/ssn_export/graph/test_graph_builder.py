"""Which graphs an export makes for which targets: plans chosen by made-up bounds, and by real estimates."""

import onnx
import pytest
from commands import call
from run_folder import write_run

from ssn_edge import Detector
from ssn_edge.model import bundle
from ssn_edge.model.onnx_metadata import read_info
from ssn_edge.model.schema import METADATA_KEY, ModelInfo
from ssn_export.cli import main
from ssn_export.graph import graph_builder, half_precision
from ssn_export.targets import on_card, rooflines
from ssn_export.targets.rooflines import Judged
from ssn_export.work import cards, macs
from ssn_train.network.design import Design


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(
        tmp_path_factory.mktemp("lean") / "run", "resnet18", Design(seg_width=16, cls_width=4, cls_kernel=3)
    )


@pytest.fixture(scope="module")
def traced():
    """Graphs by plan, traced and gated once: all tests export the same run."""
    return {}


@pytest.fixture(autouse=True)
def tracing_once(traced, monkeypatch):
    trace = graph_builder.GraphBuilder.graph

    def graph(self, plan, front=graph_builder.FRONT):
        if (plan, front) not in traced:
            traced[plan, front] = trace(self, plan, front).SerializeToString()
        if (plan, front) not in self._graphs:
            self._graphs[plan, front] = onnx.load_from_string(traced[plan, front])
        return self._graphs[plan, front]

    monkeypatch.setattr(graph_builder.GraphBuilder, "graph", graph)


@pytest.fixture
def two_plans(monkeypatch):
    """Plan none is the CPU's; bounds by plan are set by the test."""
    limits = {"none": 1.0, "full": 2.0}
    for name in ("PLANS", "CPU_PLANS"):
        monkeypatch.setattr(graph_builder, name, ("none", "full"))
    row = {"median_ms": 1.0, "lower_quartile_ms": 1.0, "upper_quartile_ms": 1.0, "repetitions": 1}
    table = {"backend": "made up", "threads": 1, "batch": 1, "fastest": "none", "candidates": {"none": row}}
    monkeypatch.setattr(graph_builder.plan_timing, "compare", lambda graphs, backend: dict(table))
    monkeypatch.setattr(rooflines, "check_here", lambda target: None)
    monkeypatch.setattr(rooflines, "by_compiler", lambda model, called, known, capability: Judged(
        50, 1.0, 1.0, {name: (2.0, limits[called.split()[1]]) for name in known}, "made up 1.0"
    ))
    return limits


@pytest.fixture
def quick_half(monkeypatch):
    """Every node stays in float32 that may: no search."""
    def mixed(graph, *others, **more):
        keep = frozenset(node.name for node in graph.graph.node)
        return half_precision.to_half(graph, keep), keep

    monkeypatch.setattr(graph_builder.mixed_precision, "mixed_half", mixed)


def export(run, path, *arguments):
    code, output = call(main, run, "--out", path, *arguments)
    assert code == 0, output
    found = bundle.read(path)
    return found, {one.target or one.role: read_info(found.place(one)) for one in found.all_graphs()}, output


def test_another_plan_is_another_file(run, tmp_path, two_plans):
    two_plans["full"] = 0.5
    found, infos, output = export(run, tmp_path / "m.ssn", "--for", "cpu,rtx")
    assert {name: info.plan for name, info in infos.items()} == {"float32": "none", "rtx": "full"}
    (entry,) = found.of_role("graph")
    assert (entry.target, entry.plan, entry.precision) == ("rtx", "full", "float32")
    table = infos["rtx"].plan_table
    assert (table["target"], table["method"]) == ("rtx", "roofline of the compiled graph")
    assert table["fastest"] == "full" and table["candidates"]["full"]["bound_ms"] == 0.5
    assert infos["float32"].plan_table["backend"] == "made up", "the CPU's"
    assert "rtx: plan 2 of 2: full ..." in output
    assert "rtx gets a float32 graph of its own, plan full" in output
    assert infos["rtx"].parity["map_rms"] < 1e-5
    with Detector.open(found.path, "onnxruntime") as detector:
        assert detector.info.plan == "none"


def test_the_same_plan_is_the_same_file(run, tmp_path, two_plans):
    found, infos, output = export(run, tmp_path / "m.ssn", "--for", "cpu,rtx:RTX-A2000")
    assert not found.of_role("graph") and "rtx takes the same float32 graph, plan none" in output
    table = infos["float32"].plan_table["targets"]["rtx"]
    assert table["fastest"] == "none" and table["cards"] == ["RTX-A2000"]


def test_without_the_cpu_the_files_for_any_machine_are_the_first_targets(run, tmp_path, two_plans):
    two_plans["full"] = 0.5
    found, infos, _ = export(run, tmp_path / "m.ssn", "--for", "rtx")
    assert not found.of_role("graph") and infos["float32"].plan == "full"
    assert infos["float32"].plan_table["target"] == "rtx"
    code, output = call(main, run, "--out", tmp_path / "m.onnx", "--for", "rtx")
    assert code == 0 and read_info(tmp_path / "m.onnx").plan == "full"


def test_times_on_a_card_decide(run, tmp_path, two_plans, monkeypatch):
    """Bounds say none, the card says full."""
    timed = {}

    def time(models):
        timed.update(models)
        quartiles = {"lower_quartile_ms": 1.0, "upper_quartile_ms": 4.0, "repetitions": 9}
        rows = {plan: {"median_ms": ms, **quartiles} for plan, ms in (("none", 3.0), ("full", 2.0))}
        return {"backend": "rtx", "device": "a card", "batch": 1, "fastest": "full", "candidates": rows}

    monkeypatch.setattr(on_card, "why_not", lambda target: None)
    monkeypatch.setattr(on_card, "timed", time)
    found, infos, output = export(run, tmp_path / "m.ssn", "--for", "cpu,rtx")
    assert infos["rtx"].plan == "full" and infos["float32"].plan == "none"
    table = infos["rtx"].plan_table
    assert table["timed"]["device"] == "a card" and not table["ranked_right"]
    assert "ranked wrong: none first, and full is the fastest" in output
    for plan, model in timed.items():  # what an engine is built of says what it is
        text = {one.key: one.value for one in model.metadata_props}[METADATA_KEY]
        assert ModelInfo.from_json(text, plan).plan == plan


def test_nodes_in_float32_may_turn_the_order(run, tmp_path, two_plans, quick_half, monkeypatch):
    """All in half full is better; as the two would be written, none is, so no file is added."""
    monkeypatch.setattr(graph_builder.mixed_precision, "all_half_rms", lambda graph, truth, verdict: 1e-3)
    bounds = iter([(2.0, 2.0), (1.0, 1.0), (1.5, 1.5), (1.4, 1.4)])  # none, full; full and none as written
    monkeypatch.setattr(rooflines, "by_compiler", lambda model, called, known, capability: Judged(
        50, 1.0, 1.0, dict.fromkeys(known, next(bounds)), "made up 1.0"
    ))
    arguments = "--for", "cpu,rtx", "--fp16"
    _, infos, output = export(run, tmp_path / "m.ssn", *arguments)
    assert set(infos) == {"float32", "half"} and "rtx takes the same float16 graph, plan none" in output
    table = infos["half"].plan_table["targets"]["rtx"]
    assert table["fastest"] == "full"
    assert table["as_written_ms"] == pytest.approx({"own": 1.5, "for any": 1.4})
    assert "targets" not in infos["float32"].plan_table


def test_a_plan_that_half_suits_worse_is_left_out(run, tmp_path, two_plans, quick_half, monkeypatch):
    two_plans["full"] = 0.5
    errors = {"none": 1e-3, "full": 1.2e-3}
    monkeypatch.setattr(graph_builder.GraphBuilder, "_error", lambda self, plan, front: errors[plan])
    _, infos, output = export(run, tmp_path / "m.ssn", "--for", "cpu,rtx", "--fp16")
    assert set(infos) == {"float32", "half"} and infos["half"].plan == "none"
    table = infos["half"].plan_table["targets"]["rtx"]
    assert table["left_out"] == {"full": "in half 1.20 times plan none's error, limit 1.1"}
    assert "full: left out, in half 1.20 times" in output


def test_orins_is_an_estimate(run, tmp_path, two_plans):
    """Memory bounds these: the plan of the fewest elements that products touch, counted here."""
    found, infos, output = export(run, tmp_path / "m.ssn", "--for", "cpu,orin:Orin-NX-16GB")
    assert "plan for orin, estimate: roofline of the ONNX graph (float32)" in output
    table = infos.get("orin", infos["float32"]).plan_table
    table = table.get("targets", {}).get("orin", table)
    assert set(table["candidates"]) == {"none", "full"} and table["method"].startswith("estimate")
    for entry in found.all_graphs():
        model = onnx.load(str(found.place(entry)))
        row = table["candidates"][entry.plan]
        assert row["gmac"] == pytest.approx(macs.total(model) / 1e9, abs=1e-6)
        card = cards.read()["Orin-NX-16GB"]
        least = 1e3 * max(1e6 * row["megabytes"] / card.bandwidth, 2e9 * row["gmac"] / card.float32)
        assert row["bound_ms"] >= least - 1e-4
    assert table["fastest"] == min(table["candidates"], key=lambda p: table["candidates"][p]["bound_ms"])
