"""Binary Perlin masks: where synthetic anomalies go (section 3.3).

One octave of gradient noise on a random lattice, thresholded; half of the masks are emptied.
Draws come from the generator in the published order, so a seed gives the published masks.
"""

from __future__ import annotations

import math
from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SCALE_EXPONENT = 6  # lattice of 2^0 .. 2^5 cells per axis
EMPTY_PROBABILITY = 0.5


def perlin_noise(angles_u: Tensor, shape: Tuple[int, int]) -> Tensor:
    """Gradient noise [shape] in about -1 .. 1.

    ``angles_u`` [cells_h + 1, cells_w + 1], uniform in [0, 1): the lattice gradients' directions
    as fractions of a turn. ``shape`` must be whole multiples of the cells: ValueError otherwise.
    """
    cells = (angles_u.shape[0] - 1, angles_u.shape[1] - 1)
    if shape[0] % cells[0] or shape[1] % cells[1]:
        raise ValueError(f"noise of {shape} is not a whole multiple of its lattice {cells}")
    dtype = angles_u.dtype
    y = torch.arange(shape[0], dtype=dtype) * (cells[0] / shape[0])
    x = torch.arange(shape[1], dtype=dtype) * (cells[1] / shape[1])
    row, col = y.floor().long(), x.floor().long()
    dy, dx = (y - row)[:, None], (x - col)[None, :]
    sin, cos = torch.sin(2 * math.pi * angles_u), torch.cos(2 * math.pi * angles_u)

    def corner(down: int, right: int) -> Tensor:
        """Dot product of the corner's gradient with the way from it to each pixel."""
        at = (row[:, None] + down, col[None, :] + right)
        return cos[at] * (dy - down) + sin[at] * (dx - right)

    fade_y, fade_x = _fade(dy), _fade(dx)
    left = torch.lerp(corner(0, 0), corner(1, 0), fade_y.expand(shape))
    right = torch.lerp(corner(0, 1), corner(1, 1), fade_y.expand(shape))
    return math.sqrt(2) * torch.lerp(left, right, fade_x.expand(shape))


def _fade(t: Tensor) -> Tensor:
    return 6 * t**5 - 15 * t**4 + 10 * t**3


def perlin_masks(
    count: int, size: Tuple[int, int], threshold: float, generator: torch.Generator
) -> Tensor:
    """``count`` binary masks, float32 [count, 1, H, W] of ``size``; each empty with probability 0.5.

    The noise is made at the next powers of two and resized bilinearly. The published code fails
    where the lattice is finer than the noise (maps under 17 pixels); here the lattice is clamped.
    """
    noise_size = tuple(2 ** math.ceil(math.log2(n)) for n in size)
    masks = torch.zeros(count, 1, *size)
    for mask in masks:
        cells = []
        for n in noise_size:
            exponent = int(torch.randint(0, MAX_SCALE_EXPONENT, (1,), generator=generator))
            cells.append(min(2**exponent, n))
        angles_u = torch.rand(cells[0] + 1, cells[1] + 1, generator=generator)
        empty = torch.rand(1, generator=generator) > EMPTY_PROBABILITY
        if not empty:
            noise = perlin_noise(angles_u, noise_size)[None, None]
            if noise_size != tuple(size):
                noise = F.interpolate(noise, size=size, mode="bilinear")
            mask.copy_((noise > threshold)[0])
    return masks
