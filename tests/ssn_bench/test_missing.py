"""A library of an extra that is not installed: one line that names it and the extra, exit code 2."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import tiny

from ssn_edge.errors import BackendError, needs
from ssn_edge.frames.image_files import write_image

PHOTOS, MODEL = "photos", "m.onnx"
CASES = [  # command, its arguments, the module that is missing, what the line says it is for, the extra
    ("ssn_train", [PHOTOS, "--out", "run"], "torch", "", "train"),
    ("ssn_train", [PHOTOS, "--out", "run"], "matplotlib", "", "train"),
    ("ssn_export", [PHOTOS], "torch", "", "export"),
    ("ssn_export", [PHOTOS], "onnxscript", "", "export"),
    ("ssn_export", [PHOTOS], "onnxruntime", "", "export"),
    ("ssn_bench", [MODEL, PHOTOS], "torch", "photos, a run folder: ", "demo"),
    ("ssn_bench", ["draem"], "torch", "draem: no such model file; for methods by name: ", "bench-peers"),
    ("ssn_bench", [MODEL, "--profile"], "matplotlib", "--profile: ", "bench"),
    ("ssn_bench", [MODEL, "--predict", "all"], "onnx", "--predict: ", "bench"),
    ("ssn_bench", [MODEL, "--data", PHOTOS], "sklearn", "--data: ", "bench"),
    ("ssn_bench", [PHOTOS, "--plans"], "torch", "--plans: ", "demo"),
]


@pytest.mark.parametrize("command, arguments, module, what, extra", CASES)
def test_one_line_and_nothing_made(command, arguments, module, what, extra, tmp_path):
    """In a process in which the module cannot be imported, whatever this environment has."""
    if command != "ssn_bench" and module != "torch" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is missing, and would be named first")
    (tmp_path / PHOTOS).mkdir()
    write_image(tmp_path / PHOTOS / "0.png", np.zeros((8, 8, 3), np.uint8))
    tiny.write_model(tmp_path / MODEL)
    code = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv[:] = ['x', *{arguments!r}]; "
        f"from {command}.cli import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == f'error: {what}{module} is missing; run: pip install "ssn-edge[{extra}]"\n'
    assert {path.name for path in tmp_path.iterdir()} == {PHOTOS, MODEL}


def test_a_library_that_is_there_and_broken_is_told_from_a_missing_one():
    with pytest.raises(BackendError, match=r"timm cannot be loaded \(no libcudart\); run: pip install"):
        with needs("train"):
            raise ImportError("no libcudart", name="timm.layers")


def test_a_module_of_ours_is_no_ones_to_install():
    with pytest.raises(ImportError, match="ssn_train"), needs("train"):
        import ssn_train.not_there  # noqa: F401
