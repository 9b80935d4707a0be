"""What is shipped: the wheel has every module and its data, the sdist what it takes to test and build it."""

import configparser
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = tuple(
    ROOT / folder for folder in ("ssn_edge", "train/ssn_train", "export/ssn_export", "benchmarks/ssn_bench")
)
IN_SDIST = (
    "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "noxfile.py",
    "mkdocs.yml", "setup.cfg", "pyproject.toml", "docs/index.md", "docs/live.jpg", "examples/c_camera_loop.c",
    "tests/conftest.py", "tests/support/tiny.py", "tests/ssn_edge/c/misuse.c", ".github/workflows/test.yml",
)

pytest.importorskip("build", reason="build is not installed")
pytest.importorskip("wheel", reason="wheel is not installed")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)  # the wheel is built from the sdist
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


def test_the_wheel_has_every_module_and_its_data(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
    sources = {
        f"{package.name}/{path.relative_to(package).as_posix()}"
        for package in CODE for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= names, sources - names
    assert not {name for name in names - sources if ".dist-info/" not in name}
    assert "ssn_edge/py.typed" in names


def test_the_sdist_can_be_tested(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert set(IN_SDIST) <= names, set(IN_SDIST) - names
    kept = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert kept <= names, kept - names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_wheel_runs_where_nothing_else_of_ours_is(built, tmp_path):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy, ssn_edge\n"
        "from ssn_edge.testing import write_tiny_model\n"
        "assert ssn_edge.__file__.startswith(sys.argv[1])\n"
        "with ssn_edge.Detector.open(write_tiny_model(sys.argv[1] + '/m.onnx')) as detector:\n"
        "    print(detector.detect(numpy.zeros((32, 48), numpy.uint8)).is_defect)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "False", done.stderr


def test_no_address_is_invented():
    """The project has none yet: PROJECT_URL is the one variable for it (CONTRIBUTING.md)."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert not {"url", "project_urls", "download_url"} & set(config["metadata"])
    assert "PROJECT_URL" in (ROOT / "mkdocs.yml").read_text()
