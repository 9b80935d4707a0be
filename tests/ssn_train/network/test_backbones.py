"""Weights: the package's are the ones that were published, files are read without trust."""

import pytest
import timm
import torch

from ssn_edge.errors import InputError
from ssn_train.network import backbones


def test_the_packages_weights_are_checked(tmp_path, monkeypatch):
    backbone = backbones.create(backbones.DEFAULT)
    assert backbones.load_weights(backbone, None) == backbones.PACKAGE
    altered = tmp_path / "weights.pth"
    data = bytearray(backbones._packaged_file().read_bytes())
    data[len(data) // 2] ^= 1
    altered.write_bytes(data)
    monkeypatch.setattr(backbones, "_packaged_file", lambda: altered)
    with pytest.raises(InputError, match="package efficientnet-lite0.*install it again"):
        backbones.load_weights(backbone, None)


@pytest.mark.parametrize("name, said", [("none.pth", "no such file"), ("text.pth", "cannot be read")])
def test_files_that_are_no_weights(tmp_path, name, said):
    (tmp_path / "text.pth").write_text("no tensors")
    with pytest.raises(InputError, match=said):
        backbones.load_weights(backbones.create("resnet18"), str(tmp_path / name))


def test_a_name_that_timm_does_not_know():
    with pytest.raises(InputError, match="--backbone resnet17: unknown to timm"):
        backbones.create("resnet17")


# --- Levels --------------------------------------------------------------------------------------

IMAGES = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))


def seen(name, wanted):
    """Outputs of a whole timm model's modules, by hooks."""
    architecture = backbones.TIMM_NAMES.get(name, name).split(".")[0]
    torch.manual_seed(0)
    model = timm.create_model(architecture, pretrained=False).eval()
    found = {}
    for module in wanted:
        model.get_submodule(module).register_forward_hook(
            lambda _, __, output, module=module: found.update({module: output})
        )
    with torch.no_grad():
        model(IMAGES)
    return model, [found[module] for module in wanted]


@pytest.mark.parametrize("name, levels, modules, strides", [
    ("efficientnet_lite0", ("8", "16"), ("blocks.2", "blocks.4"), (8, 16)),
    ("efficientnet_lite0", ("block5", "block6"), ("blocks.4", "blocks.5"), (16, 32)),
    ("efficientnet_lite0", ("block1", "block3", "block7"), ("blocks.0", "blocks.2", "blocks.6"), (2, 8, 32)),
    ("efficientnet_lite0", ("8", "block4", "16"), ("blocks.2", "blocks.3", "blocks.4"), (8, 16, 16)),
    ("efficientnet_lite0", ("blocks.2", "32"), ("blocks.2", "blocks.6"), (8, 32)),
    ("resnet18", ("8", "16"), ("layer2", "layer3"), (8, 16)),
    ("resnet18", ("layer1", "layer2", "layer4"), ("layer1", "layer2", "layer4"), (4, 8, 32)),
    ("resnet18", ("layer2", "16"), ("layer2", "layer3"), (8, 16)),
])
def test_levels_are_the_whole_models(name, levels, modules, strides):
    """Bit for bit what its own modules put out there, with nothing computed behind the last one."""
    model, expected = seen(name, modules)
    backbone = backbones.create(name, levels)
    backbones._fill(backbone, model.state_dict(), "the whole model")
    with torch.no_grad():
        found = backbone.module.eval()(IMAGES)
    assert len(found) == len(levels)
    for ours, theirs in zip(found, expected):
        assert torch.equal(ours, theirs)
    assert backbone.levels == levels and backbone.strides == strides
    assert backbone.channels == tuple(level.shape[1] for level in expected)
    behind = {key.split(".")[1] for key in backbone.module.state_dict() if ".blocks." in key}
    assert "conv_head" not in behind and "classifier" not in behind


def test_the_paper_is_what_is_not_said():
    assert backbones.create("efficientnet_lite0").levels == ("8", "16")


def test_levels_in_words():
    words = backbones.create("efficientnet_lite0", ("block5", "block6")).words()
    assert words == "block5 (stride 16, 112 channels) and block6 (stride 32, 192 channels)"
    words = backbones.create("resnet18", ("8", "16", "layer4")).words()
    assert words == "stride 8 (128 channels), stride 16 (256 channels) and layer4 (stride 32, 512 channels)"


@pytest.mark.parametrize("name, levels, said", [
    ("efficientnet_lite0", "8", "--levels 8: give two or three, as in 8,16"),
    ("efficientnet_lite0", "", "--levels : give two or three"),
    ("efficientnet_lite0", "16,8", "--levels 16,8: give different ones, the finest first"),
    ("efficientnet_lite0", "8,8", "give different ones"),
    ("efficientnet_lite0", "8,block3", "give different ones"),
    ("resnet18", "layer2,8", "give different ones"),
    ("resnet18", "layer3,8", "give different ones"),
    ("efficientnet_lite0", "block9,block10", "--levels block9,block10: --backbone efficientnet_lite0 has "),
    ("efficientnet_lite0", "layer2,16", "block7"),
    ("efficientnet_lite0", "block0,block1", "has features at"),
    ("resnet18", "block5,block6", "has features at 2, 4, 8, 16, 32, act1, layer1, layer2, layer3, layer4"),
    ("efficientnet_lite0", "8,16,32,4", "--levels 8,16,32,4: give two or three"),
    ("resnet18", "8,64", "has features at"),
    ("resnet18", "8,²", "has features at"),
])
def test_levels_that_there_are_not(name, levels, said):
    with pytest.raises(InputError) as caught:
        backbones.create(name, tuple(levels.split(",")))
    assert said in str(caught.value) and "\n" not in str(caught.value)
