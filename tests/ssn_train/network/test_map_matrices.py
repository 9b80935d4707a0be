"""The matrices against OpenCV in float64."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_train.network import map_matrices


@given(h=st.integers(4, 60), w=st.integers(4, 60), scale=st.integers(2, 5), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_map_matrices_are_resize_and_blur(h, w, scale, seed):
    out_h, out_w = h * scale + 13, w * scale + 13
    x = np.random.default_rng(seed).normal(size=(h, w))
    resized = map_matrices.resize_matrix(h, out_h) @ x @ map_matrices.resize_matrix(w, out_w).T
    # OpenCV holds its bilinear weights in float32
    np.testing.assert_allclose(resized, cv2.resize(x, (out_w, out_h)), atol=2e-5)
    full = map_matrices.map_matrix(h, out_h) @ x @ map_matrices.map_matrix(w, out_w).T
    blurred = cv2.GaussianBlur(resized, (25, 25), 4, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(full, blurred, atol=1e-9)


@given(n_in=st.integers(1, 30), n_out=st.integers(1, 90), aligned=st.booleans())
def test_resize_matrix_keeps_constants_and_ends(n_in, n_out, aligned):
    matrix = map_matrices.resize_matrix(n_in, n_out, aligned)
    np.testing.assert_allclose(matrix.sum(1), 1)
    if aligned and n_out > 1:
        ramp = matrix @ np.arange(n_in)
        assert ramp[0] == 0 and ramp[-1] == pytest.approx(n_in - 1)


def test_gaussian_needs_room():
    with pytest.raises(ValueError, match="more than 12 pixels, got 12"):
        map_matrices.gaussian_matrix(12)
