"""Weights: the package's are the ones that were published, files are read without trust."""

import pytest

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
