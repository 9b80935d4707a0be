"""What only a GPU can tell: ``make gpu-test``. Figures go to ``gpu-report.json``.

The model comes from the bundle that ``SSN_EXPORTED`` names (of ``ssn-export RUN --fp16``); without it,
and with PyTorch, from a few steps of training on made-up photos, whose speed is that of any model of its
size.
"""

import importlib.util
import os
import platform
import shutil
from pathlib import Path

import pytest
from commands import command

from ssn_edge import backends
from ssn_edge.files import write_json
from ssn_edge.model.engine_file import PRODUCTS

FIGURES = {}
OUTCOMES = {}


def pytest_collection_modifyitems(items):
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    problems = {name: backends.engine_problem(name) if here else None for name in PRODUCTS}
    for item in here:
        name = "rtx" if item.path.stem in ("test_rtx", "test_ranking") else "tensorrt"
        if problems[name]:
            reason = f"needs {PRODUCTS[name]} and a GPU: {problems[name]}"
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_logreport(report):
    if "/gpu/" in report.nodeid and (report.when == "call" or report.skipped):
        reason = report.longrepr[2] if report.skipped else ""
        OUTCOMES[report.nodeid.rpartition("::")[2]] = f"{report.outcome} {reason}".strip()


def pytest_sessionfinish(session):
    if OUTCOMES and session.config.args_source.name == "ARGS":
        path = Path(os.environ.get("SSN_GPU_REPORT", "gpu-report.json"))
        write_json(path, {"machine": _machine(), "outcomes": OUTCOMES, "figures": FIGURES})


def _machine():
    about = {"machine": platform.platform(), "python": platform.python_version()}
    here = [name for name in PRODUCTS if backends.engine_problem(name) is None]
    if here:
        from ssn_edge.backends import gpu

        device = gpu.open_device()
        with device.active("asking for memory"):
            free, total = device.free_memory()
        about.update(
            **{name: backends.load(name).version() for name in here},
            gpu=device.name, integrated=device.integrated,
            compute_capability=device.compute_capability, free_bytes=free, total_bytes=total,
            cuda_driver=gpu.binding().driver_version(), cuda_binding=gpu.binding().NAME,
        )
    return about


@pytest.fixture(scope="session")
def figures():
    """What the tests measure, by test."""
    return FIGURES


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run folder made here; skips without PyTorch."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("no PyTorch here: set SSN_EXPORTED to a bundle")
    from ssn_bench.demo import surfaces

    folder = tmp_path_factory.mktemp("trained")
    surfaces.write_dataset(folder / "data", "fabric", size=256, n_train=12, n_test_good=4, n_per_defect=2)
    arguments = ["--size", "256x256", "--steps", "6", "--batch", "4", "--workers", "2"]
    command("ssn_train", folder / "data", "--out", folder / "run", *arguments)
    return folder / "run"


@pytest.fixture(scope="session")
def exported(request, tmp_path_factory):
    """A copy of the bundle."""
    path = tmp_path_factory.mktemp("exported") / "model.ssn"
    given = os.environ.get("SSN_EXPORTED")
    if given:
        return Path(shutil.copytree(given, path))
    command("ssn_export", request.getfixturevalue("run"), "--out", path, "--fp16", "--plan", "full")
    return path
