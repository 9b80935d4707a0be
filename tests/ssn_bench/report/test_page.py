"""The page of docs/ is made of the stored runs."""

import pytest

torch = pytest.importorskip("torch", reason="methods are built with torch")



def test_the_page_is_what_the_stored_runs_say():
    """docs/benchmarks.md is generated; editing it, or the runs, without doing so again shows here."""
    import json
    from pathlib import Path

    from ssn_bench.report import page

    docs = Path(__file__).parents[3] / "docs"
    runs = (json.loads((docs / f"benchmarks-{n}.json").read_text()) for n in ("run", "methods", "profile"))
    assert page.page(*runs, "benchmarks") == (docs / "benchmarks.md").read_text()
