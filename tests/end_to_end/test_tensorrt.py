"""``tests/simulated`` once per TensorRT release, each in a process with that release's bindings and pycuda;
with one release once more with cuda-python in pycuda's place."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from releases import CUDA_BINDINGS, bindings, cuda_bindings, install

HERE = Path(__file__).resolve().parents[1]
SIMULATED = {  # release -> the folder of stand-in libraries
    "8.6.1": "trt8.6.1",
    "10.3.0": "trt10.3.0",
    "10.13.3": "trt10.13.3",
    "10.16.1": "trt10.16.1",
    "11.4.0": "trt11.1",
}


@pytest.fixture(scope="session")
def pycuda(simulation, request):
    """Folder with the pycuda that was built for the simulation."""
    wheels = sorted((simulation / "whl").glob("pycuda-*.whl"))
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    if not any(tag in wheel.name for wheel in wheels):
        pytest.skip(f"{simulation}: no pycuda for Python {sys.version_info.major}.{sys.version_info.minor}")
    cache = request.config.cache.mkdir("tensorrt")
    return install(cache / "pycuda", str(wheels[-1]))


@pytest.fixture(scope="session")
def cuda_python(request, tmp_path_factory):
    """Folders with the newest cuda-bindings and with a pycuda that cannot be imported, as where none is."""
    hidden = tmp_path_factory.mktemp("hidden")
    (hidden / "pycuda.py").write_text("raise ImportError('hidden')\n")
    folder = cuda_bindings(request.config.cache.mkdir("tensorrt"), CUDA_BINDINGS[-1])
    return os.pathsep.join([str(hidden), str(folder)])


@pytest.fixture(scope="session")
def simulated(simulation, trained, request):
    """Runs pytest with a release's bindings over the stand-ins; ``cuda`` is what calls the driver."""

    def run(release, *arguments, cuda="pycuda", **more):
        library = bindings(request.config.cache.mkdir("tensorrt"), release)
        binding = str(request.getfixturevalue(cuda.replace("-", "_")))
        path = [str(library), binding, str(simulation), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(path), "FAKEGPU": "1", "FAKEGPU_QUIET": "1",
            "FAKEGPU_TRT": SIMULATED[release], "SSN_EXPORTED": str(trained.bundle), "SSN_CUDA": cuda, **more,
        }
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "fakegpu", *arguments]
        done = subprocess.run(
            command, env=environment, cwd=HERE.parent, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        return int(re.search(r"(\d+) passed", done.stdout).group(1))

    return run


@pytest.mark.parametrize("release", SIMULATED)
def test_simulated(release, simulated):
    assert simulated(release, str(HERE / "simulated")) > 80


def test_simulated_with_cuda_python(simulated):
    assert simulated("10.13.3", str(HERE / "simulated"), cuda="cuda-python") > 80


def test_export_builds_the_engine_where_it_can(simulated, trained, tmp_path):
    """With PyTorch, TensorRT and a GPU in one place, --fp16 writes the engine too."""
    test = tmp_path / "test_export.py"
    test.write_text(f"""
def test_export(tmp_path):
    from click.testing import CliRunner
    from ssn_export.cli import main
    from ssn_edge.model.bundle import read
    arguments = [{str(trained.run)!r}, "--out", tmp_path / "m.ssn", "--fp16", "--plan", "full"]
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert result.exit_code == 0, result.output
    assert "engine against the trained model" in result.output
    entries = read(tmp_path / "m.ssn").entries
    assert [one.role for one in entries] == ["float32", "half", "reference", "calibration", "engine"]
    assert [p.name for p in tmp_path.iterdir()] == ["m.ssn"]
""")
    assert simulated("10.13.3", "-c", str(HERE.parent / "setup.cfg"), str(test)) == 1


def test_the_gpu_tests_themselves(simulated, tmp_path):
    """That ``make gpu-test`` runs and reports; its figures mean nothing here."""
    report = tmp_path / "report.json"
    more = {"SSN_GPU_FRAMES": "20", "SSN_GPU_REPORT": str(report)}
    simulated("10.13.3", str(HERE / "gpu"), "-k", "not fused", **more)
    written = json.loads(report.read_text())
    assert written["machine"]["gpu"] == "Fake GPU (host memory)"
    assert written["figures"]["latency_ms"]["n"] == 20 and written["figures"]["memory"]
    assert written["outcomes"]["test_half_engine"] == "passed"
