"""Two runs compared."""

import numpy as np
import pytest

from ssn_bench.report import compare
from ssn_edge.errors import InputError


def document(ms, machine=1.0, device="a CPU", name="m"):
    rng = np.random.default_rng(3)
    wall = (ms * rng.lognormal(0, 0.03, 60)).tolist()
    env = {"versions": {"numpy": "1"}, "processors": 2, "affinity": [0, 1], "threads": {}, "governor": None}
    return {
        "schema": 2, "kind": "timing", "environment": env, "shortened": False,
        "protocol": {"name": "efficientad"}, "contenders": [{"device": device}],
        "samples": {"latency": {"wall": {name: wall}, "machine": [machine] * 20}},
    }


@pytest.mark.parametrize(("ms", "machine", "verdict"), [
    (10, 1.0, "same"), (14, 1.0, "slower"), (7, 1.0, "faster"),
    (14, 1.4, "same"),  # the whole machine was slower
    (10.2, 1.0, "same"),
])
def test_compare(ms, machine, verdict):
    rows = compare.compare(document(10), document(ms, machine))
    assert [row["verdict"] for row in rows] == [verdict]


def test_compare_refuses():
    with pytest.raises(InputError, match="not comparable"):
        compare.compare(document(1), document(1, device="another"))
    with pytest.raises(InputError, match="no contender in common"):
        compare.compare(document(1), document(1, name="n"))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 1}', "null"])
def test_compare_reads_timing_runs_alone(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError, match="x.json"):
        compare.load(path)
