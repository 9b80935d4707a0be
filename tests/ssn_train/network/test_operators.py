"""The fusion's operators of one axis, against torch."""

import numpy as np
import torch
import torch.nn.functional as F

from ssn_train.network import operators


def test_operators_are_torchs():
    """Upscaling, pooling and the taps' shifts on a random plane."""
    plane = torch.randn(1, 1, 7, 10, dtype=torch.float64)
    up = F.interpolate(plane, (14, 21), mode="bilinear", align_corners=True)
    pooled = F.avg_pool2d(up, 3, 1, 1)[0, 0].numpy()
    u_h, u_w = operators.pooled_upscale(7, 14), operators.pooled_upscale(10, 21)
    np.testing.assert_allclose(u_h @ plane[0, 0].numpy() @ u_w.T, pooled, atol=1e-13)
    kernel = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    convolved = F.conv2d(torch.from_numpy(pooled)[None, None], kernel, padding=2)[0, 0]
    rows, columns = operators.shifted(u_h, 5), operators.shifted(u_w, 5)
    low, k = plane[0, 0].numpy(), kernel[0, 0].numpy()
    ours = sum(k[i, j] * rows[i] @ low @ columns[j].T for i in range(5) for j in range(5))
    np.testing.assert_allclose(ours, convolved, atol=1e-12)
