"""Inference libraries send nothing and note nothing down, unless it is asked for."""

import os
import subprocess
import sys

import pytest
import tiny

CASES = {
    "the runtime": "from ssn_edge import Detector; Detector.open(sys.argv[1], sys.argv[2]).close()",
    "the export": "import ssn_export.gates.parity, onnxruntime",
    "a command": "from ssn_edge.commands.ssn_run import main; main([sys.argv[1], sys.argv[3]])",
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_nothing_in_the_home_folder(tmp_path, case, library):
    """Where ONNX Runtime from 1.29 on keeps an identifier and what is still to be sent."""
    pytest.importorskip(library)
    home, model = tmp_path / "home", tiny.write_model(tmp_path / "m.onnx")
    home.mkdir()
    (tmp_path / "a.pgm").write_bytes(b"P5 4 4 255\n" + bytes(16))
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "XDG_CACHE_HOME")}
    environment.update(HOME=str(home), PYTHONPATH=os.pathsep.join(sys.path))
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    code = f"import sys, os; {CASES[case]}; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    if case == "a command":
        code = code.partition("; assert")[0]
    arguments = [str(model), library, str(tmp_path / "a.pgm")]
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not list(home.rglob("*"))


def test_who_wants_it_may_have_it():
    code = "import os, ssn_edge; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "0\n"
