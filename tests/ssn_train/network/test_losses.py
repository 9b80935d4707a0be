"""The loss, against the independent float64 reference."""

import numpy as np
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_train.network import losses


@given(
    bad=st.sampled_from([0.0, 0.01, 0.4, 1.0]), scale=st.floats(0.1, 8), seed=st.integers(0, 99)
)
@settings(max_examples=25, deadline=None)
def test_losses_match_reference(bad, scale, seed):
    rng = np.random.default_rng(seed)
    seg, score = scale * rng.normal(size=(2, 1, 7, 9)), scale * rng.normal(size=2)
    mask = (rng.random(seg.shape) < bad).astype(float)
    label = mask.reshape(2, -1).max(1)
    ours = losses.loss(*(torch.from_numpy(a) for a in (seg, mask, score, label)))
    np.testing.assert_allclose(
        [float(v) for v in ours], reference.losses(seg, mask, score, label), rtol=1e-9, atol=1e-12
    )
