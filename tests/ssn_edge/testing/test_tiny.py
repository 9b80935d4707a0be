"""The tiny model is the one that ONNX's own package makes, and real libraries run it."""

import numpy as np
import onnx
import pytest
import tiny

from ssn_edge import Detector, backends
from ssn_edge.model.schema import METADATA_KEY
from ssn_edge.testing import tiny_info, tiny_model, write_tiny_model
from ssn_edge.testing.tiny import GRAPH


def test_the_stored_graph_is_what_it_says():
    assert onnx.load(GRAPH) == tiny.graph()


def test_the_description_is_read_by_onnx():
    info = tiny_info(backbone="é" * 300, height=32)  # a length of two bytes
    model = onnx.load_from_string(tiny_model(info))
    assert {prop.key: prop.value for prop in model.metadata_props} == {METADATA_KEY: info.to_json()}
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("backend", backends.installed())
def test_real_libraries_give_its_known_answers(tmp_path, backend):
    frame = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    with Detector.open(write_tiny_model(tmp_path / "m.onnx"), backend) as detector:
        detection = detector.detect(frame)
    np.testing.assert_allclose(detection.anomaly_map, frame.mean(2), rtol=1e-6)
    assert detection.score == pytest.approx(frame.mean(2).max() / 255, rel=1e-6)
