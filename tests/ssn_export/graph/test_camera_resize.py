"""The camera's resize as graph modules against OpenCV's."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge.frames.pixels import resize
from ssn_export.graph.camera_resize import FRONTS
from ssn_export.graph.float64_reference import resize_exactly

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
