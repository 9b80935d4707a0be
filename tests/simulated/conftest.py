"""The real tensorrt bindings and the real pycuda, or cuda-python, over stand-ins for driver and library.

These tests run once per TensorRT release in a process of its own, started by
``tests/end_to_end/test_tensorrt.py``; elsewhere they are not collected. They prove which calls are
made in which order, that nothing leaks and what a failure leads to. They say nothing about speed,
precision, or which operators TensorRT supports.
"""

import gc
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
from simulated_device import build, check_ledger, export, images_of

from ssn_edge.model import bundle

try:
    import fakegpu
except ImportError:
    collect_ignore_glob = ["test_*.py"]
    fakegpu = None


@pytest.fixture(autouse=True)
def ledger():
    """Every test ends without a violation, with nothing alive and nothing queued."""
    gc.collect()
    fakegpu.reset()
    fakegpu.set_fail("")
    yield
    fakegpu.set_fail("")
    check_ledger()


@pytest.fixture(scope="session")
def typed():
    from ssn_edge import backends
    from ssn_export.tensorrt import builder

    return builder.typed(backends.engine_library().PRODUCT)


@pytest.fixture
def tiny_onnx(tmp_path):
    """The model with known answers, and images with theirs beside it."""
    from ssn_export.gates import parity

    path = tiny.write_model(tmp_path / "m.onnx", tiny.info(float32_nodes=()).to_json())
    parity.write_reference(images_of(path), tiny.reference())
    return path


@pytest.fixture
def tiny_engine(tiny_onnx):
    code, output = build(tiny_onnx, tiny_onnx.with_suffix(".engine"), "--batch", "2")
    assert code == 0, output
    return tiny_onnx.with_suffix(".engine")


@pytest.fixture
def tiny_bundle(tmp_path):
    """The same as a bundle, without an engine."""
    return tiny.write_bundle(tmp_path / "m.ssn", float32_nodes=())


@pytest.fixture(scope="session")
def exported():
    """A trained model's bundle."""
    return Path(os.environ["SSN_EXPORTED"])


@pytest.fixture
def real(exported, tmp_path, typed):
    """The trained model's engine in half precision, added to a copy; its graph; the output."""
    path = shutil.copytree(exported, tmp_path / "model.ssn")
    code, output = export(path, "--engine", "--batch", "2", "--layers")
    assert code == 0, output
    found = bundle.read(path)
    (entry,), (graph,) = found.of_role("engine"), found.of_role("half" if typed else "float32")
    return SimpleNamespace(
        bundle=path, entry=entry, engine=found.place(entry), source=found.place(graph), output=output,
    )
