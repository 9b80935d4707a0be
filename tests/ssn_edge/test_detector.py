"""The detector on a model with known answers, on every installed back end."""

import json
import sys
import threading
from collections import Counter

import cv2
import numpy as np
import pytest
import tiny
import waiting

from ssn_edge import BackendError, Detector, InputError, ModelError, backends
from ssn_edge.files import sha256
from ssn_edge.model.schema import Verdict

FRAME = np.random.default_rng(0).integers(0, 200, (64, 96, 3), np.uint8)


@pytest.fixture(params=backends.installed())
def detector(request, tmp_path):
    with Detector.open(tiny.write_model(tmp_path / "m.onnx"), request.param) as opened:
        yield opened


def expected_map(frame):
    return cv2.resize(frame, (tiny.WIDTH, tiny.HEIGHT)).astype(np.float32).mean(2)


def test_detect(detector):
    truth = expected_map(FRAME)
    detection = detector.detect(FRAME)
    np.testing.assert_allclose(detection.anomaly_map, truth, rtol=1e-5)
    assert detection.score == pytest.approx(truth.max() / 255, rel=1e-5)
    assert detection.is_defect is (detection.score >= 0.5)
    np.testing.assert_array_equal(detection.mask, truth >= 100)
    assert detection.latency.total_ms > 0
    dark = detector.detect(FRAME // 8)
    assert not dark.is_defect and not dark.regions and not dark.mask.any()


def test_bright_spot_is_boxed_in_the_frame(detector):
    frame = np.zeros((320, 480), np.uint16)
    frame[100:140, 200:260] = 60000
    (region,) = detector.detect(frame).regions
    assert (region.x, region.y) == (200, 100)
    assert (region.width, region.height) == (60, 40)


def test_the_models_bits_are_the_frames(tmp_path):
    """Mono12, right-aligned: the same picture as its upper 8 bits; more bits are a broken frame."""
    twelve = np.random.default_rng(0).integers(0, 4096, (32, 48)).astype(np.uint16)
    twelve[0, 0] = 4095
    with Detector.open(tiny.write_model(tmp_path / "m.onnx", tiny.info(bits=12).to_json())) as detector:
        assert detector.reading.bits == 12 and detector.reading.orientation == "ignored"
        expected = detector.detect((twelve >> 4).astype(np.uint8))
        assert detector.detect(twelve).score == expected.score > 0.9
        twelve[0, 0] = 4096
        with pytest.raises(InputError, match="grey value 4096 needs 13 bits, .* on 12 of 16"):
            detector.detect(twelve)


def test_infer_into_equals_detect(detector):
    map_out, mask_out = np.empty((32, 48), np.float32), np.empty((32, 48), np.uint8)
    score = detector.infer_into(FRAME, map_out, mask_out)
    detection = detector.detect(FRAME)
    assert score == detection.score
    np.testing.assert_array_equal(map_out, detection.anomaly_map)
    np.testing.assert_array_equal(mask_out, detection.mask)


@pytest.mark.parametrize(
    "out", [np.empty((48, 32), np.float32), np.empty((32, 48)), np.empty((32, 96), np.float32)[:, ::2]]
)
def test_infer_into_checks_its_arrays(detector, out):
    with pytest.raises(InputError, match="map_out.*expected"):
        detector.infer_into(FRAME, out)


@pytest.mark.parametrize("name", backends.installed())
def test_any_batch_up_to_the_one_opened_for(tmp_path, name):
    """On one session, in any order, and single frames between them."""
    path = tiny.write_model(tmp_path / "m.onnx")
    frames = np.random.default_rng(1).integers(0, 256, (4, 32, 48, 3), np.uint8)
    with Detector.open(path, name, batch=4) as detector:
        for count in (4, 1, 3, 2, 4):
            images = frames[-count:]
            maps, scores = detector.infer_batch(images)
            np.testing.assert_allclose(maps, images.astype(np.float32).mean(3), rtol=1e-5)
            np.testing.assert_allclose(scores, maps.max((1, 2)) / 255, rtol=1e-6)
            one = detector.detect(images[0])
            np.testing.assert_array_equal(one.anomaly_map, maps[0])
            assert one.score == scores[0]
        for wrong in (frames[:0], np.concatenate([frames, frames]), frames[0], frames.astype(np.int8)):
            with pytest.raises(InputError, match=r"expected uint8 \(n, 32, 48, 3\) with n up to 4"):
                detector.infer_batch(wrong)


def test_threshold_and_close(tmp_path):
    path = tiny.write_model(tmp_path / "m.onnx")
    detector = Detector.open(path, threshold=0.999)
    assert not detector.detect(FRAME).is_defect
    detector.close()
    detector.close()
    with pytest.raises(ModelError, match="closed"):
        detector.detect(FRAME)


def test_map_max_verdict(tmp_path):
    verdict = Verdict("map_max", 150.0, 150.0, "chosen", 0)
    path = tiny.write_model(tmp_path / "m.onnx", tiny.info(verdict=verdict).to_json())
    with Detector.open(path) as detector:
        bright, dark = np.full((9, 9), 160, np.uint8), np.full((9, 9), 140, np.uint8)
        assert detector.detect(bright).is_defect and detector.detect(bright).regions
        assert not detector.detect(dark).is_defect and not detector.detect(dark).regions


@pytest.mark.parametrize("name", backends.installed())
def test_damaged_and_foreign_models(tmp_path, name):
    good = tiny.write_model(tmp_path / "m.onnx").read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(good[: len(good) // 2])
    with pytest.raises(ModelError, match="cut.onnx.*again"):
        Detector.open(cut, name)
    bare = tiny.write_model(tmp_path / "bare.onnx", with_metadata=False)
    with pytest.raises(ModelError, match="no ssn-edge metadata"):
        Detector.open(bare, name)
    document = json.loads(tiny.info().to_json())
    newer = tiny.write_model(tmp_path / "newer.onnx", json.dumps({**document, "schema": 99}))
    with pytest.raises(ModelError, match="schema version 99"):
        Detector.open(newer, name)
    broken = tiny.write_model(tmp_path / "broken.onnx", json.dumps({**document, "verdict": {}}))
    with pytest.raises(ModelError, match="does not follow schema"):
        Detector.open(broken, name)


def test_missing_model_and_backend(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such model"):
        Detector.open(tmp_path / "none.onnx")
    path = tiny.write_model(tmp_path / "m.onnx")
    with pytest.raises(BackendError, match="choose auto"):
        Detector.open(path, "tensorflow")
    monkeypatch.setattr(backends, "installed", lambda: [])
    with pytest.raises(BackendError, match=r'pip install "ssn-edge\[onnxruntime\]"'):
        Detector.open(path)


def test_missing_library_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "ssn_edge.backends.openvino_backend", raising=False)
    with pytest.raises(BackendError, match=r"ssn-edge\[openvino\]"):
        Detector.open(tiny.write_model(tmp_path / "m.onnx"), "openvino")


def finishes(call):
    """What the call returns, in a thread: AssertionError where it hangs."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(30)
    assert found, "hangs"
    return found[0]


def interrupted(*_):
    raise KeyboardInterrupt


def out_of_memory(*_, **__):
    raise MemoryError


@pytest.mark.parametrize("place", ["np.empty", "session", "collecting"])
@pytest.mark.parametrize("fault", [interrupted, out_of_memory])
def test_after_ctrl_c_or_a_lack_of_memory_the_next_frame_is_judged(detector, monkeypatch, fault, place):
    """Wherever a frame is left, in the map's allocation, the network or after it, nothing waits for it."""
    with monkeypatch.context() as patch:
        if place == "np.empty":
            patch.setattr("ssn_edge.detector.np.empty", fault)
        elif place == "session":
            patch.setattr(detector._session, "infer", fault)
        else:
            patch.setattr("ssn_edge.detector.float", fault, raising=False)
        with pytest.raises((KeyboardInterrupt, MemoryError)):
            detector.detect(FRAME)
    assert finishes(lambda: detector.detect(FRAME)).map_max == detector.detect(FRAME).map_max


def test_threads_share_a_detector_until_it_is_closed(tmp_path):
    detector = Detector.open(tiny.write_model(tmp_path / "m.onnx"))
    wrong, ends, judged = [], [], Counter()

    def work(value):
        try:
            while True:
                if detector.detect(np.full((20, 30), value, np.uint8)).map_max != value:
                    wrong.append(value)
                judged[value] += 1
        except ModelError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=work, args=(50 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    waiting.until(lambda: len(judged) == 4 and min(judged.values()) > 5)
    detector.close()
    for thread in threads:
        thread.join(20)
    assert not wrong and ends == ["the detector is closed; open it again"] * 4


@pytest.mark.parametrize("name", backends.installed())
def test_digest(tmp_path, name):
    path = tiny.write_model(tmp_path / "m.onnx")
    with Detector.open(path, name, sha256=sha256(path).upper() + "\n") as detector:
        detector.detect(FRAME)
    for wrong in ("0" * 64, ""):
        with pytest.raises(ModelError, match="its sha256 is"):
            Detector.open(path, name, sha256=wrong)


def test_openvinos_own_files(tmp_path):
    openvino = pytest.importorskip("openvino")
    model = openvino.convert_model(tiny.write_model(tmp_path / "m.onnx"))
    openvino.save_model(model, tmp_path / "m.xml")
    with Detector.open(tmp_path / "m.xml") as detector:
        assert detector.backend_name.startswith("openvino") and detector.info == tiny.info()
        np.testing.assert_allclose(detector.detect(FRAME).anomaly_map, expected_map(FRAME), rtol=1e-5)
    with pytest.raises(InputError, match="runs on openvino alone"):
        Detector.open(tmp_path / "m.xml", "onnxruntime")


def test_engines_where_there_is_no_tensorrt(tmp_path, monkeypatch):
    path = tiny.write_model(tmp_path / "m.onnx")
    (tmp_path / "m.engine").write_bytes(b"plan")  # a neighbour is no part of a plain file
    with Detector.open(path) as detector:
        assert (detector.choice, detector.path) == ("the file as given", path)
    with pytest.raises(InputError, match="onnxruntime or openvino alone.* or a bundle with an engine"):
        Detector.open(path, "tensorrt")
    with pytest.raises(InputError, match="runs on tensorrt alone"):
        Detector.open(tmp_path / "m.engine", "openvino")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.delitem(sys.modules, "ssn_edge.backends.tensorrt_backend", raising=False)
    with pytest.raises(BackendError, match=r"ssn-edge\[tensorrt\]"):
        Detector.open(tmp_path / "m.engine")
