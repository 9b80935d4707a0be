"""ONNX Runtime's providers by name: what is here, what is refused, and that none is taken for another. Those
that need a library of their own are stand-ins here; test_real_providers.py opens real ones."""

import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from commands import fails, ssn_run
from real_providers import threads_used

from ssn_edge import Detector, backends
from ssn_edge.errors import BackendError, InputError
from ssn_edge.frames.image_files import write_image
from ssn_edge.model import bundle_writer
from ssn_edge.model.bundle_writer import Content
from ssn_edge.verdict import parity
from ssn_export.gates.parity import write_reference

onnxruntime = pytest.importorskip("onnxruntime")

from ssn_edge.backends import onnxruntime_backend, providers  # noqa: E402

forbids_the_cpu = pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < providers.OLDEST,
    reason="this ONNX Runtime opens no other provider",
)
takes_plugins = pytest.mark.skipif(
    not hasattr(onnxruntime, "register_execution_provider_library"),
    reason="this ONNX Runtime takes no plugins",
)


@pytest.mark.parametrize("name, short", [
    ("cuda", "cuda"), ("CUDA", "cuda"), ("CUDAExecutionProvider", "cuda"), ("TensorRT", "tensorrt"),
    ("TensorrtExecutionProvider", "tensorrt"), ("OpenVINOExecutionProvider", "openvino"),
    ("directml", "dml"), ("DmlExecutionProvider", "dml"), ("CoreMLExecutionProvider", "coreml"),
    ("nv_tensorrt_rtx", "nvtensorrtrtx"), ("NvTensorRTRTXExecutionProvider", "nvtensorrtrtx"),
    ("ggml", "ggml"),
])
def test_names(name, short):
    assert providers.short_name(name) == short


@pytest.mark.parametrize("name", [
    "onnxruntime:", ":cuda", "openvino:cpu", "tensorrt:cuda", "auto:cuda", "cuda", "", "onnx:cuda",
])
def test_what_is_no_name(tmp_path, name):
    with pytest.raises(BackendError, match="choose auto, .*onnxruntime:PROVIDER"):
        backends.load(name)
    model, image = tiny.write_model(tmp_path / "m.onnx"), tmp_path / "a.png"
    result = ssn_run(model, image, "--backend", name)
    assert result.exit_code == 2 and "Invalid value for '--backend'" in result.output


def test_the_cpu_by_name_is_onnx_runtime_as_ever(tmp_path):
    model = tiny.write_model(tmp_path / "m.onnx")
    for name in ("onnxruntime:cpu", "onnxruntime:CPUExecutionProvider"):
        with Detector.open(model, name) as detector, Detector.open(model, "onnxruntime") as plain:
            assert (detector.library, detector.choice) == ("onnxruntime", "asked for")
            assert detector.backend_name == plain.backend_name


def test_one_that_is_not_here(tmp_path):
    model = tiny.write_model(tmp_path / "m.onnx")
    write_image(tmp_path / "a.png", tiny.reference(1).images[0])
    line = fails(model, tmp_path / "a.png", "--backend", "onnxruntime:CoreML")
    assert f"onnxruntime:CoreML: ONNX Runtime {onnxruntime.__version__} here has " in line
    there = line.partition(" here has ")[2].partition("; ")[0].split(", ")
    assert set(map(providers.short_name, onnxruntime.get_available_providers())) <= set(there)
    assert line.endswith("install onnxruntime on a Mac")
    assert fails(model, tmp_path / "a.png", "--backend", "onnxruntime:abacus").endswith(
        "; no package is known to bring it"
    )


def test_it_reads_onnx_files_alone(tmp_path):
    (tmp_path / "m.engine").write_bytes(b"plan")
    with pytest.raises(InputError, match="m.engine: runs on tensorrt"):
        Detector.open(tmp_path / "m.engine", "onnxruntime:cuda")


@forbids_the_cpu
@pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(), reason="a build without Azure's"
)
def test_one_that_takes_nothing_is_not_used(tmp_path):
    """Azure's is listed by ONNX Runtime's own package, and takes none of our nodes: opened without more ado
    the CPU runs them all."""
    model = tiny.write_model(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(model), providers=["AzureExecutionProvider"])
    assert session.get_providers() == ["AzureExecutionProvider", "CPUExecutionProvider"]
    with pytest.raises(BackendError, match=r"m.onnx: not run by onnxruntime:azure \(.* a part to the CPU\)"):
        Detector.open(model, "onnxruntime:azure")


def listed(monkeypatch, *names):
    """ONNX Runtime says that it has these."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*names, "CPUExecutionProvider"])


@forbids_the_cpu
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_one_that_is_only_listed_is_not_used(tmp_path, monkeypatch):
    listed(monkeypatch, "RockExecutionProvider")
    model = tiny.write_bundle(tmp_path / "m.ssn")
    with pytest.raises(BackendError, match=r"float32-\w+.onnx: not run by onnxruntime:rock \("):
        Detector.open(model, "onnxruntime:Rock")


@forbids_the_cpu
def test_a_session_on_another_provider_is_not_used(tmp_path, monkeypatch):
    """Whatever ONNX Runtime makes of what it was asked for."""
    listed(monkeypatch, "RockExecutionProvider")
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, *_, **__: real(path, providers=["CPUExecutionProvider"])
    )
    with pytest.raises(BackendError, match=r"not run by onnxruntime:rock \(it did not start\)"):
        Detector.open(tiny.write_model(tmp_path / "m.onnx"), "onnxruntime:rock")


def test_a_library_that_does_not_load_is_named(tmp_path, monkeypatch, capfd):
    """As CUDA's where its libraries or the driver are missing; ONNX Runtime would log that and go on."""
    listed(monkeypatch, "CUDAExecutionProvider")
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcublas"), raising=False)
    monkeypatch.setattr(providers, "VERSION", "1.30.0")
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "onnxruntime" / "__init__.py"))
    library = tmp_path / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"")
    with pytest.raises(BackendError, match="^onnxruntime:cuda: does not load here .*file too short"):
        Detector.open(tiny.write_model(tmp_path / "m.onnx"), "onnxruntime:cuda")
    assert capfd.readouterr() == ("", "")


def test_an_onnx_runtime_that_cannot_keep_off_the_cpu(monkeypatch):
    listed(monkeypatch, "CUDAExecutionProvider")
    monkeypatch.setattr(providers, "VERSION", "1.15.1")
    with pytest.raises(BackendError, match="1.15.1 would run on the CPU what .* leaves; install 1.16"):
        backends.load("onnxruntime:cuda")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A plugin's package, whose library is no library; its module says when it is imported."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    package = tmp_path / "site" / "onnxruntime_ep_big_abacus"
    package.mkdir(parents=True)
    (package / "lib.so").write_bytes(b"")
    (package / "__init__.py").write_text(f"""
from pathlib import Path
Path({str(tmp_path / "imported")!r}).touch()
def get_library_path():
    return {str(package / "lib.so")!r}
""")
    yield tmp_path / "imported"
    sys.modules.pop("onnxruntime_ep_big_abacus", None)
    providers._register.cache_clear()


def test_a_plugin_is_listed_by_its_package_and_imported_only_if_asked_for(plugin):
    with pytest.raises(BackendError, match=" here has .*bigabacus.*; no package"):
        backends.load("onnxruntime:abacus")
    assert not plugin.exists()


@takes_plugins
def test_a_plugin_whose_library_does_not_load(plugin):
    with pytest.raises(BackendError, match="^onnxruntime_ep_big_abacus: the plugin.s library .*short"):
        backends.load("onnxruntime:Big_Abacus")
    assert plugin.exists()


def test_a_plugin_without_a_device(plugin, monkeypatch):
    for name in ("register_execution_provider_library", "get_ep_devices"):
        monkeypatch.setattr(onnxruntime, name, lambda *_: [], raising=False)
    with pytest.raises(BackendError, match="the plugin onnxruntime_ep_big_abacus finds no device here"):
        backends.load("onnxruntime:bigabacus")


def test_an_onnx_runtime_without_plugins(plugin, monkeypatch):
    monkeypatch.delattr(onnxruntime, "register_execution_provider_library", raising=False)
    monkeypatch.delattr(onnxruntime, "get_ep_devices", raising=False)
    with pytest.raises(BackendError, match="takes no plugins; install 1.23 or newer"):
        backends.load("onnxruntime:bigabacus")


# --- Held against the reference frames -----------------------------------------------------------


@pytest.fixture
def rock(monkeypatch):
    """A provider that is ONNX Runtime's CPU under another name; ``rock.runs`` is a file that it runs in
    place of what it is given."""
    listed(monkeypatch, "RockExecutionProvider")
    monkeypatch.setattr(providers, "VERSION", "1.30.0")

    def session(self, model, own):
        made = onnxruntime_backend.inference_session(str(found.runs or model))
        monkeypatch.setattr(made, "get_providers", lambda: ["RockExecutionProvider"])
        return made

    monkeypatch.setattr(onnxruntime_backend.WithProvider, "_session", session)
    found = SimpleNamespace(runs=None)
    return found


def bundle_of(path, truth):
    """The model with these reference frames, or none."""
    contents = [one for one in tiny.contents() if one.role != "reference"]
    if truth is not None:
        contents.append(Content("reference", lambda place: write_reference(place, truth)))
    with bundle_writer.writing(path, lambda line: None) as writer:
        writer.commit(tiny.info(), [writer.add(one) for one in contents])
    return path


def test_reference_frames_that_agree(tmp_path, rock):
    path = bundle_of(tmp_path / "m.ssn", tiny.reference())
    for batch in (1, 2, 4):
        with Detector.open(path, "onnxruntime:rock", batch=batch) as detector:
            assert detector.library == "onnxruntime:rock"
            assert detector.backend_name == f"onnxruntime:rock {onnxruntime.__version__}"
            assert ", asked for; agrees with 3 reference frames, map error " in detector.choice
            assert detector.detect(tiny.reference(1).images[0]).score > 0.9
    write_image(tmp_path / "a.png", tiny.reference(1).images[0])
    result = ssn_run(path, tmp_path / "a.png", "--backend", "onnxruntime:ROCK")
    assert result.exit_code == 0 and "on onnxruntime:rock " in result.output


def off(rms=0.0, score=0.0, count=3):
    """Reference answers with an error of so many standard deviations of the map, and of the score."""
    truth = tiny.reference(count)
    noise = np.random.default_rng(0).normal(size=truth.maps.shape)
    return dataclasses.replace(
        truth, maps=truth.maps + rms * truth.maps.std() * noise, scores=truth.scores - score
    )


@pytest.mark.parametrize("precision, truth, reason", [
    ("float32", off(rms=5e-6), None),
    ("float32", off(rms=2e-5), r"map_rms 2.0e-05 of the map's standard deviation, limit 1e-05"),
    ("float16", off(rms=2e-3), None),
    ("float16", off(rms=6e-3), "map_rms 6.0e-03 of .* limit 3e-03"),
    ("float32", off(score=5e-4), "score 5.0e-04 off, limit 1e-04"),
    ("float32", off(score=0.6), "3 verdicts changed beyond 0.0001 of the threshold"),
    ("float16", off(score=5e-4), None),
])
def test_reference_frames_that_do_not_agree(tmp_path, rock, precision, truth, reason):
    path = bundle_of(tmp_path / "m.ssn", truth)
    if reason is None:
        Detector.open(path, "onnxruntime:rock", precision=precision).close()
        return
    with pytest.raises(BackendError, match=rf"onnxruntime:rock is not used: {reason}, against 3 reference"):
        Detector.open(path, "onnxruntime:rock", precision=precision)
    Detector.open(path, "onnxruntime", precision=precision).close()  # the export has judged that one
    write_image(tmp_path / "a.png", truth.images[0])
    assert "rock is not used: " in fails(
        path, tmp_path / "a.png", "--backend", "onnxruntime:rock", "--precision", precision,
        "--json", tmp_path / "x.jsonl",
    )
    assert not (tmp_path / "x.jsonl").exists()


def test_an_answer_that_is_not_finite(tmp_path, rock):
    truth = tiny.reference()
    truth.images[:, 0, 0] = 0
    rock.runs = tiny.write_model(tmp_path / "broken.onnx", breaks="anomaly_map")
    with np.errstate(invalid="ignore"), pytest.raises(BackendError, match="an answer is not finite"):
        Detector.open(bundle_of(tmp_path / "m.ssn", truth), "onnxruntime:rock")


@pytest.mark.parametrize("whole", [True, False])
def test_without_reference_frames_the_cpu_is_asked(tmp_path, rock, whole):
    """Of a plain file, and of a bundle that was packed without."""
    path = bundle_of(tmp_path / "m.ssn", None) if whole else tiny.write_model(tmp_path / "m.onnx")
    with Detector.open(path, "onnxruntime:rock", batch=2) as detector:
        assert "agrees with made-up frames on the CPU, not compared with the trained model" in detector.choice
    rock.runs = tiny.write_model(tmp_path / "other.onnx", full=256.0)
    with pytest.raises(BackendError, match="rock is not used: score 3.9e-03 off, .* made-up frames"):
        Detector.open(path, "onnxruntime:rock")


def test_made_up_frames_reach_either_end_and_are_not_one():
    frames = parity.made_up_frames((32, 48))
    assert frames.shape == (5, 32, 48, 3) and frames.dtype == np.uint8
    assert {int(one.max()) - int(one.min()) == 0 for one in frames} == {True, False}
    assert len({one.tobytes() for one in frames}) == 5 and (frames.min(), frames.max()) == (0, 255)


# --- Threads -------------------------------------------------------------------------------------

@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_of_onnx_runtime(tmp_path, threads):
    """The caller's is one of them; the others are seen by the system."""
    assert threads_used(tiny.write_model(tmp_path / "m.onnx"), "onnxruntime", threads) == threads - 1


def test_threads_of_openvino(tmp_path):
    pytest.importorskip("openvino")
    model = tiny.write_model(tmp_path / "m.onnx")
    with Detector.open(model, "openvino", threads=1) as detector:
        found = detector._session._request.get_compiled_model().get_property("INFERENCE_NUM_THREADS")
        assert found == 1
        assert detector.detect(np.full((32, 48, 3), 51, np.uint8)).score == pytest.approx(0.2, abs=1e-6)


def test_threads_that_have_no_use(tmp_path, rock):
    model = tiny.write_model(tmp_path / "m.onnx")
    for threads in (0, -1, 2000):
        with pytest.raises(InputError, match=f"threads {threads}: give 1 to 1024, or leave it out"):
            Detector.open(model, "onnxruntime", threads=threads)
    with pytest.raises(InputError, match="threads 2: onnxruntime:rock computes on a device of its own"):
        Detector.open(model, "onnxruntime:rock", threads=2)


def test_an_engine_takes_no_threads(tmp_path, monkeypatch):
    path = tmp_path / "m.engine"
    path.write_bytes(b"plan")
    monkeypatch.setattr(backends, "load", lambda name: SimpleNamespace(NAME="tensorrt"))
    with pytest.raises(InputError, match="m.engine: an engine runs on the GPU, where threads 2 has no use"):
        Detector.open(path, threads=2)


def test_the_commands_take_threads(tmp_path):
    model = tiny.write_model(tmp_path / "m.onnx")
    write_image(tmp_path / "a.png", tiny.reference(1).images[0])
    assert ssn_run(model, tmp_path / "a.png", "--threads", 1).exit_code == 0
    result = ssn_run(model, tmp_path / "a.png", "--threads", 0)
    assert result.exit_code == 2 and "0 is not in the range" in result.output
    assert "threads 5000: give 1 to 1024" in fails(model, tmp_path / "a.png", "--threads", 5000)
