"""What the tests on a simulated device share: exports, and the ledger of what is alive on it."""

import gc

from click.testing import CliRunner

try:
    import fakegpu
except ImportError:
    fakegpu = None


def check_ledger():
    """Only the process's hold on the primary context may be left."""
    gc.collect()
    found = fakegpu.report()
    assert not found["violations"], found["violations"]
    assert set(found["live"]) <= {"context"} and found["live"].get("context", 1) == 1, found["live"]
    assert not found["queued_ops"]


def export(*arguments):
    """(exit code, output) of ssn-export."""
    from ssn_export.cli import main

    result = CliRunner().invoke(main, [str(word) for word in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def images_of(onnx):
    return onnx.with_suffix(".reference.npz")


def build(onnx, engine, *arguments):
    """(exit code, output) of building a plain engine, compared with the frames beside the file."""
    return export(onnx, "--engine-out", engine, "--reference", images_of(onnx), *arguments)


def make_integrated(monkeypatch):
    from ssn_edge.backends import gpu

    monkeypatch.setattr(gpu.open_device(), "integrated", True)
