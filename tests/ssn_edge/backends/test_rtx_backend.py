"""Engines of TensorRT for RTX on a stand-in that records: the runtime's configuration, the kernels' cache."""

import dataclasses
import importlib
import importlib.machinery
import os
from types import SimpleNamespace

import numpy as np
import pytest
import recording_rtx
import tiny

from ssn_edge import BackendError, Detector, ModelError, backends
from ssn_edge.backends import selection
from ssn_edge.model import bundle, bundle_writer
from ssn_edge.model.engine_file import CACHE_SUFFIX

IMAGES = np.random.default_rng(0).integers(0, 256, (4, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)


@pytest.fixture
def rtx(monkeypatch):
    """The back end over the stand-in."""
    yield from recording_rtx.stood_in(monkeypatch)


def info(**changes):
    fields = dict(
        product="rtx", tensorrt="1.7.1.116", compute_capability="8.6", device="", batch=4,
        compute_capabilities=("8.6", "8.9"),
    )
    return tiny.engine_info(**{**fields, **changes})


def engine(tmp_path, **changes):
    path = tmp_path / "m.engine"
    path.write_bytes(b"vtrt...." + info(**changes).to_name().encode() + b"....")
    return path


def cached(tmp_path):
    return sorted(path for path in tmp_path.iterdir() if path.name.endswith(CACHE_SUFFIX))


def test_runs_an_engine_that_says_it_is_rtxs(rtx, tmp_path):
    with Detector.open(engine(tmp_path), batch=4) as detector:
        assert detector.backend_name == "rtx 1.7.1.116"
        for count in (4, 1, 3):
            maps, scores = detector.infer_batch(IMAGES[:count])
            np.testing.assert_allclose(maps, IMAGES[:count].astype(np.float64).mean(3), rtol=1e-6)
            np.testing.assert_allclose(scores, maps.max((1, 2)) / 255, rtol=1e-6)


def test_every_batch_runs_before_the_first_frame(rtx, tmp_path):
    """One CUDA graph; kernels for a batch are not made behind its back; compiled ones are kept."""
    Detector.open(engine(tmp_path), batch=3).close()
    assert [call for call in rtx.calls if call[0] != "deserialize"] == [
        ("context", "WHOLE_GRAPH_CAPTURE", "EAGER"), ("run", 1), ("run", 2), ("run", 3)
    ]
    (kept,) = cached(tmp_path)
    assert kept.read_bytes() == rtx.kernels and "NVIDIA-RTX-A2000-1.7.1.116" in kept.name


def test_an_engine_for_one_image_has_no_shapes_to_specialise(rtx, tmp_path):
    Detector.open(engine(tmp_path, batch=1)).close()
    assert ("context", "WHOLE_GRAPH_CAPTURE", "LAZY") in rtx.calls


def test_the_cache_is_read_replaced_and_ignored_where_it_is_foreign(rtx, tmp_path):
    path = engine(tmp_path)
    Detector.open(path).close()
    (kept,) = cached(tmp_path)
    before = kept.stat().st_mtime_ns
    Detector.open(path).close()
    assert ("deserialize", True) in rtx.calls and kept.stat().st_mtime_ns == before, "written without need"
    kept.write_bytes(b"another card's")
    Detector.open(path).close()
    assert ("deserialize", False) in rtx.calls and kept.read_bytes() == rtx.kernels
    kept.unlink()
    kept.symlink_to(tmp_path / "elsewhere")  # not followed, and replaced
    Detector.open(path).close()
    assert not kept.is_symlink() and kept.read_bytes() == rtx.kernels
    assert cached(tmp_path) == [kept], "a temporary file stayed"


def test_a_cache_that_cannot_be_written_costs_time_alone(rtx, tmp_path, monkeypatch):
    module = importlib.import_module("ssn_edge.backends.rtx_backend")

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "replacing", full)
    with Detector.open(engine(tmp_path)) as detector:
        assert detector.infer_batch(IMAGES[:1])[0].shape == (1, tiny.HEIGHT, tiny.WIDTH)
    assert not cached(tmp_path)


def test_who_names_a_digest_trusts_no_cache(rtx, tmp_path):
    """It holds code for the GPU, and no digest covers it."""
    from ssn_edge.files import sha256

    path = engine(tmp_path)
    Detector.open(path).close()
    (kept,) = cached(tmp_path)
    kept.write_bytes(b"kernels of somebody else")
    rtx.calls.clear()
    Detector.open(path, sha256=sha256(path)).close()
    assert not [call for call in rtx.calls if call[0] == "deserialize"]
    assert kept.read_bytes() == b"kernels of somebody else"


@pytest.mark.parametrize("changes, reason", [
    (dict(tensorrt="1.6.1.120"), "built with TensorRT for RTX 1.6.1.120, here is 1.7.1.116"),
    (dict(compute_capabilities=("8.9", "12.0"), compute_capability="8.9"),
     r"built for compute capability 8.9, 12.0, here is NVIDIA RTX A2000 \(8.6\)"),
])
def test_an_engine_for_others_is_refused(rtx, tmp_path, changes, reason):
    with pytest.raises(ModelError, match=f"m.engine: {reason}; build it again: ssn-export .* --engine rtx"):
        Detector.open(engine(tmp_path, **changes))


def test_a_file_that_is_none_is_named_with_the_first_error(rtx, tmp_path):
    path = tmp_path / "cut.engine"
    path.write_bytes(b'vtrt "product":"rtx"')
    with pytest.raises(ModelError) as found:
        Detector.open(path)
    assert str(found.value).startswith(
        f"{path}: TensorRT for RTX 1.7.1.116 cannot load it (header: magic tag does not fit; INVALID: "
        "MALFORMED_ENGINE); build it again"
    )


@pytest.mark.parametrize("failing, reason", [
    ("context", "no execution context"), ("cache", "takes no runtime cache"), ("run", "could not start"),
])
def test_failures_leave_nothing(rtx, tmp_path, failing, reason):
    rtx.failing.add(failing)
    with pytest.raises(BackendError, match=reason):
        Detector.open(engine(tmp_path))
    assert not cached(tmp_path)


def test_a_plain_engine_that_was_never_compared_says_so(rtx, tmp_path):
    with Detector.open(engine(tmp_path, unverified=True)) as detector:
        assert detector.choice.endswith("; never compared with the trained model")
    with Detector.open(engine(tmp_path)) as detector:
        assert "never compared" not in detector.choice


@pytest.mark.parametrize("capabilities", [(), ("8.6",) * 17, ("8",)])
def test_a_description_that_is_no_ones(tmp_path, capabilities):
    from ssn_edge.model.engine_file import EngineInfo

    document = {**info().document(), "compute_capabilities": list(capabilities)}
    with pytest.raises(ModelError, match="m: its description does not fit"):
        EngineInfo.from_document(document, "m")


def bundle_of(path, *, answers=1.0, measured=None):
    """An engine that was built and not run, and reference frames with ``answers`` times the true maps."""
    from ssn_export.gates import parity

    contents = tiny.contents([info(unverified=True)], roles=("float32", "half"))
    truth = tiny.reference()
    told = parity.Reference(truth.images, truth.maps * answers, truth.scores)
    contents.append(bundle_writer.Content("reference", lambda place: parity.write_reference(place, told)))
    plan = b"vtrt...." + info(unverified=True).to_name().encode() + b"...."
    contents = [
        dataclasses.replace(one, write=lambda place: place.write_bytes(plan), measured=measured or {})
        if one.role == "engine" else one
        for one in contents
    ]
    with bundle_writer.writing(path, lambda line: None) as writer:
        writer.commit(tiny.info(), [writer.add(content) for content in contents])
    return path


def test_an_engine_that_was_built_and_not_run_is_compared_where_it_is_opened(rtx, tmp_path):
    path = bundle_of(tmp_path / "m.ssn")
    with Detector.open(path) as detector:
        assert detector.library == "rtx" and "; agrees with 3 reference frames, map error" in detector.choice
        np.testing.assert_allclose(
            detector.infer_batch(IMAGES[:1])[0], IMAGES[:1].astype(np.float64).mean(3), rtol=1e-6
        )
    (entry,) = bundle.read(path).of_role("engine")
    assert len(cached(path)) == 1 and cached(path)[0].name.startswith(f".{entry.name.partition('.')[0]}-")


@pytest.mark.parametrize("backend", ["auto", "rtx"])
def test_and_is_not_used_where_its_answers_are_others(rtx, tmp_path, backend):
    path = bundle_of(tmp_path / "m.ssn", answers=1.02)
    reason = "rtx is not used: map_rms .* limit 3e-03, against 3 reference frames"
    with pytest.raises(BackendError, match=reason):
        Detector.open(path, backend)


def test_what_was_compared_on_another_card_is_compared_again(rtx, tmp_path):
    """Its kernels are compiled here."""
    path = bundle_of(tmp_path / "m.ssn", answers=1.02, measured=tiny.MEASURED)
    assert bundle.read(path).of_role("engine")[0].verified
    with pytest.raises(BackendError, match="rtx is not used"):
        Detector.open(path)


def test_a_cache_whose_engine_is_gone_goes_too(rtx, tmp_path):
    """With the next writer, once no reader can be about to open it."""
    path = bundle_of(tmp_path / "m.ssn")
    Detector.open(path).close()
    (kept,) = cached(path)
    other = path / ".engine-0badf00d-NVIDIA-RTX-A2000-1.7.1.116.rtxcache"
    for place in (kept, other):
        place.write_bytes(b"kernels")
        os.utime(place, (0, 0))
    with bundle_writer.writing(path, lambda line: None):
        pass
    assert cached(path) == [kept]


def test_of_a_bundle(rtx, tmp_path, monkeypatch):
    """TensorRT is not there; the engine for this card is taken."""
    path = tiny.write_bundle(tmp_path / "m.ssn", [info()])
    (entry,) = bundle.read(path).of_role("engine")
    choice = selection.choose(path)
    assert choice.library.NAME == "rtx" and choice.path.name == entry.name
    assert choice.why == f"{entry.name}, built for this GPU"
    assert selection.choose(path, "onnxruntime").library.NAME == "onnxruntime"


def test_why_not_rtx(tmp_path, monkeypatch):
    """Named only where the bundle has an engine for it."""
    plain = tiny.write_bundle(tmp_path / "p.ssn")
    assert "RTX" not in selection.choose(plain).why
    monkeypatch.setattr(backends, "engine_problem", lambda name: "no GPU")
    found = selection.importlib.util.find_spec
    monkeypatch.setattr(
        selection.importlib.util, "find_spec",
        lambda name: SimpleNamespace() if name == "tensorrt_rtx_bindings" else found(name),
    )
    path = tiny.write_bundle(tmp_path / "m.ssn", [info()])
    assert selection.choose(path).why.endswith("; not TensorRT for RTX: no GPU")
