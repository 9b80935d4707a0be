"""The real tensorrt bindings and the real pycuda over stand-ins for the driver and the library.

These tests run once per TensorRT release in a process of its own, started by
``tests/end_to_end/test_tensorrt.py``; elsewhere they are not collected. They prove which calls are
made in which order, that nothing leaks and what a failure leads to. They say nothing about speed,
precision, or which operators TensorRT supports.
"""

import gc
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

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


def check_ledger():
    """Only the process's hold on the primary context may be left."""
    gc.collect()
    found = fakegpu.report()
    assert not found["violations"], found["violations"]
    assert set(found["live"]) <= {"context"} and found["live"].get("context", 1) == 1, found["live"]
    assert not found["queued_ops"]


def export(*words):
    """(exit code, output) of ssn-export."""
    from ssn_export.cli import main

    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="session")
def typed():
    from ssn_export.trt_build import typed

    return typed()


@pytest.fixture
def tiny_onnx(tmp_path):
    """The model with known answers, and frames with theirs beside it."""
    from ssn_export import parity

    path = tiny.write_model(tmp_path / "m.onnx", tiny.info(float32_nodes=()).to_json())
    images = np.random.default_rng(3).integers(0, 256, (3, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    maps = images.astype(np.float64).mean(3)
    truth = parity.Reference(images, maps, maps.max((1, 2)) / 255)
    parity.write_reference(parity.reference_path(path), truth)
    return path


@pytest.fixture
def tiny_engine(tiny_onnx):
    code, output = export(tiny_onnx, "--engine", tiny_onnx.with_suffix(".engine"), "--batch", "2")
    assert code == 0, output
    return tiny_onnx.with_suffix(".engine")


@pytest.fixture(scope="session")
def exported():
    """Folder with a trained model's model.onnx, model.fp16.onnx and model.reference.npz."""
    return Path(os.environ["SSN_EXPORTED"])


@pytest.fixture
def real(exported, tmp_path, typed):
    """The trained model's engine in half precision, built from a copy; its ONNX file; the output."""
    for file in exported.glob("model.*"):
        shutil.copy(file, tmp_path)
    source = tmp_path / ("model.fp16.onnx" if typed else "model.onnx")
    engine = tmp_path / "model.engine"
    words = [source, "--engine", engine, "--batch", "2"] + ([] if typed else ["--fp16"])
    code, output = export(*words, "--layers")
    assert code == 0, output
    return SimpleNamespace(
        engine=engine, source=source, output=output,
        description=json.loads(engine.with_suffix(".json").read_text()),
    )
