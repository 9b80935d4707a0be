"""The run folder's files: ``model.safetensors`` and the resume state. No pickle anywhere.

A checkpoint is self-contained (backbone weights included), so export needs no download. Its
JSON header, one string under the key ``ssn_edge``, says what the tensors are.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ssn_edge.errors import InputError, ModelError
from ssn_edge.files import PathLike, replacing
from ssn_edge.frames.decoding import Reading
from ssn_edge.model import schema
from ssn_edge.model.schema import METADATA_KEY, SCHEMA, Verdict
from ssn_train.network import backbones, design
from ssn_train.network.backbones import Backbone
from ssn_train.network.design import Design
from ssn_train.network.model import SuperSimpleNet

MODEL_FILE = "model.safetensors"
RESUME_FILE = "resume.safetensors"


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself. ``height`` and ``width`` are the input's, in pixels;
    ``feature_mean`` and ``feature_std`` hold one figure per channel of all levels; ``design`` is the
    :class:`ssn_train.network.design.Design`; ``calibration`` is what
    the verdict is from (:mod:`ssn_edge.verdict.calibration`), None in files from before it was kept."""

    backbone: str
    timm_name: str
    weights: str
    mean: Tuple[float, float, float]
    std: Tuple[float, float, float]
    height: int
    width: int
    feature_mean: Tuple[float, ...]
    feature_std: Tuple[float, ...]
    standardise: bool
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    verdict: Optional[Verdict] = None
    calibration: Optional[Mapping[str, Any]] = None
    variant: str = "icpr"
    design: Optional[Mapping[str, Any]] = None
    schema: int = SCHEMA

    @property
    def reading(self) -> Reading:
        """How photos became pixels; files from before there was a choice ignored orientation tags."""
        return Reading(self.settings.get("bits") or 16, self.settings.get("orientation", "ignored"))

    @property
    def shape(self) -> Design:
        """What the heads are built of; files from before there was a choice have the paper's."""
        return Design.of(self.design) if self.design else design.PAPER

    @property
    def calibrated(self) -> Verdict:
        """The verdict; InputError where there is none."""
        if self.verdict is None:
            raise InputError("the model has no calibrated thresholds; train again")
        return self.verdict


def save(path: PathLike, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header, whole or not at all."""
    contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(contiguous, temporary, {METADATA_KEY: json.dumps(header)})
        except SafetensorError as error:  # its name for a full disk, among others
            raise InputError(f"{path}: not written ({error}); free some space") from None


def load(path: PathLike) -> Tuple[Dict[str, Tensor], Dict[str, Any]]:
    """Tensors and header of a file written by :func:`save`.

    Raises InputError for a missing file, ModelError for a damaged or foreign one.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; train first (ssn-train DATA --out RUN)")
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged ({error}); train again or copy it again") from None
    if text is None:
        raise ModelError(f"{path}: no ssn-edge header inside; use a run written by ssn-train")
    return tensors, schema.parse(text, str(path))


def save_model(path: PathLike, model: SuperSimpleNet, header: Header) -> None:
    save(path, model.state_dict(), dataclasses.asdict(header))


def load_model(run: PathLike) -> Tuple[SuperSimpleNet, Header, Backbone]:
    """The trained model of a run folder in evaluation mode, its header, and its backbone.

    Raises InputError for an ablation's: those exist for the paper's table, not for use.
    """
    path = Path(run) / MODEL_FILE
    tensors, document = load(path)
    ablation = document.get("settings", {}).get("ablation")
    if ablation:
        raise InputError(f"{run}: trained with --ablation {ablation}, for comparison only; train without it")
    try:
        verdict = document.pop("verdict")
        header = Header(**document, verdict=Verdict(**verdict) if verdict else None)
        shape = header.shape
        backbone = backbones.create(header.backbone, shape.levels)
        size = (header.height, header.width)
        model = SuperSimpleNet(backbone.module, backbone.channels, size, variant=header.variant, shape=shape)
        model.load_state_dict(tensors)
        backbone = dataclasses.replace(backbone, mean=_three(header.mean), std=_three(header.std))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path}: does not follow schema {SCHEMA} ({reason}); train again") from None
    return model.eval(), header, backbone


def _three(values: Sequence[float]) -> Tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Dict[str, Tensor]:
    """The optimizer's state as named tensors, ``optimizer.INDEX.NAME``."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, entry in state.items()
        for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors of :func:`optimizer_tensors` back; settings stay as they are."""
    document = optimizer.state_dict()
    state: Dict[int, Dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**document, "state": state})
