"""Whether plans ranked by the roofline of the compiled graph are ranked as an RTX card ranks them."""

from commands import command

from ssn_edge.model import bundle
from ssn_edge.model.onnx_metadata import read_info


def test_the_roofline_ranks_as_the_card_does(run, figures, tmp_path):
    """An engine of every plan, timed alternately by the export itself; figures to read, not a limit: no card
    has told yet. The timed first is what the bundle has."""
    path = tmp_path / "model.ssn"
    output = command("ssn_export", run, "--out", path, "--fp16", "--for", "rtx")
    found = bundle.read(path)
    entry = found.graphs()["float16"]
    table = read_info(found.place(entry)).plan_table
    figures["rtx plans ranked"] = {
        "ranked_right": table["ranked_right"], "pairs_in_order": table["pairs_in_order"], "table": table,
    }
    assert "the roofline ranked " in output
    timed = table["timed"]["candidates"]
    assert set(timed) == set(table["candidates"]) and len(timed) > 1
    assert entry.plan == min(timed, key=lambda plan: timed[plan]["median_ms"])
    assert min(row["median_ms"] for row in timed.values()) > 0
