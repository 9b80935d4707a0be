"""The camera's resize as graph modules against OpenCV's, and the verdict's thresholds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge.images import resize
from ssn_edge.schema import Verdict
from ssn_export.frame import FRONTS
from ssn_export.graph import thresholds
from ssn_export.verify import resize_exactly

SIDES = st.tuples(st.integers(2, 300), st.integers(2, 300))


@given(frame=SIDES, size=SIDES, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_fronts_are_the_runtimes_resize_within_a_level(frame, size, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*frame, 3), dtype=np.uint8)
    runtime = resize(image, size).astype(np.float64)
    pixels = torch.from_numpy(image[None]).double()
    for front in FRONTS.values():
        ours = front(frame, size).double()(pixels)[0].numpy()
        assert ours.shape == (*size, 3)
        assert np.abs(ours - runtime).max() <= 1
        np.testing.assert_allclose(ours, resize_exactly(image, size), atol=1e-10)


@given(threshold=st.floats(-5, 5), nudge=st.integers(-2, 2), source=st.sampled_from(["score", "map_max"]))
def test_float32_thresholds_judge_as_the_runtime_does(threshold, nudge, source):
    verdict = Verdict(source, threshold, threshold, "chosen", 1)
    pixel, image = thresholds(verdict)
    value = np.float32(threshold)
    for _ in range(abs(nudge)):
        value = np.nextafter(value, np.float32(np.sign(nudge) * np.inf))
    assert (value >= np.float32(image)) == verdict.is_defect(float(value), float(value))
    assert bool(value >= np.float32(pixel)) == bool((np.array([value]) >= verdict.pixel_threshold)[0])


@pytest.mark.parametrize("n", [0.1, 1 / 3, 0.7])
def test_image_threshold_is_never_below_the_verdicts(n):
    assert thresholds(Verdict("score", n, n, "chosen", 1))[1] >= n
