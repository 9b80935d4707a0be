"""Synthetic anomalies, against the independent float64 reference."""

import numpy as np
import pytest
import reference
import torch

from ssn_train.network import anomalies


@pytest.mark.parametrize("overlap", [True, False])
def test_synthetic_anomalies_match_reference(overlap):
    rng = np.random.default_rng(3)
    features, noise = rng.normal(size=(3, 4, 6, 5)), rng.normal(size=(6, 4, 6, 5))
    mask = (rng.random((3, 1, 6, 5)) > 0.8).astype(float)
    mask[2] = 0
    label = np.array([1.0, 0.0, 1.0])  # the last: a defect whose mask vanished on shrinking
    drawn = (rng.random((6, 1, 6, 5)) > 0.5).astype(float)
    drawn[2], drawn[1] = 0, 0
    t = [torch.from_numpy(a) for a in (features, mask, label, noise, drawn)]
    regions = anomalies.noise_regions(t[4], t[1], overlap)
    ours = (anomalies.add_noise(t[0], t[3], regions), *anomalies.targets(t[1], t[2], regions))
    exact = reference.synthetic(features, mask, label, noise, drawn, overlap)
    for value, value64 in zip(ours, exact):
        np.testing.assert_allclose(value, value64, atol=0)
    assert ours[2][2] == 1
