"""What --for may be given, and which cards that means."""

import json
from pathlib import Path

import pytest
from commands import call

from ssn_edge.errors import InputError
from ssn_export import work
from ssn_export.cli import main
from ssn_export.targets import target
from ssn_export.targets.target import Target

LISTED = json.loads((Path(work.__file__).parent / "devices.json").read_text())["devices"]


def test_targets_and_their_cards():
    assert target.parse("cpu") == (target.CPU,)
    assert target.parse("rtx:RTX-A2000, orin:Orin-NX-16GB") == (
        Target("rtx", "RTX-A2000"), Target("orin", "Orin-NX-16GB"),
    )
    assert set(Target("rtx").cards()) == {name for name in LISTED if name.startswith("RTX")}
    assert set(Target("orin").cards()) == {
        name for name, one in LISTED.items() if one["compute_capability"] == "8.7"
    }
    (card,) = Target("orin", "Orin-NX-16GB").cards().values()
    assert (card.bandwidth, card.half) == (102.4e9, 15e12)


@pytest.mark.parametrize("text, said", [
    ("gpu", "--for 'gpu': choose of cpu, rtx, orin"),
    ("", "--for '': choose of cpu, rtx, orin"),
    ("cpu,", "--for '': choose of cpu, rtx, orin"),
    ("RTX", "--for 'RTX': choose of cpu, rtx, orin"),
    ("rtx:RTX-3090", "--for rtx:RTX-3090: no such card; choose of RTX-A2000, RTX-2000-Ada, "),
    ("orin:RTX-A2000", "no such card; choose of AGX-Orin-64GB, "),
    ("rtx:", "--for rtx:: no such card; choose of RTX-A2000"),
    ("cpu:0", "no such card; the CPU is this machine's; give cpu alone"),
    ("cpu,rtx,cpu", "--for cpu,rtx,cpu: cpu is named twice; name it once"),
    ("rtx,rtx:RTX-A2000", "rtx is named twice"),
])
def test_wrong_names(text, said):
    with pytest.raises(InputError) as found:
        target.parse(text)
    assert said in str(found.value) and "\n" not in str(found.value)


@pytest.mark.parametrize("arguments, said", [
    (["--for", "gpu"], "--for 'gpu': choose of"),
    (["--for", "rtx", "--plan", "full"], "--for rtx: chooses the plans, and --plan full names one"),
    (["--for", "cpu", "--plan", "none"], "--for cpu: chooses the plans, and --plan none names one"),
    (["--for", "cpu,rtx", "--out", "m.onnx"], "--for cpu,rtx: m.onnx is one graph; give one target"),
    (["--for", "orin", "--backend", "onnxruntime"], "--backend: times plans for the CPU"),
])
def test_what_does_not_go_together(tmp_path, monkeypatch, arguments, said):
    """One line, before the run folder is looked at."""
    monkeypatch.chdir(tmp_path)
    code, output = call(main, tmp_path / "run", *arguments)
    assert code == 2 and output.startswith("error: ") and output.count("\n") == 1 and said in output
    assert not list(tmp_path.iterdir())


def test_a_bundle_has_its_graphs_already(tmp_path):
    code, output = call(main, tmp_path / "m.ssn", "--for", "rtx", "--info")
    assert code == 2 and "--for: for a run folder" in output and output.count("\n") == 1
