"""ONNX Runtime's providers other than the CPU's that run here, which few environments have: ``make
test-providers`` makes them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = []
"""Names of back ends."""

WHY = "needs onnxruntime-openvino or onnxruntime-ggml in place of onnxruntime: make test-providers"

if importlib.util.find_spec("onnxruntime"):
    import onnxruntime

    if "OpenVINOExecutionProvider" in onnxruntime.get_available_providers():
        HERE.append("onnxruntime:openvino")
if importlib.util.find_spec("onnxruntime_ggml"):  # a plugin that computes on any CPU
    import onnxruntime_ggml

    onnxruntime_ggml.register()
    HERE.append("onnxruntime:ggml")


COUNT = """
import os, sys
import numpy as np
from ssn_edge import Detector
frame = np.zeros((32, 48, 3), np.uint8)
with Detector.open(sys.argv[1], sys.argv[2], threads=1) as detector:
    detector.detect(frame)  # what libraries start once in a process
before = len(os.listdir("/proc/self/task"))
with Detector.open(sys.argv[1], sys.argv[2], threads=int(sys.argv[3])) as detector:
    detector.detect(frame)
    print(len(os.listdir("/proc/self/task")) - before)
"""


def threads_used(model, backend, threads):
    """How many more a process has, by the system's count, with a detector of so many ``threads`` than with
    one."""
    if not os.path.exists("/proc/self/task"):
        pytest.skip("no /proc")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    arguments = [sys.executable, "-c", COUNT, str(model), backend, str(threads)]
    return int(subprocess.run(arguments, stdout=subprocess.PIPE, text=True, env=env, check=True).stdout)
