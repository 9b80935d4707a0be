"""Which of the two libraries calls CUDA, each a stand-in of a few lines in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ssn_edge.backends import gpu
from ssn_edge.errors import BackendError

ROOT = Path(__file__).resolve().parents[3]
PYCUDA = {"pycuda/__init__.py": "", "pycuda/driver.py": "class Error(Exception): pass\nMemoryError = Error\n"}
NO_DRIVER = {**PYCUDA, "pycuda/driver.py": "raise ImportError('libcuda.so.1:\\n no such file')\n"}
NO_PYCUDA = {"pycuda.py": "raise ImportError('no pycuda')\n"}
OLD_CUDA = {"cuda/__init__.py": "", "cuda/bindings/__init__.py": "", "cuda/bindings/driver.py": ""}
CUDA = {**OLD_CUDA, "cuda/bindings/utils.py": "get_cuda_native_handle = int\n"}
NO_CUDA = {"cuda.py": "raise ImportError('no cuda')\n"}
ASK = """
from ssn_edge.backends import gpu
try:
    print(gpu.binding().NAME)
except gpu.BackendError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "files, expected",
    [
        ({**PYCUDA, **CUDA}, "pycuda"),
        ({**PYCUDA, **NO_CUDA}, "pycuda"),
        ({**NO_DRIVER, **CUDA}, "cuda-python"),
        ({**NO_PYCUDA, **CUDA}, "cuda-python"),
        ({**NO_PYCUDA, **NO_CUDA}, "nothing here calls CUDA (pycuda: no pycuda; cuda-python: no cuda); "),
        ({**NO_DRIVER, **NO_CUDA}, "CUDA (pycuda: libcuda.so.1: no such file; cuda-python: no cuda); "),
        ({**NO_PYCUDA, **OLD_CUDA}, "cuda-python: No module named 'cuda.bindings.utils'); "),
    ],
)
def test_the_first_that_can_be_imported(files, expected, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    if expected.endswith("; "):
        assert f'{expected}run: pip install pycuda, or pip install "ssn-edge[rtx]"' in line
    else:
        assert line == expected


@pytest.mark.parametrize(
    "error, expected",
    [
        ("Error", r"CUDA failed while counting \(cuX failed: lost\); open the model again, .*"),
        ("OutOfMemory", "GPU out of memory while counting; close other programs .*"),
    ],
)
def test_an_error_is_one_line_that_says_what_helps(error, expected, monkeypatch):
    class Error(Exception):
        pass

    class OutOfMemory(Error):
        pass

    chosen = SimpleNamespace(Error=Error, OutOfMemory=OutOfMemory)
    monkeypatch.setattr(gpu, "binding", lambda: chosen)
    with pytest.raises(BackendError) as caught:
        with gpu.translated("counting"):
            raise getattr(chosen, error)("cuX failed:\n lost")
    assert re.fullmatch(expected, str(caught.value))
    with pytest.raises(KeyError):
        with gpu.translated("counting"):
            raise KeyError("not the driver's")
