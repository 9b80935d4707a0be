"""A graph with thresholds inside, run by each library: map, score, mask and verdict of images."""

import numpy as np
import onnxruntime
import pytest

from ssn_export.bundles import baking

OUTPUTS = ["anomaly_map", "score", *baking.OUTPUTS]


def run_onnxruntime(model, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(OUTPUTS, {"image": images})


def run_openvino(model, images):
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    read = core.read_model(model.SerializeToString())
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(images)
    return [np.array(found[name]) for name in OUTPUTS]
