"""What is told of a frame is valid JSON of bounded size."""

import dataclasses
import json

import numpy as np
import pytest
import tiny

from ssn_edge import Detector
from ssn_edge.line import sinks, stream
from ssn_edge.line.sources import Frame

DARK, BRIGHT = np.full((64, 96, 3), 20, np.uint8), np.full((64, 96, 3), 250, np.uint8)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A result for a frame of any name and time; its detection changed where asked."""
    model = tiny.write_model(tmp_path_factory.mktemp("model") / "m.onnx")
    with Detector.open(model, "onnxruntime") as opened:
        detection = opened.detect(BRIGHT)

    def result(name, time=0.0, number=0, **changes):
        return stream.Result(
            number, Frame(name, BRIGHT, time), dataclasses.replace(detection, **changes), 0.0, 1.0
        )

    return result


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
