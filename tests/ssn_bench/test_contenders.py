"""What is timed beside what: never one file under two names."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny

from ssn_bench import contenders
from ssn_edge import backends
from ssn_edge.errors import InputError

(ONE, *_) = backends.installed()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two files of one model, another one, and their engines on a machine that would run those."""
    for name in ("m.onnx", "m.fp16.onnx", "other.onnx"):
        tiny.write_model(tmp_path / name)
    for name in ("m.engine", "other.engine"):
        (tmp_path / name).write_bytes(b"")
    choose = backends.choose

    def with_tensorrt(model, name):
        if name == "auto" and model.suffix in (".onnx", ".engine"):
            return backends.Choice(SimpleNamespace(NAME="tensorrt"), backends.engine_path(model), "beside")
        return choose(model, name)

    monkeypatch.setattr(backends, "choose", with_tensorrt)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", [
    ("m.onnx", "m.fp16.onnx"), ("other.onnx", "m.onnx", "m.engine"), ("m.onnx", "{folder}/m.fp16.onnx"),
])
def test_one_engine_under_two_names_is_refused(folder, words):
    first, second = [word.format(folder=folder) for word in words if word != "other.onnx"]
    with pytest.raises(InputError) as caught:
        contenders.parse([word.format(folder=folder) for word in words], ["auto"])
    assert str(caught.value) == (
        f"{first} and {second}: both run m.engine on tensorrt; give one of them, or --backend onnxruntime"
    )


def test_a_link_is_another_name_too(folder):
    Path("link.onnx").symlink_to("m.onnx")
    with pytest.raises(InputError, match=f"and link.onnx: both run m.onnx on {ONE}; give one of them$"):
        contenders.parse(["m.onnx", "link.onnx"], [ONE])


def labels(words, wanted):
    return [one.label for one in contenders.parse(words, wanted)]


def test_what_stays_allowed(folder):
    assert labels(["m.onnx", "m.onnx"], ["auto"]) == ["m.onnx, tensorrt", "m.onnx, tensorrt #2"]
    assert labels(["m.onnx", "other.onnx"], ["auto"]) == ["m.onnx, tensorrt", "other.onnx, tensorrt"]
    assert labels(["m.onnx", "m.fp16.onnx"], [ONE]) == [f"m.onnx, {ONE}", f"m.fp16.onnx, {ONE}"]
    assert labels(["m.onnx"], ["auto", ONE]) == ["m.onnx, tensorrt", f"m.onnx, {ONE}"]
