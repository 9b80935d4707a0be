"""What is timed beside what: never one file under two names."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import real_providers
import tiny

from ssn_bench.measure import contenders, environment
from ssn_bench.measure.ready import graph_of
from ssn_bench.profile import layer_times
from ssn_edge import backends
from ssn_edge.backends import selection
from ssn_edge.errors import BackendError, InputError
from ssn_edge.files import sha256
from ssn_edge.model import bundle

(ONE, *_) = backends.installed()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A bundle, a link to it, another one, and plain files of the same model."""
    tiny.write_bundle(tmp_path / "m.ssn")
    tiny.write_bundle(tmp_path / "other.ssn")
    Path(tmp_path / "link.ssn").symlink_to("m.ssn")
    for name in ("m.onnx", "m.fp16.onnx"):
        tiny.write_model(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder, name, role="float32"):
    (entry,) = bundle.read(folder / name).of_role(role)
    return f"{name}/{entry.name}"


def refused(arguments):
    with pytest.raises(InputError) as caught:
        contenders.parse(arguments, [ONE])
    return str(caught.value)


def test_one_file_under_two_names_is_refused(folder):
    file = content(folder, "m.ssn")
    for second in ("link.ssn", file, str(folder / "m.ssn"), str(folder / file)):
        expected = f"m.ssn and {second}: both run {Path(file).name} on {ONE}; give one of them"
        assert refused(["other.ssn", "m.ssn", second]) == expected
    Path("link.onnx").symlink_to("m.onnx")
    assert refused(["m.onnx", "link.onnx"]).startswith("m.onnx and link.onnx: both run m.onnx")


def test_one_engine_under_two_names_is_refused(folder, monkeypatch):
    library = SimpleNamespace(NAME="tensorrt")
    engine = folder / "m.ssn" / "engine-00000000.engine"
    monkeypatch.setattr(selection, "choose", lambda *_: selection.Choice(library, engine, "the best"))
    with pytest.raises(InputError, match="both run engine-00000000.engine .* or --backend onnxruntime$"):
        contenders.parse(["m.ssn", "link.ssn"], ["auto"])


def labels(arguments, wanted, precision=None):
    return [one.label for one in contenders.parse(arguments, wanted, precision)]


def test_what_stays_allowed(folder):
    assert labels(["m.ssn", "m.ssn"], [ONE]) == [f"m.ssn, {ONE}", f"m.ssn, {ONE} #2"]
    assert labels(["m.ssn", "other.ssn"], ["auto"]) == [f"m.ssn, {ONE}", f"other.ssn, {ONE}"]
    assert labels(["m.onnx", "m.fp16.onnx"], [ONE]) == [f"m.onnx, {ONE}", f"m.fp16.onnx, {ONE}"]
    half = content(folder, "m.ssn", "half")
    assert labels(["m.ssn", half], [ONE]) == [f"m.ssn, {ONE}", f"{Path(half).name}, {ONE}"]


def test_precision_narrows(folder):
    (one,) = contenders.parse(["m.ssn"], [ONE], "float16")
    assert one.opens == (ONE, (folder / content(folder, "m.ssn", "half")).resolve())
    with pytest.raises(InputError, match="no float16 graph in it, but float32; export it again with --fp16"):
        contenders.parse([str(tiny.write_bundle(folder / "single.ssn", roles=["float32"]))], [ONE], "float16")


def test_the_graph_of_what_runs(folder):
    """An engine's is the file of the bundle that it was built from."""
    half = Path(content(folder, "m.ssn", "half"))
    engine = tiny.engine_info(onnx_sha256=sha256(half))
    path = tiny.write_bundle(folder / "with.ssn", [engine])
    (entry,) = bundle.read(path).of_role("engine")
    choice = selection.Choice(None, path / entry.name, "the best")
    assert sha256(graph_of(path, choice)) == sha256(half)
    assert graph_of(Path("m.onnx"), selection.Choice(None, Path("m.onnx"), "")) == Path("m.onnx")
    with pytest.raises(InputError, match="the graph that m.engine was made of is needed"):
        graph_of(Path("m.engine"), selection.Choice(None, Path("m.engine"), ""))


def test_a_bundle_is_no_run_folder(folder):
    with pytest.raises(InputError, match="eager PyTorch runs run folders and methods"):
        contenders.parse(["m.ssn"], ["torch"])
    assert labels(["m.ssn"], ["all"]) == [f"m.ssn, {name}" for name in backends.installed()]


def test_labels_tell_providers_and_threads(folder, monkeypatch):
    assert labels(["m.ssn"], ["onnxruntime:cpu", "onnxruntime"]) == [
        "m.ssn, onnxruntime", "m.ssn, onnxruntime #2"
    ]
    (one,) = contenders.parse(["m.ssn"], [ONE], threads=2)
    assert (one.label, one.threads) == (f"m.ssn, {ONE}, 2 threads", 2)
    library = SimpleNamespace(NAME="onnxruntime:cuda", version=lambda: "1.30.0")
    monkeypatch.setattr(
        selection, "choose", lambda *_: selection.Choice(library, folder / "m.onnx", "asked for")
    )
    assert labels(["m.onnx"], ["onnxruntime:cuda"]) == ["m.onnx, onnxruntime:cuda"]
    with pytest.raises(BackendError, match="onnxruntime:cuda tells no times of its layers"):
        layer_times.profile(folder / "m.onnx", "onnxruntime:cuda", "m.onnx")


def test_eager_pytorch_takes_no_threads(folder):
    pytest.importorskip("torch")
    (folder / "run").mkdir()
    with pytest.raises(InputError, match="run, eager PyTorch: --threads is not for eager PyTorch"):
        contenders.parse(["run"], ["auto"], threads=1)


@pytest.mark.parametrize("name", real_providers.HERE or [
    pytest.param("", marks=pytest.mark.skip(reason=real_providers.WHY))
])
def test_a_provider_is_opened_and_said(folder, name):
    (one,) = contenders.parse(["m.ssn"], [name])
    with contenders.opened(one, 4, folder, print) as ready:
        ready.call.run()
        assert one.label == f"m.ssn, {name}" and ready.batch == 4
        assert ready.about["backend"].split()[0] == name and "agrees with 3 reference" in ready.about[
            "backend_choice"]
        expected = f"a device of {name}" if "ggml" in name else environment.processor()
        assert ready.about["device"] == expected
