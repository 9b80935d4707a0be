"""Results of a frame, without a stream."""

import dataclasses

import numpy as np
import pytest
import tiny

from ssn_edge import Detector
from ssn_edge.line import stream
from ssn_edge.sources import Frame

BRIGHT = np.full((64, 96, 3), 250, np.uint8)


@pytest.fixture(scope="session")
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
