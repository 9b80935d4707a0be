"""The methods of Table 6 with random weights, as model files of our own contract.

Speed needs no training. Each method becomes uint8 BGR [N, H, W, 3] -> ``anomaly_map`` [N, H, W] and
``score`` [N], the same as our exports, so that the same runtime, protocol and back ends time all of
them. EfficientAD, PatchCore, FastFlow and DRAEM are anomalib's models (extra ``bench-peers``);
SimpleNet is written here after its published code, because anomalib has none.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Sequence, Tuple

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ssn_edge
from ssn_bench.comparison.paper import OURS
from ssn_bench.methods import random_models
from ssn_edge.errors import needs
from ssn_edge.files import replacing
from ssn_edge.model.schema import ModelInfo, Verdict
from ssn_export.bundles import baking
from ssn_export.graph import tracing
from ssn_export.graph.deployed import Deployed
from ssn_train.network import backbones
from ssn_train.network.map_matrices import gaussian_matrix, map_matrix
from ssn_train.network.model import SuperSimpleNet

SIZE = (256, 256)

CORESET = 24_772
"""Vectors in PatchCore's memory: a tenth of the 32 x 32 patches of MVTec AD's mean training set, 242
photos (PatchCore's default share)."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Peer:
    """``build()`` gives the module of the contract, ``method`` is its name in Table 6, ``backbone`` its
    feature extractor, ``note`` what was built and after whom."""

    build: Callable[[], nn.Module]
    method: str
    backbone: str
    note: str


class Contract(nn.Module):
    """A method behind our inputs and outputs. ``method`` maps RGB [N, 3, H, W], normalised unless
    ``mean`` is zero and ``std`` one, to a map [N, 1, H, W] and a score [N] or [N, 1]."""

    mean: Tensor
    scale: Tensor

    def __init__(self, method: nn.Module, mean: Sequence[float] = (0,) * 3, std: Sequence[float] = (1,) * 3):
        super().__init__()
        self.method = method
        self.register_buffer("mean", 255 * torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", 1 / (255 * torch.tensor(std, dtype=torch.float32)))

    def forward(self, image: Tensor) -> Tuple[Tensor, Tensor]:
        rgb = image.flip(3).to(self.mean.dtype)
        outputs = self.method(((rgb - self.mean) * self.scale).permute(0, 3, 1, 2))
        if hasattr(outputs, "anomaly_map"):  # anomalib's InferenceBatch
            outputs = outputs.anomaly_map, outputs.pred_score
        anomaly_map, score = outputs
        return anomaly_map.reshape(-1, *anomaly_map.shape[-2:]), score.reshape(-1)


class SimpleNet(nn.Module):
    """SimpleNet as its published code infers (DonaldRR/SimpleNet), without the reshaping that the
    paper's measurement left out as well (supplement A.1).

    3x3 patches of two levels, each averaged down to 1536 values, both averaged into one vector; a
    linear adaptor; a two-layer discriminator; its negated output resized and blurred.
    """

    WIDTH, HIDDEN = 1536, 1024

    def __init__(self) -> None:
        super().__init__()
        self.backbone = backbones.create("wide_resnet50_2").module
        self.adaptor = nn.Linear(self.WIDTH, self.WIDTH)
        self.discriminator = nn.Sequential(
            nn.Linear(self.WIDTH, self.HIDDEN), nn.BatchNorm1d(self.HIDDEN), nn.LeakyReLU(0.2),
            nn.Linear(self.HIDDEN, 1, bias=False),
        )
        self.register_buffer("rows", torch.from_numpy(map_matrix(SIZE[0] // 8, SIZE[0])).float())

    def forward(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        level2, level3 = self.backbone(images)
        grid = level2.shape[2:]
        fine = F.unfold(level2, 3, padding=1)  # [N, C2 * 9, 1024]
        coarse = F.unfold(level3, 3, padding=1).unflatten(2, tuple(level3.shape[2:]))
        coarse = F.interpolate(coarse, size=tuple(grid), mode="bilinear", align_corners=False).flatten(2)
        parts = [self._shrink(part.transpose(1, 2).flatten(0, 1)) for part in (fine, coarse)]
        vectors = self._shrink(torch.cat(parts, dim=1))
        values = -self.discriminator(self.adaptor(vectors)).reshape(-1, *grid)
        return (self.rows @ values @ self.rows.T)[:, None], values.flatten(1).amax(1)

    def _shrink(self, vectors: Tensor) -> Tensor:
        """Averages of neighbours: [M, k * 1536] -> [M, 1536]."""
        return vectors.unflatten(1, (self.WIDTH, -1)).mean(2)


class Published(nn.Module):
    """SuperSimpleNet as its published code computes it: everything at the map's size, the map resized
    and blurred by a 25 x 25 convolution."""

    kernel: Tensor

    def __init__(self, model: SuperSimpleNet):
        super().__init__()
        self.model = model
        row = torch.from_numpy(gaussian_matrix(101)[50, 38:63]).float()
        self.register_buffer("kernel", (row[:, None] * row)[None, None])

    def forward(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        model = self.model
        logits, score = model.discriminator(*model.head_inputs(model.features(images)))
        resized = F.interpolate(logits, size=model.image_size, mode="bilinear", align_corners=False)
        padded = F.pad(resized, (12,) * 4, mode="reflect")
        return F.conv2d(padded, self.kernel), torch.sigmoid(score)


def _fused(backbone: str) -> nn.Module:
    subject = random_models.random_weights(backbone, SIZE)
    return Deployed(subject.model, subject.backbone, "full", subject.mean).float()


def _published(backbone: str) -> nn.Module:
    subject = random_models.random_weights(backbone, SIZE)
    return Contract(Published(subject.model), subject.backbone.mean, subject.backbone.std)


def _efficientad(size: str) -> nn.Module:
    from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel, EfficientAdModelSize

    return Contract(EfficientAdModel(384, EfficientAdModelSize[size]))  # it normalises by itself


def _simplenet() -> nn.Module:
    return Contract(SimpleNet(), *IMAGENET)


def _patchcore() -> nn.Module:
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    model = PatchcoreModel(("layer2", "layer3"), "wide_resnet101_2", pre_trained=False, num_neighbors=1)
    model.memory_bank = torch.randn(CORESET, 1536)
    return Contract(model, *IMAGENET)


def _fastflow() -> nn.Module:
    from anomalib.models.image.fastflow.torch_model import FastflowModel

    return Contract(FastflowModel(SIZE, "wide_resnet50_2", pre_trained=False), *IMAGENET)


def _draem() -> nn.Module:
    from anomalib.models.image.draem.torch_model import DraemModel

    return Contract(DraemModel())


WIDE, LITE = "wide_resnet50_2", "efficientnet_lite0"

PEERS: Dict[str, Peer] = {
    "ssn": Peer(lambda: _fused(WIDE), OURS, WIDE, "fused, plan full"),
    "ssn-naive": Peer(lambda: _published(WIDE), OURS, WIDE, "as published"),
    "ssn-lite0": Peer(lambda: _fused(LITE), OURS, LITE, "fused, plan full"),
    "ssn-lite0-naive": Peer(lambda: _published(LITE), OURS, LITE, "as published but for the backbone"),
    "efficientad-s": Peer(lambda: _efficientad("S"), "EfficientAD-S", "own", "anomalib, no padding"),
    "efficientad-m": Peer(lambda: _efficientad("M"), "EfficientAD", "own", "anomalib, no padding"),
    "simplenet": Peer(_simplenet, "SimpleNet", WIDE, "after its published code"),
    "patchcore": Peer(_patchcore, "PatchCore", "wide_resnet101_2", f"anomalib, {CORESET} vectors"),
    "fastflow": Peer(_fastflow, "FastFlow", WIDE, "anomalib"),
    "draem": Peer(_draem, "DRAEM", "own", "anomalib"),
}


def build(name: str) -> nn.Module:
    """The module of a peer, seeded. BackendError where the library that has it is missing."""
    torch.manual_seed(0)
    with needs("bench-peers", name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PEERS[name].build().eval().requires_grad_(False)


def write(name: str, path: Path, batch: int) -> None:
    """A peer as an ONNX file for one batch size, over which some of the methods unroll.

    Opset 18, as torch writes it; whether TensorRT takes the graphs is not known.
    """
    graph = _trace(build(name), batch)
    baking.describe(graph, _info(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        onnx.save(graph, str(temporary))


def _trace(module: nn.Module, batch: int) -> onnx.ModelProto:
    if isinstance(module, Deployed):  # ours as ssn-export writes it
        return tracing.trace(module, SIZE)
    example = torch.zeros(batch, *SIZE, 3, dtype=torch.uint8)
    with tracing.quiet():
        program = torch.onnx.export(
            module, (example,), input_names=["image"], output_names=["anomaly_map", "score"],
            opset_version=tracing.TRACED_OPSET, dynamo=True, verbose=False,
        )
    assert program is not None
    return program.model_proto


def _info(name: str) -> ModelInfo:
    """A peer is no detector: its thresholds are never used, and its hash is of no checkpoint. The
    variant tells the method."""
    peer = PEERS[name]
    never = Verdict("score", 1e30, 1e30, "none: random weights", 0)
    return ModelInfo(
        height=SIZE[0], width=SIZE[1], verdict=never, backbone=peer.backbone, precision="float32",
        checkpoint_sha256="", variant="icpr" if peer.method == OURS else peer.method,
        plan=peer.note, parity={"made_by": f"ssn-bench {ssn_edge.__version__}"},
    )
