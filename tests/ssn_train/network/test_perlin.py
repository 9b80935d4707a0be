"""Perlin noise, against the independent float64 reference."""

import numpy as np
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_train.network import perlin


@given(exponents=st.tuples(st.integers(0, 4), st.integers(0, 4)), seed=st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_perlin_noise_matches_reference(exponents, seed):
    cells = tuple(2**e for e in exponents)
    angles = np.random.default_rng(seed).random((cells[0] + 1, cells[1] + 1))
    ours = perlin.perlin_noise(torch.from_numpy(angles), (16, 32))
    np.testing.assert_allclose(ours, reference.perlin(angles, (16, 32)), atol=1e-12)


@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), seed=st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_perlin_masks_of_any_size(size, seed):
    """Also under 17 pixels, where the published code fails."""
    masks = perlin.perlin_masks(3, size, 0.2, torch.Generator().manual_seed(seed))
    assert masks.shape == (3, 1, *size)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}


def test_half_of_the_masks_are_empty():
    masks = perlin.perlin_masks(400, (32, 32), 0.2, torch.Generator().manual_seed(0))
    full = masks.flatten(1).any(1).float().mean()
    assert 0.4 < full < 0.6
