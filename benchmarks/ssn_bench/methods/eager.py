"""Eager PyTorch under the same protocol: what a user of the published code runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional, Tuple

import torch
from torch import nn

from ssn_bench.comparison.paper import OURS
from ssn_bench.measure import environment
from ssn_bench.measure.protocol import Call
from ssn_bench.measure.ready import ReadyContender, noise
from ssn_bench.methods import peers
from ssn_train.training import checkpoint


def opened(word: str, run: Optional[Path], batch: int) -> ReadyContender:
    """A run folder's model or a method, from uint8 images in host memory to results in host memory.

    On the first CUDA device in half precision, as in the papers, where there is one; else float32 on
    the CPU.
    """
    method, backbone, module, size = _module(word, run)
    cuda = torch.cuda.is_available()
    if cuda:
        module = module.cuda().half()
    images = torch.from_numpy(noise(batch, size))

    @torch.inference_mode()
    def infer() -> object:
        return [part.cpu().numpy() for part in module(images.cuda() if cuda else images)]

    about = {
        "backend": version(),
        "backend_choice": "eager PyTorch",
        "file": str(run) if run else None,
        "device": torch.cuda.get_device_name() if cuda else environment.processor(),
        "method": method,
        "backbone": backbone,
        "precision": "float16" if cuda else "float32",
        "plan": "none",
        "size": list(size),
    }
    call = Call(*_with_events(infer)) if cuda else Call(infer)
    return ReadyContender(call, batch, about, None)


def _module(word: str, run: Optional[Path]) -> Tuple[str, str, nn.Module, Tuple[int, int]]:
    """Method, backbone, module of the contract, size."""
    if run is None:
        peer = peers.PEERS[word]
        return peer.method, peer.backbone, peers.build(word), peers.SIZE
    model, header, backbone = checkpoint.load_model(run)
    return OURS, header.backbone, peers.Contract(model, backbone.mean, backbone.std), model.image_size


def _with_events(infer: Callable[[], object]) -> Tuple[Callable[[], object], Callable[[], float]]:
    """The call between two CUDA events, and the time between them: the GPU's own clock."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def timed() -> object:
        first.record()
        results = infer()
        last.record()
        return results

    def device_ms() -> float:
        last.synchronize()
        return float(first.elapsed_time(last))

    return timed, device_ms


def peak_memory_mb() -> Optional[float]:
    """The most that torch's allocator has reserved on the GPU so far (the paper's figure), in 10^6
    bytes; None without one."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.max_memory_reserved() / 1e6


def version() -> str:
    device: Any = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    where = device or f"{torch.get_num_threads()} threads"
    return f"PyTorch {torch.__version__} eager, {where}"
