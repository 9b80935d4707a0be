"""Photos and masks are read by the run's rule: bits and orientation, from file to tensor."""

import struct

import cv2
import numpy as np
import pytest
import trees

from ssn_edge.frames.decoding import Reading
from ssn_train.network import backbones
from ssn_train.options.settings import Settings
from ssn_train.training.photo_loader import Photo, PhotoLoader


def tagged(path, tag):
    """The JPEG with an orientation tag."""
    data = path.read_bytes()
    block = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHH", 1, 0x0112, 3, 1, tag, 0) + bytes(4)
    body = b"Exif\0\0" + block
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])
    return path


def test_orientation(tmp_path):
    path = trees.photo(tmp_path / "a.jpg")
    backbone = backbones.create("resnet18")
    plain = PhotoLoader(backbone, trees.SIZE).image(Photo(path))
    tagged(path, 3)
    turned = PhotoLoader(backbone, trees.SIZE, reading=Settings("resnet18").reading).image(Photo(path))
    np.testing.assert_array_equal(turned, plain[::-1, ::-1])
    old = PhotoLoader(backbone, trees.SIZE, reading=Reading(orientation="ignored")).image(Photo(path))
    np.testing.assert_array_equal(old, plain)


def test_bits(tmp_path):
    twelve = np.random.default_rng(0).integers(0, 4096, trees.SIZE).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), twelve)
    reading = Settings("resnet18", bits=12).reading
    loader = PhotoLoader(backbones.create("resnet18"), trees.SIZE, reading=reading)
    np.testing.assert_array_equal(loader.image(Photo(tmp_path / "a.png"))[..., 0], twelve >> 4)


def test_old_runs_go_on_as_they_were():
    stored = Settings("resnet18").to_dict()
    for name in ("bits", "orientation"):
        del stored[name]
    del stored["selection"]["layout"]
    with pytest.raises(Exception, match="orientation is applied, the run was started with ignored"):
        Settings("resnet18").check_same(stored)
    Settings("resnet18", orientation="ignored").check_same(stored)
    Settings("resnet18").check_same(Settings("resnet18", bits=12).to_dict())  # found in the photos
