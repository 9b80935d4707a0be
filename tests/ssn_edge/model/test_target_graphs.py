"""A bundle's graphs for targets: written, read, left alone by readers from before, and taken for engines."""

import json

import pytest
import tiny

from ssn_edge import Detector
from ssn_edge.backends import selection
from ssn_edge.errors import InputError, ModelError
from ssn_edge.model import bundle, bundle_writer


@pytest.fixture
def path(tmp_path):
    return tiny.write_targets(tmp_path / "m.ssn")


def test_is_read_as_it_was_written(path):
    found = bundle.read(path)
    rtx, orin = found.of_role("graph")
    assert (rtx.target, rtx.precision, rtx.plan) == ("rtx", "float16", "full")
    assert (orin.target, orin.precision, orin.plan) == ("orin", "float32", "row-first")
    assert rtx.name.startswith("graph-") and rtx.name.endswith(".onnx") and rtx.verified
    (kept,) = (one for one in found.document["files"] if one["name"] == rtx.name)
    assert kept["target"] == "rtx" and "target" not in found.document["files"][0]
    assert found.document["minor"] == 2
    assert [one.target for one in found.all_graphs()] == ["", "", "rtx", "orin"]


def test_what_runs_without_an_engine_is_the_graph_for_any_machine(path):
    found = bundle.read(path)
    assert {entry.role for entry in found.graphs().values()} == {"float32", "half"}
    for precision in ("float32", "float16"):
        with Detector.open(path, "onnxruntime", precision=precision) as detector:
            assert detector.path.name == found.graphs()[precision].name


def test_a_reader_from_before_leaves_it_alone(path, monkeypatch):
    """One to which the role means nothing: it opens the bundle, and keeps the file when it adds another."""
    new = bundle.read(path).of_role("graph")
    monkeypatch.delitem(bundle.ROLES, "graph")
    assert set(bundle.read(path).graphs()) == {"float32", "float16"}
    with Detector.open(path, "onnxruntime") as detector:
        assert detector.info == tiny.info()
    found = tiny.add(path, tiny.contents([tiny.engine_info()], roles=())[0])
    monkeypatch.undo()
    assert found.of_role("engine") and bundle.read(path).of_role("graph") == new


def test_a_target_has_its_graph_or_the_one_for_any_machine(path):
    found = bundle.read(path)
    rtx, orin = found.of_role("graph")
    assert selection.graph_of(found, "float16", "rtx") == rtx
    assert selection.graph_of(found, "float32", "orin") == orin
    others = ("float32", "rtx"), ("float16", "orin"), ("float16", None), ("float32", "mars")
    for precision, target in others:
        assert selection.graph_of(found, precision, target) == found.graphs()[precision]


def test_a_precision_that_there_is_none_of(tmp_path):
    found = bundle.read(tiny.write_bundle(tmp_path / "m.ssn", roles=("float32",)))
    with pytest.raises(InputError, match="no float16 graph in it, but float32"):
        selection.graph_of(found, "float16", "rtx")


@pytest.mark.parametrize("target", ["", "../rtx", "RTX", "r" * 17, 3, None, ["rtx"]])
def test_a_target_of_no_name_is_refused(path, target):
    document = json.loads((path / bundle.MANIFEST).read_text())
    document["files"][-1]["target"] = target
    (path / bundle.MANIFEST).write_text(json.dumps(document))
    with pytest.raises(ModelError, match=r"manifest.json: does not follow its schema \(graph-.*: target"):
        bundle.read(path)


def test_engines_of_a_targets_graph_stay_at_the_next_export(path):
    rtx = bundle.read(path).of_role("graph")[0]
    ours, other = (tiny.engine_info(onnx_sha256=digest) for digest in (rtx.sha256, "1" * 64))
    tiny.add(path, *tiny.contents([ours, other], roles=()))
    with bundle_writer.writing(path, lambda line: None) as writer:
        found = writer.replace(tiny.info(), [*tiny.contents(), tiny.target_graph()])
    assert [one.engine for one in found.of_role("engine")] == [ours]
    assert found.of_role("graph") == [rtx], "orin's is of the last export"
