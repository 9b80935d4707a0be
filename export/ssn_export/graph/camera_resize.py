"""The camera's resize inside the graph: uint8 frames of any size in, the model's pixels out.

The runtime's resize (OpenCV's bilinear, no antialiasing) reads at most two rows and two columns
for each output pixel, so it is linear and separable. Here it is not rounded to 8 bits: at most
half a grey level, and OpenCV's own fixed-point error, away from the runtime's.
"""

from __future__ import annotations

from typing import Callable, Dict, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from ssn_train.network.map_matrices import resize_matrix

Size = Tuple[int, int]


class Gather(nn.Module):
    """Takes the two rows, then the two columns, that each output pixel lies between."""

    def __init__(self, frame: Size, size: Size):
        super().__init__()
        for axis, n_in, n_out in zip(("rows", "columns"), frame, size):
            low, fraction = _neighbours(n_in, n_out)
            shape = (-1, 1, 1) if axis == "rows" else (-1, 1)
            self.register_buffer(f"{axis}_low", torch.from_numpy(low))
            self.register_buffer(f"{axis}_high", torch.from_numpy(np.minimum(low + 1, n_in - 1)))
            self.register_buffer(f"{axis}_fraction", torch.from_numpy(fraction).reshape(shape))

    def forward(self, frame: Tensor) -> Tensor:
        for dim, axis in ((1, "rows"), (2, "columns")):
            low = frame.index_select(dim, self.get_buffer(f"{axis}_low"))
            high = frame.index_select(dim, self.get_buffer(f"{axis}_high"))
            frame = low + (high - low) * self.get_buffer(f"{axis}_fraction")
        return frame


class Matrices(nn.Module):
    """One matrix per axis: more arithmetic, but dense."""

    rows: Tensor
    columns: Tensor

    def __init__(self, frame: Size, size: Size):
        super().__init__()
        self.frame, self.size = frame, size
        for axis, n_in, n_out in zip(("rows", "columns"), frame, size):
            self.register_buffer(axis, torch.from_numpy(resize_matrix(n_in, n_out)))

    def forward(self, frame: Tensor) -> Tensor:
        (height, width), (rows, _) = self.frame, self.size
        left = self.rows @ frame.reshape(-1, height, width * 3)
        return self.columns @ left.reshape(-1, rows, width, 3)


FRONTS: Dict[str, Callable[[Size, Size], nn.Module]] = {"gather": Gather, "matrices": Matrices}


def _neighbours(n_in: int, n_out: int) -> Tuple[np.ndarray, np.ndarray]:
    """Lower neighbour (int64) and fraction (float64) of each output position, [n_out] each."""
    matrix = resize_matrix(n_in, n_out)
    low = (matrix > 0).argmax(axis=1)
    return low, 1.0 - matrix[np.arange(n_out), low]
