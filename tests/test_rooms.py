"""Which room may import which, and what an import may load. docs/architecture.md shows the same tables."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ssn_edge

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "ssn_edge": ROOT / "ssn_edge",
    "ssn_train": ROOT / "train" / "ssn_train",
    "ssn_export": ROOT / "export" / "ssn_export",
    "ssn_bench": ROOT / "benchmarks" / "ssn_bench",
}
PACKAGES = {  # package -> those below it
    "ssn_edge": set(), "ssn_train": {"ssn_edge"}, "ssn_export": {"ssn_edge", "ssn_train"},
    "ssn_bench": {"ssn_edge", "ssn_train", "ssn_export"},
}
ROOMS = {  # room -> rooms of its package that it may import; "" is the package's own modules
    "ssn_edge": {
        "frames": set(),
        "model": set(),
        "verdict": {"frames", "model"},
        "backends": {"model"},
        "sources": {"frames"},
        "": {"frames", "model", "verdict", "backends", "sources", "line"},
        "line": {"frames", "model", "verdict", "sources"},
        "commands": {"frames", "model", "verdict", "backends", "sources", "line"},
        "c": {"frames", "verdict", "commands"},
        "testing": {"frames", "model", "backends"},
    },
    "ssn_train": {
        "parts": set(),
        "data": {"parts"},
        "options": {"data"},
        "network": set(),
        "report": {"data"},
        "steps": {"data", "options", "network"},
        "training": {"data", "options", "network", "parts", "report", "steps"},
        "": {"data", "options", "report", "training"},
    },
    "ssn_export": {
        "work": set(),
        "gates": set(),
        "bundles": {"gates"},
        "tensorrt": {"gates", "bundles", "work"},
        "targets": {"tensorrt", "work"},
        "half": set(),
        "graph": {"gates", "bundles", "tensorrt", "targets", "half"},
        "serving": {"bundles"},
        "": {"bundles", "graph", "tensorrt", "serving", "targets"},
    },
    "ssn_bench": {
        "comparison": {"methods"},
        "measure": {"comparison", "methods"},
        "methods": {"comparison", "measure"},
        "profile": {"measure"},
        "report": {"comparison", "measure", "profile"},
        "soak": {"measure", "report"},
        "demo": set(),
        "promises": {"demo", "measure"},
        "pareto": {"report"},
        "": {"measure", "methods", "pareto", "profile", "report"},
    },
}
LAZY = {("ssn_bench", "comparison", "methods"), ("ssn_bench", "measure", "methods")}
"""Only inside functions: methods are built where one is asked for by name."""

SHARED = {
    "errors", "files", "text", "values", "signals", "telemetry", "detector", "inventory", "part_names",
}
"""ssn_edge's own modules. Rooms below the detector do not import it."""

WITH_TORCH = {
    ("ssn_train", "network"), ("ssn_train", "steps"), ("ssn_train", "training"), ("ssn_export", "graph"),
    ("ssn_bench", "methods"), ("ssn_bench", "pareto"),
}
"""All other rooms run without, and on Python 3.8."""

TORCH = {"torch", "timm", "safetensors", "torchvision"}

LIBRARIES = {  # what ssn_edge's rooms may import besides numpy and OpenCV
    "frames": {"simplejpeg"},
    "backends": {"onnxruntime", "openvino", "tensorrt", "tensorrt_rtx_bindings", "pycuda", "cuda"},
    "line": {"paho", "prometheus_client"}, "commands": {"click"}, "c": {"click", "cffi"},
}
MOST_MODULES = 12
MOST_LINES = 400


def modules(package):
    return sorted(path for path in FOLDERS[package].rglob("*.py") if "__pycache__" not in path.parts)


def room_of(package, parts):
    return parts[0] if parts and (FOLDERS[package] / parts[0]).is_dir() else ""


def imports(path):
    """(module or name imported, whether inside a function)."""
    tree = ast.parse(path.read_text())
    lazy = {
        id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split("."), id(node) in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (([*node.module.split("."), alias.name], id(node) in lazy) for alias in node.names)


@pytest.mark.parametrize("package", FOLDERS)
def test_rooms_import_downwards(package):
    for path in modules(package):
        room = room_of(package, path.relative_to(FOLDERS[package]).parts)
        for (top, *rest), lazy in imports(path):
            if top == package:
                other = room_of(package, rest)
                if other == room or not rest:
                    continue
                if not other:
                    assert package != "ssn_edge" or rest[0] in SHARED or room in ("", "c"), path
                    assert room in ("line", "commands", "c", "testing", "") or rest[0] != "detector", path
                    continue
                assert other in ROOMS[package][room], f"{path.relative_to(ROOT)} imports {package}.{other}"
                assert lazy or (package, room, other) not in LAZY, path
            elif top in FOLDERS:
                assert top in PACKAGES[package], path
                if (top, room_of(top, rest)) in WITH_TORCH and (package, room) not in WITH_TORCH:
                    assert lazy, f"{path.relative_to(ROOT)} needs torch"
            elif top in TORCH:
                assert lazy or (package, room) in WITH_TORCH, path
            elif package == "ssn_edge":
                known = {"numpy", "cv2", *LIBRARIES.get(room, ())}
                assert top in sys.stdlib_module_names or top in known, f"{path.relative_to(ROOT)}: {top}"


@pytest.mark.parametrize("package", FOLDERS)
def test_every_room_is_in_the_tables_and_installed(package):
    rooms = {path.name for path in FOLDERS[package].iterdir() if (path / "__init__.py").is_file()}
    assert rooms | {""} == set(ROOMS[package])
    listed = (ROOT / "setup.cfg").read_text().split("packages =\n")[1].split("package_dir")[0].split()
    assert {name for name in listed if name.partition(".")[0] == package} == {
        package, *(f"{package}.{room}" for room in rooms)
    }


@pytest.mark.parametrize("package", FOLDERS)
def test_rooms_stay_small(package):
    for folder in {path.parent for path in modules(package)}:
        count = sum(path.name != "__init__.py" for path in folder.glob("*.py"))
        assert count <= MOST_MODULES, folder
    assert not [path for path in modules(package) if len(path.read_text().splitlines()) > MOST_LINES]


TORCH_FREE = [
    ".".join([package, *path.relative_to(FOLDERS[package]).with_suffix("").parts])
    for package in FOLDERS for path in modules(package)
    if (package, room_of(package, path.relative_to(FOLDERS[package]).parts)) not in WITH_TORCH
    and path.stem not in ("__main__", "__init__")
]
OTHER_LIBRARIES = {
    "tensorrt", "tensorrt_rtx_bindings", "pycuda", "cuda", "openvino", "onnxruntime", "onnx", "scipy",
    "sklearn", "matplotlib", "cffi", "tqdm",
}


def test_torch_stays_out():
    """Where torch is blocked every module of the other rooms is imported, but for other missing libraries."""
    code = f"""
import importlib, sys
class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocked())
for name in {TORCH_FREE!r}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        assert (error.name or "").partition(".")[0] in {OTHER_LIBRARIES!r}, (name, error)
assert "torch" not in sys.modules
"""
    path = [str(ROOT), *(str(folder.parent) for folder in FOLDERS.values())]
    arguments = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_exported_names():
    assert sorted(ssn_edge.__all__) == ssn_edge.__all__
    assert all(hasattr(ssn_edge, name) for name in ssn_edge.__all__)
