"""A trained network on OpenVINO's provider of ONNX Runtime, in another environment, whose Python
``SSN_PROVIDERS`` names: ``make test-providers``."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ssn_edge import Detector
from ssn_edge.model import bundle
from ssn_export.gates import parity

PYTHON = os.environ.get("SSN_PROVIDERS")
ROOT = Path(__file__).resolve().parents[2]
LISTED = "import onnxruntime; print(*onnxruntime.get_available_providers())"

if PYTHON is None:
    pytest.skip("make test-providers runs it", allow_module_level=True)
if "OpenVINO" not in subprocess.run([PYTHON, "-c", LISTED], stdout=subprocess.PIPE, text=True).stdout:
    pytest.skip(f"{PYTHON}: no onnxruntime-openvino in it", allow_module_level=True)

JUDGE = """
import json, sys
import numpy as np
from ssn_edge import Detector
path, precision, where, hint = sys.argv[1:]
if hint:
    from ssn_edge.backends import providers
    providers.Provider.options = lambda self, threads: {
        "device_type": "CPU", "load_config": json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": hint}})
    }
images = np.load(where)
with Detector.open(path, "onnxruntime:openvino", precision=precision) as detector:
    found = [detector.detect(image) for image in images]
    providers = detector._session._session.get_providers()
np.savez(where, maps=[one.anomaly_map for one in found], scores=[one.score for one in found])
print(json.dumps({"choice": detector.choice, "name": detector.backend_name, "first": providers[0]}))
"""


def judge(path, precision, place, hint=""):
    arguments = [PYTHON, "-c", JUDGE, str(path), precision, str(place), hint]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(arguments, capture_output=True, text=True, env=env, timeout=600)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_trained_network(trained, tmp_path, precision):
    """Its answers are those of ONNX Runtime's CPU provider of this environment, to what both may be off."""
    found = bundle.read(trained.bundle)
    info = found.model
    images = np.random.default_rng(0).integers(0, 256, (6, *info.size_hw, 3), np.uint8)
    images[3:] = parity.read_reference(found.place(found.of_role("reference")[0])).images[:3]
    place = tmp_path / "frames.npz"
    with open(place, "wb") as file:
        np.save(file, images)
    done = judge(trained.bundle, precision, place)
    assert done.returncode == 0 and not done.stderr, done.stderr
    said = json.loads(done.stdout)
    assert said["first"] == "OpenVINOExecutionProvider" and said["name"].startswith("onnxruntime:openvino 1.")
    assert "reference frames, map error " in said["choice"]
    with Detector.open(trained.bundle, "onnxruntime", precision=precision) as detector:
        own = [detector.detect(image) for image in images]
        truth = parity.Reference(
            images, np.stack([one.anomaly_map for one in own]), np.array([one.score for one in own])
        )
        verdict = detector.info.verdict
    with np.load(place) as answers:
        figures = parity.compare(truth, answers["maps"], answers["scores"], verdict, precision)
    parity.gate(figures, precision, slack=2)


@pytest.mark.skipif(
    "avx512_bf16" not in Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else True,
    reason="this CPU does not compute in bfloat16",
)
def test_bfloat16_is_not_used(trained, tmp_path):
    """What OpenVINO does of itself where it may, eight bits of each number: the reference frames tell."""
    place = tmp_path / "frames.npy"
    np.save(place, np.zeros((1, *bundle.read(trained.bundle).model.size_hw, 3), np.uint8))
    done = judge(trained.bundle, "float32", place, "bf16")
    assert done.returncode == 1 and "onnxruntime:openvino is not used: map_rms " in done.stderr
