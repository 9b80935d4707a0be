"""Finding the GPU, in processes of their own: the device is opened once a process. What it hands out."""

import gc
import json
import os
import subprocess
import sys

import fakegpu
import numpy as np
import pytest

from ssn_edge import BackendError
from ssn_edge.backends import gpu

OPEN = "from ssn_edge import backends; print(backends.engine_problem())"


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", f"import fakegpu; {code}"],
        env={**os.environ, **environment}, capture_output=True, text=True,
    )
    assert done.returncode == 0 and "PyCUDA" not in done.stderr, done.stderr
    return done.stdout.strip()


def test_found():
    assert run(OPEN) == "None"
    assert gpu.binding().NAME == os.environ["SSN_CUDA"] and gpu.binding().driver_version() == 13000
    assert gpu.open_device().name == "Fake GPU (host memory)"


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"FAKEGPU_DEVICES": "0"}, "no GPU"),
        ({"FAKEGPU_FAIL": "cuInit:1+:100"}, "CUDA failed while looking for a GPU (cuInit failed: "),
        ({"FAKEGPU_FAIL": "cuDevicePrimaryCtxRetain:1+:2"}, "out of memory while looking"),
    ],
)
def test_not_usable(environment, expected):
    assert expected in run(OPEN, **environment)


def test_nothing_to_call_cuda_with():
    problem = run(f"import sys; sys.modules['pycuda'] = sys.modules['cuda'] = None; {OPEN}")
    assert problem.startswith("nothing here calls CUDA (pycuda: ") and len(problem.splitlines()) == 1
    assert problem.endswith('; run: pip install pycuda, or pip install "ssn-edge[rtx]"')


def test_what_is_dropped_is_destroyed():
    """On whichever thread and without the context; memory only when no array is over it any more."""
    device = gpu.open_device()
    with device.active("allocating"):
        made = [device.stream(), device.clock(), device.buffer((2, 3), np.uint8)]
    array = made[2].array[1]
    array[:] = 7
    alive = {"context": 1, "stream": 1, "event": 1, "device": 1, "host_pinned": 1}
    assert fakegpu.report()["live"] == alive
    made.clear()
    gc.collect()
    assert fakegpu.report()["live"] == {"context": 1, "host_pinned": 1}
    assert array.tolist() == [7, 7, 7]
    del array
    gc.collect()
    assert fakegpu.report()["live"] == {"context": 1}


def test_memory_is_freed_once():
    device = gpu.open_device()
    with device.active("allocating"):
        buffer = device.buffer((2, 3), np.float32)
        assert buffer.array.shape == (2, 3) and buffer.array.dtype == np.float32
        buffer.free()
    assert fakegpu.report()["live"] == {"context": 1}
    with pytest.raises(BackendError, match="CUDA failed while freeing .*free failed: "):
        with device.active("freeing"):
            buffer.free()


@pytest.mark.parametrize("call", ["cuMemAlloc", "cuMemHostAlloc", "cuMemHostGetDevicePointer"])
def test_an_allocation_that_fails_half_way_leaves_nothing(call, monkeypatch):
    from simulated_device import make_integrated

    device = gpu.open_device()
    if call == "cuMemHostGetDevicePointer":
        make_integrated(monkeypatch)
    fakegpu.set_fail(f"{call}:1+:2")
    with pytest.raises(BackendError, match="out of memory while allocating"):
        with device.active("allocating"):
            device.buffer((2, 3), np.uint8)
    gc.collect()
    assert fakegpu.report()["live"] == {"context": 1}


def test_what_nobody_refers_to_is_collected_before_memory_is_short():
    """Garbage with a reference to itself keeps device memory until a collection."""
    device = gpu.open_device()
    with device.active("allocating"):
        kept = [device.buffer((2, 3), np.uint8)]
        kept.append(kept)
        del kept
        fakegpu.set_fail("cuMemAlloc:1:2")
        buffer = device.buffer((2, 3), np.uint8)
        assert fakegpu.report()["live"]["device"] == 1
        buffer.free()


def test_opened_on_a_thread_that_is_gone():
    """Its context is released all the same, and never twice."""
    code = (
        "import threading; from ssn_edge.backends import gpu; "
        "t = threading.Thread(target=gpu.open_device); t.start(); t.join(); "
        "import atexit, sys; device = gpu.open_device(); "
        "print(fakegpu.report()['calls']['cuDevicePrimaryCtxRetain'])"
    )
    assert run(code) == "1"


def test_what_outlives_the_context_is_left_alone(tmp_path):
    """What is dropped after the context was given up, at exit, went with it."""
    code = (
        "import weakref, numpy as np; from ssn_edge.backends import gpu; kept = []; "
        "weakref.finalize(gpu.Device, kept.clear); "  # older than the device's, so called after it
        "device = gpu.open_device()\n"
        "with device.active('allocating'): "
        "kept += [device.stream(), device.clock(), device.buffer((2, 3), np.uint8)]"
    )
    report = tmp_path / "report.json"
    assert run(code, FAKEGPU_REPORT=str(report)) == ""
    found = json.loads(report.read_text())
    assert found["created"]["stream"] == 1 and not found["live"] and not found["violations"]


def test_device_option_selects_the_visible_gpu(monkeypatch):
    from simulated_device import export

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    arguments = ("none.onnx", "--engine-out", "x.engine", "--unverified", "--device")
    assert "no such model file" in export(*arguments, "gpu:1")[1]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    cases = {"2": "lets 1 be seen", "dla:0": "the DLA runs no uint8", "tpu": "give a GPU"}
    for word, expected in cases.items():
        code, output = export(*arguments, word)
        assert code == 2 and expected in " ".join(output.split()), output


def test_no_torch_and_no_onnx_on_the_device(tiny_onnx):
    """The base install, tensorrt and a binding of CUDA are enough to build; the simulation needs onnx."""
    engine = tiny_onnx.with_suffix(".engine")
    code = f"""
import builtins, sys
sys.modules["torch"] = sys.modules["timm"] = None
real = builtins.__import__
def without_onnx(name, globals=None, *rest):
    if name.partition(".")[0] == "onnx" and (globals or {{}}).get("__name__", "").startswith("ssn_"):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
    return real(name, globals, *rest)
builtins.__import__ = without_onnx
from ssn_export.cli import main
main([{str(tiny_onnx)!r}, "--engine-out", {str(engine)!r}, "--layers", "--unverified"], standalone_mode=False)
"""
    output = run(code)
    assert "sha256" in output and "products not counted, no graph" in output and engine.is_file()
