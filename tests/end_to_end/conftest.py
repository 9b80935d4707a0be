"""One small trained and exported run, shared by the tests of this folder."""

from types import SimpleNamespace

import pytest
from commands import OPTIONS, call

pytest.importorskip("torch", reason="training needs torch")

from ssn_bench.demo import surfaces  # noqa: E402
from ssn_export.cli import main as export_main  # noqa: E402
from ssn_train.cli import main as train_main  # noqa: E402


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "granular"
    surfaces.write_dataset(folder, "granular", size=128, n_train=12, n_test_good=4, n_per_defect=2)
    return folder


@pytest.fixture(scope="session")
def published(data, tmp_path_factory):
    """The run folder of the paper's recipe: its levels, map, heads and step; letterboxed."""
    run = tmp_path_factory.mktemp("published") / "run"
    code, output = call(train_main, data, "--out", run, *OPTIONS, "--published", "--geometry", "letterbox")
    assert code == 0, output
    return run


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """Folder with run/, model.ssn, and its files under plain names."""
    folder = tmp_path_factory.mktemp("trained")
    code, train_output = call(train_main, data, "--out", folder / "run", *OPTIONS)
    assert code == 0, train_output
    code, export_output = call(
        export_main, folder / "run", "--out", folder / "model.ssn", "--fp16",
        "--plan", "full",
    )
    assert code == 0, export_output
    code, output = call(export_main, folder / "model.ssn", "--unpack", folder)
    assert code == 0, output
    return SimpleNamespace(
        run=folder / "run", bundle=folder / "model.ssn",
        model=folder / "model.onnx", half=folder / "model.fp16.onnx",
        reference=folder / "model.reference.npz", train_output=train_output, export_output=export_output,
    )
