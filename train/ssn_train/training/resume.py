"""What an interrupted run needs to go on: how far it came, and on which photos.

A run that went on with other photos could calibrate its threshold on ones that it was trained on, so
the file names every training photo with a digest of its content; file sizes would not do, since all
BMPs of one camera have the same.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from tqdm import tqdm

from ssn_edge.errors import InputError, ModelError
from ssn_train.data.datasets import DataSet
from ssn_train.data.label_files import Shapes
from ssn_train.data.truth import Mask, parts_of
from ssn_train.network.model import SuperSimpleNet
from ssn_train.options.settings import Settings
from ssn_train.training import checkpoint

LOSS_TERMS = 4
NAMED = 3
"""So many photos of a kind are named where they differ."""


@dataclass
class Progress:
    """What a resumed run needs besides weights and optimizer: steps done, their losses, and how many were
    ``planned`` where a budget was given."""

    step: int = 0
    history: List[Tuple[float, ...]] = field(default_factory=list)
    planned: Optional[int] = None


class PhotoRecord(NamedTuple):
    """A training photo: its path within the data set, its label, digests of its content and of its
    mask's (None without a mask), and the part that it shows ("": not known)."""

    name: str
    label: int
    content: str
    mask: Optional[str]
    part: str = ""


def photos_of(dataset: DataSet) -> Tuple[PhotoRecord, ...]:
    """The record of all photos to train on, in their order, held-back ones included; reads them all."""
    return tuple(
        PhotoRecord(
            Path(os.path.relpath(sample.path, dataset.root)).as_posix(), sample.label,
            _digest(sample.path), None if sample.mask is None else _mask_digest(sample.mask), sample.part,
        )
        for sample in tqdm(dataset.train, desc="hashing photos", unit="img")
    )


def _mask_digest(mask: Mask) -> str:
    return " ".join(
        hashlib.blake2b(part.document.encode(), digest_size=16).hexdigest()
        if isinstance(part, Shapes) else _digest(part)
        for part in parts_of(mask)
    )


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError:  # such photos are named and left out of training, as long as they stay so
        return "unreadable"
    return digest.hexdigest()


@dataclass(frozen=True)
class ResumeFile:
    """``resume.safetensors`` of a run with these settings on these photos."""

    path: Path
    settings: Settings
    photos: Tuple[PhotoRecord, ...]

    def save(self, model: SuperSimpleNet, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Everything that changes while training; the frozen backbone is not written again."""
        tensors = _trainable(model)
        tensors.update(checkpoint.optimizer_tensors(optimizer))
        tensors["history"] = torch.tensor(progress.history, dtype=torch.float64).reshape(-1, LOSS_TERMS)
        header: Dict[str, Any] = {
            "schema": checkpoint.SCHEMA,
            "step": progress.step,
            "planned": progress.planned,
            "settings": self.settings.to_dict(),
            "photos": self.photos,
        }
        checkpoint.save(self.path, tensors, header)

    def check(self) -> None:
        """InputError where the interrupted run had other settings or photos, ModelError for a damaged
        file: asked before anything is computed."""
        _, header = checkpoint.load(self.path)
        if not isinstance(header.get("settings"), dict):
            raise self._damaged("no settings in it")
        self.settings.check_same(header["settings"])
        if "photos" not in header:
            raise InputError(
                f"{self.path}: written by an ssn-train that kept no record of its photos, so whether these "
                "are the same cannot be told; start anew with another --out"
            )
        try:
            found = tuple(PhotoRecord(str(name), *rest) for name, *rest in header["photos"])
        except (TypeError, ValueError):
            raise self._damaged("its record of the photos is none") from None
        if found != self.photos:
            raise InputError(
                f"{self.path}: the training photos are not the interrupted run's: "
                f"{_differences(found, self.photos)}; bring them back, or start anew with another --out"
            )

    def restore(
        self, model: SuperSimpleNet, optimizer: torch.optim.Optimizer, trained: Sequence[Tensor]
    ) -> Progress:
        """Put weights and optimizer back; ``trained`` are the parameters that every step changes.

        Raises ModelError, with model and optimizer as they were, for a file that lacks anything but the
        frozen backbone's tensors, or holds what does not fit.
        """
        tensors, header = checkpoint.load(self.path)
        step = header.get("step")
        if type(step) is not int or step < 0:
            raise self._damaged(f"its step is {step!r}")
        planned = header.get("planned")
        if planned is not None and (type(planned) is not int or planned < 1):
            raise self._damaged(f"its planned steps are {planned!r}")
        shapes = {name: tuple(value.shape) for name, value in _trainable(model).items()}
        shapes["history"] = (step, LOSS_TERMS)
        if step:
            shapes.update(_optimizer_shapes(optimizer, trained))
        problem = _problem(tensors, shapes)
        if problem:
            raise self._damaged(problem)
        history = tensors.pop("history")
        state = {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}
        model.load_state_dict(state, strict=False)  # the backbone has its weights already
        checkpoint.restore_optimizer(optimizer, tensors)
        return Progress(step, [tuple(row) for row in history.tolist()], planned)

    def _damaged(self, problem: str) -> ModelError:
        return ModelError(f"{self.path}: damaged ({problem}); start anew with another --out")


def _trainable(model: SuperSimpleNet) -> Dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.startswith("backbone.")}


def _optimizer_shapes(
    optimizer: torch.optim.Optimizer, trained: Sequence[Tensor]
) -> Dict[str, Tuple[int, ...]]:
    """What AdamW keeps of each trained parameter after a step, named as ``checkpoint`` does."""
    shapes: Dict[str, Tuple[int, ...]] = {}
    wanted = {id(parameter) for parameter in trained}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        if id(parameter) in wanted:
            shapes[f"optimizer.{index}.step"] = ()
            for moment in ("exp_avg", "exp_avg_sq"):
                shapes[f"optimizer.{index}.{moment}"] = tuple(parameter.shape)
    return shapes


def _problem(tensors: Mapping[str, Tensor], shapes: Mapping[str, Tuple[int, ...]]) -> Optional[str]:
    """The first thing that is wrong with ``tensors``, or None."""
    for name, shape in shapes.items():
        if name not in tensors:
            return f"no {name} in it"
        found = tuple(tensors[name].shape)
        if found != shape:
            return f"{name} has shape {list(found)} in place of {list(shape)}"
        if not torch.isfinite(tensors[name]).all():
            return f"{name} is not finite"
    return next((f"{name} is not expected in it" for name in sorted(set(tensors) - set(shapes))), None)


def _differences(before: Sequence[PhotoRecord], now: Sequence[PhotoRecord]) -> str:
    old, new = ({photo.name: photo for photo in photos} for photos in (before, now))
    kinds = {
        "gone": [name for name in old if name not in new],
        "new": [name for name in new if name not in old],
        "changed": [name for name in new if name in old and old[name] != new[name]],
    }
    parts = [
        f"{len(names)} {kind} ({', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''})"
        for kind, names in kinds.items() if names
    ]
    return ", ".join(parts) or "the same ones, listed in another order"
