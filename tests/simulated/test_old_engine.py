"""An engine from before there were bundles: on the release that built it, and on others."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorrt as trt
from simulated_device import export

from ssn_edge import Detector, ModelError
from ssn_edge.model import bundle
from ssn_edge.model.engine_file import EngineInfo
from ssn_export.gates import parity

OLD = Path(__file__).resolve().parents[1] / "ssn_export" / "bundles" / "old"
BUILT_WITH = "10.13.3.9"


def test_plain(tmp_path):
    """Its name says what it is; the ``.json`` beside it is not read."""
    engine = shutil.copy(OLD / "model.engine", tmp_path)
    (tmp_path / "model.json").write_text("damaged")
    if trt.__version__ != BUILT_WITH:
        with pytest.raises(ModelError, match="build it again: ssn-export"):
            Detector.open(engine)
        return
    truth = parity.read_reference(OLD / "model.reference.npz")
    with Detector.open(engine) as detector:
        assert detector.backend_name.startswith("tensorrt") and detector.info.precision == "float16"
        maps, scores = zip(*(detector.infer_batch(image[None]) for image in truth.images))
        found = parity.compare(
            truth, np.concatenate(maps), np.concatenate(scores), detector.info.verdict, "float16"
        )
        parity.gate(found, "float16")
        stated = EngineInfo.from_document(json.loads((OLD / "model.json").read_text())["engine"], "x")
        assert detector._session.info == stated


def test_packed(tmp_path):
    for name in ("model.onnx", "model.fp16.onnx", "model.reference.npz", "model.engine", "model.json"):
        shutil.copy(OLD / name, tmp_path)
    path = tmp_path / "m.ssn"
    code, output = export("--pack", tmp_path / "model.onnx", "--out", path)
    assert code == 0, output
    with Detector.open(path) as detector:
        if trt.__version__ == BUILT_WITH:
            assert detector.path.name.startswith("engine-") and "built for this GPU" in detector.choice
        else:
            assert f"built with TensorRT {BUILT_WITH}, here is {trt.__version__}" in detector.choice
    assert export(path, "--engine")[0] == 0
    engines = bundle.read(path).of_role("engine")
    assert len(engines) == (1 if trt.__version__ == BUILT_WITH else 2)
    with Detector.open(path) as detector:
        assert detector.backend_name.startswith("tensorrt")
