"""Who may import whom, and what an import may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ssn_edge

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "ssn_edge": ROOT / "ssn_edge",
    "ssn_train": ROOT / "train" / "ssn_train",
    "ssn_export": ROOT / "export" / "ssn_export",
    "ssn_bench": ROOT / "benchmarks" / "ssn_bench",
}
ALLOWED = {
    "ssn_edge": {"numpy", "cv2", "click", "onnxruntime", "openvino", "tensorrt", "pycuda", "paho",
                 "prometheus_client", "cffi"},
    "ssn_train": {"ssn_edge"},
    "ssn_export": {"ssn_edge", "ssn_train"},
    "ssn_bench": {"ssn_edge", "ssn_train", "ssn_export"},
}
TORCH_FREE = [
    "ssn_edge", "ssn_edge.cli", "ssn_train", "ssn_train.datasets", "ssn_export", "ssn_export.cli",
    "ssn_export.triton", "ssn_export.layers", "ssn_export.parity", "ssn_bench", "ssn_bench.cli",
]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", FOLDERS)
def test_dependencies_point_one_way(package):
    ours = set(FOLDERS)
    for path in FOLDERS[package].rglob("*.py"):
        found = set(imports(path))
        assert not (found & ours) - ALLOWED[package] - {package}, path
        if package == "ssn_edge":
            foreign = found - sys.stdlib_module_names - ALLOWED[package] - {package}
            assert not foreign, path
            assert not found & {"click", "cffi"} or path.name in ("cli.py", "build.py"), path


@pytest.mark.parametrize("module", TORCH_FREE)
def test_torch_stays_out(module):
    """In an environment with torch it is not loaded; where it is blocked the import still works."""
    code = (
        "import sys; sys.modules['torch'] = None; "
        f"import {module}; assert sys.modules['torch'] is None"
    )
    path = [str(ROOT), *(str(folder.parent) for folder in FOLDERS.values())]
    words = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {code}"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_exported_names():
    assert sorted(ssn_edge.__all__) == ssn_edge.__all__
    assert all(hasattr(ssn_edge, name) for name in ssn_edge.__all__)
