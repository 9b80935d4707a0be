"""Finding the GPU, in processes of their own: the device is opened once a process."""

import os
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"FAKEGPU_DEVICES": "0"}, "no GPU"),
        ({"FAKEGPU_FAIL": "cuInit:1+:100"}, "CUDA failed while looking for a GPU"),
        ({"FAKEGPU_FAIL": "cuDevicePrimaryCtxRetain:1+:2"}, "out of memory while looking"),
    ],
)
def test_not_usable(environment, expected):
    assert expected in run(OPEN, **environment)


def test_opened_on_a_thread_that_is_gone():
    """Its context is released all the same, and never twice."""
    code = (
        "import threading; from ssn_edge.backends import gpu; "
        "t = threading.Thread(target=gpu.open_device); t.start(); t.join(); "
        "import atexit, sys; device = gpu.open_device(); "
        "print(fakegpu.report()['calls']['cuDevicePrimaryCtxRetain'])"
    )
    assert run(code) == "1"


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
    """The base install, tensorrt and pycuda are enough to build; the simulation itself needs onnx."""
    engine = tiny_onnx.with_suffix(".engine")
    code = (
        "import sys; sys.modules['torch'] = sys.modules['timm'] = None; "
        "from ssn_export.cli import main; "
        f"main([{str(tiny_onnx)!r}, '--engine-out', {str(engine)!r}, '--layers', '--unverified'], "
        "standalone_mode=False); "
        "ours = [m for m in sys.modules.values() if getattr(m, '__name__', '').startswith('ssn_')]; "
        "assert not [m for m in ours if 'onnx' in vars(m)], ours"
    )
    assert "sha256" in run(code) and engine.is_file()
