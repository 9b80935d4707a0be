"""``--method distance``: no heads to train, one Gaussian of normal features, fitted in seconds.

The map is the Mahalanobis distance of a position's pooled features from those of the good photos, over the
root of their number, so that normal positions are about 1. It is exact in the network that is there: a 1x1
convolution that whitens, a square in place of the leaky ReLU, a sum, and a root
(:class:`ssn_train.network.model.Discriminator`). The covariance is Ledoit's and Wolf's.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from scipy.linalg import solve_triangular
from sklearn.covariance import LedoitWolf
from torch import Tensor

from ssn_train.network.model import SuperSimpleNet
from ssn_train.steps.positions import Reader
from ssn_train.steps.training_step import step_generator

MOST = 100_000
"""Positions that the Gaussian is fitted to: drawn from all, and plenty for a few hundred features."""


def fill(model: SuperSimpleNet, reader: Reader, photos: int, seed: int) -> None:
    """The whitening of ``photos`` good photos' positions, as weights of the segmentation head."""
    height, width = reader.map_hw
    count = photos * height * width
    places = torch.arange(count)
    if count > MOST:
        places = torch.randperm(count, generator=step_generator(seed, 0))[:MOST]
    rows = reader.read(places // (height * width), places % (height * width)).double().numpy()
    fitted = LedoitWolf().fit(rows)
    lower = np.linalg.cholesky(fitted.covariance_)
    scale = 1 / np.sqrt(rows.shape[1])  # here, not in the sum: half precision could not hold the squares
    whitening = scale * solve_triangular(lower, np.eye(len(lower)), lower=True)
    conv, norm, last = model.discriminator.seg_layers
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(whitening)[:, :, None, None])
        cast(Tensor, conv.bias).copy_(torch.from_numpy(-whitening @ fitted.location_))
        cast(Tensor, norm.running_var).fill_(1 - norm.eps)  # changes nothing
        last.weight.fill_(1)
