"""Every name of cuda-python in our source, looked up in NVIDIA's wheels of several releases; and that other
threads run while one of its calls waits."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from releases import CUDA_BINDINGS, CUDA_TOO_OLD, cuda_bindings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE = ROOT / "ssn_edge" / "backends" / "gpu_cuda_python.py"


@pytest.fixture(scope="session")
def stub(tmp_path_factory):
    """The least driver, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc") or pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(library)]
    subprocess.run([*command, str(HERE / "driver_stub.c"), "-ldl", "-pthread"], check=True)
    return library


@pytest.fixture(scope="session")
def ask(cache, stub):
    """What a release answers, asked once; skips where it cannot be installed, such as on an older Python."""
    answers = {}

    def asked(release):
        if release not in answers:
            folder = cuda_bindings(cache, release)
            done = subprocess.run(
                [sys.executable, str(HERE / "ask_cuda_python.py"), str(stub)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
                capture_output=True, text=True,
            )
            assert done.returncode == 0, done.stderr
            answers[release] = json.loads(done.stdout)
            assert answers[release]["version"] == release
        return answers[release]

    return asked


def uses(source):
    """[(class or "" for the module, name, line, number of arguments or None)] of the driver's names. A
    function is handed on together with its arguments: ``_call(driver.cuInit, 0)``."""
    found, counts = [], {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            for place, argument in enumerate(node.args):
                counts[id(argument)] = len(node.args) - place - 1
        if isinstance(node, ast.Attribute):
            kind, _, name = ast.unparse(node).removeprefix("driver.").rpartition(".")
            if ast.unparse(node).startswith("driver.") and kind.count(".") == 0:
                found.append((kind, name, node.lineno, counts.get(id(node))))
    return found


def problems(source, api):
    """What is wrong with our text for one release."""
    found = []
    for kind, name, line, count in uses(source):
        if name not in api.get(kind, {}):
            found.append(f"line {line}: there is no {kind or 'driver'}.{name}")
        elif name.startswith("cu"):
            signature = re.match(rf"{name}\((.*?)\)", api[kind][name])
            names = [one for one in signature[1].split(",") if one.strip()]
            if len(names) != count:
                found.append(f"line {line}: {name} takes {len(names)} arguments, not {count}")
    return found


@pytest.mark.parametrize("release", CUDA_BINDINGS)
def test_every_name_exists(ask, release):
    source = SOURCE.read_text()
    assert not problems(source, ask(release)["api"])
    functions = {name for kind, name, *_ in uses(source) if name.startswith("cu")}
    assert len(functions) > 20 and functions == set(re.findall(r"\bcu[A-Z]\w+", source))


@pytest.mark.parametrize("release", CUDA_BINDINGS)
def test_others_run_while_the_driver_waits(ask, release):
    """And a result that the bindings do not know is an error of one line like any other."""
    answer = ask(release)
    assert answer["others_run"]
    assert re.fullmatch(
        r"CUDA failed while looking for a GPU \(cuDeviceGet failed: .*9999.*\); see whether nvidia-smi .*",
        answer["opened"],
    )


def test_a_release_that_stops_other_threads_is_refused(ask):
    answer = ask(CUDA_TOO_OLD)
    assert not answer["others_run"]
    assert answer["opened"].startswith("nothing here calls CUDA (pycuda: ")
    assert "cuda.bindings.utils" in answer["opened"] and 'pip install "ssn-edge[rtx]"' in answer["opened"]


@pytest.mark.parametrize(
    "change, expected",
    [
        (("driver.cuMemFreeHost", "driver.cuMemHostFree"), "there is no driver.cuMemHostFree"),
        (("driver.cuCtxPopCurrent)", "driver.cuCtxPopCurrent, 0)"), "takes 0 arguments, not 1"),
        (("driver.cuEventRecord, self.handle, ", "driver.cuEventRecord, "), "takes 2 arguments, not 1"),
        (("driver.cuMemFree, ", "driver.cuMemFree, size, "), "takes 1 arguments, not 2"),
        (("CU_DEVICE_ATTRIBUTE_INTEGRATED", "CU_DEVICE_INTEGRATED"), "no CUdevice_attribute.CU_DEVICE_INT"),
        (("CUDA_ERROR_OUT_OF_MEMORY", "CUDA_OUT_OF_MEMORY"), "there is no CUresult.CUDA_OUT_OF_MEMORY"),
        (("driver.CU_MEMHOSTALLOC_DEVICEMAP", "driver.CU_MEMHOSTALLOC_MAPPED"), "CU_MEMHOSTALLOC_MAPPED"),
    ],
)
def test_a_misspelt_call_is_found(ask, change, expected):
    source = SOURCE.read_text()
    assert change[0] in source
    found = problems(source.replace(*change), ask(CUDA_BINDINGS[0])["api"])
    assert any(expected in problem for problem in found), found
