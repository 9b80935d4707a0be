"""The fake back end answers as a real one on the same answers, and fails as one does."""

import numpy as np
import pytest

from ssn_edge import BackendError, Detector, View, stream
from ssn_edge.testing import fake_detector, tiny_info, write_tiny_model


def mean(image):
    anomaly_map = image.astype(np.float32).mean(2)
    return anomaly_map.max() / 255, anomaly_map


@pytest.mark.parametrize("view", [
    View(), View(roi=(10, 20, 90, 60), rotate=90), View(tile=(32, 48), overlap=4),
])
def test_it_judges_as_the_real_one(tmp_path, view):
    frame = np.random.default_rng(1).integers(0, 256, (100, 150, 3), np.uint8)
    with Detector.open(write_tiny_model(tmp_path / "m.onnx"), view=view) as real:
        truth = real.detect(frame)
    found = fake_detector(mean, view=view).detect(frame)
    assert (found.is_defect, found.score) == (truth.is_defect, pytest.approx(truth.score, rel=1e-6))
    np.testing.assert_allclose(found.anomaly_map, truth.anomaly_map, rtol=1e-6)
    assert found.regions == truth.regions


def test_batches_and_other_sizes():
    detector = fake_detector(mean, tiny_info(height=8, width=6), batch=3)
    images = np.arange(2 * 8 * 6 * 3, dtype=np.uint8).reshape(2, 8, 6, 3)
    maps, scores = detector.infer_batch(images)
    np.testing.assert_allclose(maps, images.astype(np.float32).mean(3))
    assert scores.shape == (2,)


def test_a_library_that_fails():
    def broken(image):
        raise BackendError("the GPU is gone")

    frames = [np.zeros((32, 48, 3), np.uint8)] * 3
    summary = stream.run(frames, fake_detector(broken))
    assert (summary.broken, summary.judged) == (3, 0) and "the GPU is gone" in summary.problem


@pytest.mark.parametrize("answer", [(float("nan"), 0.0), (0.1, float("inf"))])
def test_what_is_not_finite_has_no_verdict(answer):
    with pytest.raises(BackendError, match="not finite"):
        fake_detector(lambda image: answer).detect(np.zeros((32, 48, 3), np.uint8))
