"""The exported module and its half-precision form, for every tested backbone."""

import numpy as np
import torch
from random_model import photos, random_model

from ssn_export.graph import float64_reference
from ssn_export.graph.deployed import Deployed


def test_channels_are_bgr():
    """Swapping the input's channels is what swapping the training's RGB is."""
    size = (48, 48)
    model, backbone = random_model("resnet18", size)
    image = photos(1, size)
    swapped = float64_reference.reference(model, backbone, image[..., ::-1].copy())
    deployed = Deployed(model, backbone).double()
    with torch.inference_mode():
        right = deployed(torch.from_numpy(image[..., ::-1].copy()))[0]
        wrong = deployed(torch.from_numpy(image))[0]
    np.testing.assert_allclose(right, swapped.maps, atol=1e-9)
    assert not np.allclose(wrong, swapped.maps, atol=1e-3)
