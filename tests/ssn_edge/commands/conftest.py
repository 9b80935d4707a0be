"""A model and two photos for ssn-run."""

import cv2
import numpy as np
import pytest
import tiny


@pytest.fixture
def model(tmp_path):
    return str(tiny.write_model(tmp_path / "m.onnx"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.full((40, 60, 3), 30, np.uint8))
    cv2.imwrite(str(folder / "b.png"), np.full((40, 60), 250, np.uint8))
    return folder
