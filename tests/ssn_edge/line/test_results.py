"""What is told of a frame is valid JSON of bounded size."""

import json

import numpy as np

from ssn_edge.line import sinks
from ssn_edge.verdict.regions import MOST_REGIONS, Region

LONG = Region(99_999, 99_999, 99_999, 99_999, float(np.float32(-1.23456e-30)), 10**10, 10**10)


def test_lines_and_messages_are_valid_json_below_16_kb(judged, tmp_path):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    for name in ("n" * 7900, "n" * 100_000 + "end", "\U0001f600" * 30_000 + "end", "\0" * 9000 + "end"):
        path = tmp_path / "lines.jsonl"
        sink = sinks.JsonLines(path)
        broken = {"score": float("nan"), "map_max": float("inf")}
        sink.write(judged(name, number=10**12, regions=(LONG,) * MOST_REGIONS, region_count=10**9, **broken))
        sink.close()
        line = path.read_text()
        told = json.loads(line, parse_constant=refuse)
        assert len(line.encode()) < 16_000 and told["score"] is told["map_max"] is None
        assert len(told["regions"]) == MOST_REGIONS and told["region_count"] == 10**9
        whole = len(name) < 8000
        assert told["frame"] == name if whole else told["frame"].startswith("...")
        assert told["frame"].endswith(name[-500:])
