"""What is told of a frame is valid JSON of bounded size."""

import json

import numpy as np

from ssn_edge.line import sinks

DARK, BRIGHT = np.full((64, 96, 3), 20, np.uint8), np.full((64, 96, 3), 250, np.uint8)


def test_lines_and_messages_are_valid_json_below_16_kb(judged, tmp_path):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    for name in ("n" * 7900, "n" * 100_000 + "end", "\U0001f600" * 30_000 + "end", "\0" * 9000 + "end"):
        path = tmp_path / "lines.jsonl"
        sink = sinks.JsonLines(path)
        sink.write(judged(name, score=float("nan"), map_max=float("inf")))
        sink.close()
        line = path.read_text()
        told = json.loads(line, parse_constant=refuse)
        assert len(line.encode()) < 16_000 and told["score"] is told["map_max"] is None
        whole = len(name) < 8000
        assert told["frame"] == name if whole else told["frame"].startswith("...")
        assert told["frame"].endswith(name[-500:])
