"""What computes: the CPU or a GPU by PyTorch's name."""

from __future__ import annotations

import torch

from ssn_edge.errors import InputError


def chosen(name: str) -> str:
    """``auto`` is the first GPU, if there is one; InputError for a device that is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0][:100]}; use cpu") from None
    return name
