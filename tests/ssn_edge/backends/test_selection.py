"""Which of a bundle's files runs here, and what is said about it. TensorRT is a stand-in of five lines: the
choice asks it for a version and a GPU, no more."""

import json
from types import SimpleNamespace

import pytest
import tiny
from click.testing import CliRunner

from ssn_edge import Detector, backends
from ssn_edge.backends import selection
from ssn_edge.commands.ssn_run import main as run_main
from ssn_edge.errors import BackendError, InputError, ModelError
from ssn_edge.files import sha256
from ssn_edge.frames.image_files import write_image
from ssn_edge.model import bundle

(ONE, *_) = backends.installed()


@pytest.fixture
def with_gpu(monkeypatch):
    """TensorRT 10.3.0 and an Orin."""
    device = SimpleNamespace(compute_capability="8.7", name="Orin")
    library = SimpleNamespace(
        NAME="tensorrt", version=lambda: "10.3.0", open_device=lambda: device
    )
    load = backends.load
    monkeypatch.setattr(backends, "load", lambda name: library if name == "tensorrt" else load(name))
    monkeypatch.setattr(backends, "engine_problem", lambda name: None)
    find = selection.importlib.util.find_spec
    monkeypatch.setattr(selection.importlib.util, "find_spec", lambda name: name == "tensorrt" or find(name))


def chosen(path, *arguments, **more):
    """What was chosen, as the role or the number of the engine."""
    choice = selection.choose(path, *arguments, **more)
    role, _, rest = choice.path.name.partition("-")
    plan = choice.path.read_bytes()
    return int(plan.split()[1]) if role == "engine" else role


def bundle_with(tmp_path, *engines):
    return tiny.write_bundle(tmp_path / "m.ssn", [tiny.engine_info(**one) for one in engines])


def single(**changes):
    return dict(model=tiny.info(), **changes)


def test_without_tensorrt(tmp_path, monkeypatch):
    path = bundle_with(tmp_path, {})
    with Detector.open(path) as detector:
        (entry,) = bundle.read(path).of_role("float32")
        assert detector.path == path / entry.name and detector.info == tiny.info()
        assert detector.choice == f"{entry.name}; not TensorRT: TensorRT is not installed"
        assert detector.backend_name.startswith(ONE)
    assert chosen(path, precision="float16") == chosen(path, ONE, "float16") == "half"
    assert selection.choose(path, ONE).why.endswith(".onnx, asked for")
    with pytest.raises(BackendError, match=r"ssn-edge\[tensorrt\]"):
        selection.choose(path, "tensorrt")
    with pytest.raises(BackendError, match="choose auto"):
        selection.choose(path, "tensorflow")


def test_an_engine_for_this_gpu_comes_first(tmp_path, with_gpu):
    path = bundle_with(tmp_path, {})
    choice = selection.choose(path)
    (entry,) = bundle.read(path).of_role("engine")
    assert (choice.path, choice.digest) == (path / entry.name, entry.sha256)
    assert choice.why == f"{entry.name}, built for this GPU" and choice.bundle.model == tiny.info().core()
    assert chosen(path, ONE) == "float32"
    assert chosen(path, "auto", "float32") == "float32"  # there is no engine in it
    with pytest.raises(InputError, match="no float32 engine in it; build one: ssn-export .*m.ssn --engine"):
        selection.choose(path, "tensorrt", "float32")


def test_engines_for_other_machines_are_passed_over_and_named(tmp_path, with_gpu):
    path = bundle_with(tmp_path, dict(tensorrt="10.13.3.9"), dict(compute_capability="8.6", device="A2"))
    choice = selection.choose(path)
    assert choice.path.name.startswith("float32-")
    assert "built with TensorRT 10.13.3.9, here is 10.3.0; build one: ssn-export" in choice.why
    with pytest.raises(InputError, match="here is 10.3.0; build one"):
        selection.choose(path, "tensorrt")


@pytest.mark.parametrize("engines, batch, best", [
    ([dict(batch=1), dict(batch=16)], 1, 0),
    ([dict(batch=1), dict(batch=16)], 2, 1),
    ([dict(batch=16), dict(batch=8)], 4, 1),
    ([dict(batch=1), dict(batch=2)], 16, 1),  # none takes so many: the nearest
    ([single(batch=4), dict(batch=4)], 1, 1),  # half precision is what it is for
    ([single(batch=4), dict(batch=1)], 4, 0),
    ([dict(hardware_compatible=True, compute_capability="8.0"), dict()], 1, 1),
    ([dict(tensorrt="10.0.1"), dict(hardware_compatible=True, compute_capability="8.0")], 1, 1),
])
def test_the_best_of_several(tmp_path, with_gpu, engines, batch, best):
    path = bundle_with(tmp_path, *engines)
    assert chosen(path, batch=batch) == best
    assert chosen(path, "tensorrt", batch=batch) == best
    assert selection.choose(path).why.startswith("engine-")


def test_several_are_counted(tmp_path, with_gpu):
    path = bundle_with(tmp_path, dict(batch=1), dict(batch=2), dict(tensorrt="9.0.0"))
    assert selection.choose(path).why.endswith("the best of 2 that fit this GPU, of 3 engines")


def test_an_engine_that_was_never_compared_is_taken_only_by_name(tmp_path, with_gpu):
    path = bundle_with(tmp_path, dict(unverified=True))
    choice = selection.choose(path)
    assert choice.path.name.startswith("float32-")
    assert "was never compared with the trained model" in choice.why
    assert chosen(path, "tensorrt") == 0


def test_with_no_library_for_the_graph_the_engines_misfit_is_named_too(tmp_path, with_gpu, monkeypatch):
    path = bundle_with(tmp_path, dict(tensorrt="9.0.0"))
    monkeypatch.setattr(backends, "installed", lambda: [])
    with pytest.raises(BackendError, match="no inference library .*; not TensorRT: engine-.* here is 10.3.0"):
        selection.choose(path)


def test_a_version_compatible_engine_does_not_stand_in_the_way(tmp_path, with_gpu):
    """Without a digest that allows its code another entry is taken and it is named; by name it is refused."""
    path = bundle_with(tmp_path, dict(version_compatible=True))
    assert "brings code for the host; --sha256 of the manifest allows it" in selection.choose(path).why
    with pytest.raises(ModelError, match="--sha256"):
        selection.choose(path, "tensorrt")
    assert chosen(path, sha256=sha256(path / bundle.MANIFEST)) == 0
    both = bundle_with(tmp_path / "b", dict(version_compatible=True), single(batch=1))
    assert chosen(both) == chosen(both, "tensorrt") == 1


def test_a_broken_gpu_is_named(tmp_path, with_gpu, monkeypatch):
    monkeypatch.setattr(backends, "engine_problem", lambda name: "no GPU")
    path = bundle_with(tmp_path, {})
    assert selection.choose(path).why.endswith("; not TensorRT: no GPU")
    with pytest.raises(InputError, match="m.ssn: no GPU"):
        selection.choose(path, "tensorrt")


def test_a_bundle_without_a_graph(tmp_path):
    path = tiny.write_bundle(tmp_path / "m.ssn", roles=["half"])
    with pytest.raises(InputError, match="no float32 graph in it, but float16; export it again"):
        selection.choose(path)
    path = tiny.write_bundle(tmp_path / "n.ssn", roles=["reference"])
    with pytest.raises(InputError, match="no float32 graph in it, but none at all"):
        selection.choose(path)


def test_a_plain_file_has_its_own_precision(tmp_path):
    path = tiny.write_model(tmp_path / "m.onnx")
    Detector.open(path, precision="float32").close()
    with pytest.raises(InputError, match="m.onnx: is float32, not float16; give another file, or a bundle"):
        Detector.open(path, precision="float16")


def test_the_command_says_which_and_why(tmp_path):
    path = bundle_with(tmp_path, {})
    write_image(tmp_path / "a.png", tiny.reference(1).images[0])

    def run(*arguments):
        result = CliRunner().invoke(run_main, [str(word) for word in arguments])
        return result.exit_code, result.output

    lines = tmp_path / "lines.jsonl"
    code, output = run(path, tmp_path / "a.png", "--json", lines)
    (entry,) = bundle.read(path).of_role("float32")
    assert code == 0 and output.startswith(f"m.ssn: none float32, 32x48, on {ONE} ")
    assert f"({entry.name}; not TensorRT: TensorRT is not installed)" in output.splitlines()[0]
    assert json.loads(lines.read_text())["score"] > 0.9
    assert "none float16" in run(path, tmp_path / "a.png", "--precision", "float16", "--verify")[1]
    outputs = (("--json", "x.jsonl"), ("--save", "."), ("--json", "manifest.json"), ("--ng", "sub/x"))
    for option, place in outputs:
        code, output = run(path, tmp_path / "a.png", option, path / place)
        assert code == 2 and ("lies in the model" in output or "is the model" in output), output
        assert len(output.splitlines()) == 1
    (path / entry.name).write_bytes(b"")
    code, output = run(path, tmp_path / "a.png")
    assert code == 2 and output.startswith(f"error: {path / entry.name}: 0 bytes, not the")
