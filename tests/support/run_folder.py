"""A run folder as training leaves one, of a model with random weights."""

import dataclasses

import torch
from random_model import photos, random_model

from ssn_edge.frames.image_files import write_image
from ssn_edge.model.schema import Verdict
from ssn_export.graph import float64_reference
from ssn_train.training import checkpoint
from ssn_train.training.checkpoint import MODEL_FILE, Header

SIZE = 64, 96


def write_run(folder, name, shape):
    """The folder with its model and reference photos; map logits of a few units, judged by the maximum."""
    model, backbone = random_model(name, SIZE, shape)
    images = photos(6, SIZE)
    truth = float64_reference.reference(model, backbone, images[:2])
    with torch.no_grad():
        model.discriminator.seg[3].weight.div_(float(abs(truth.maps).max()) / 3)
    peaks = float64_reference.reference(model, backbone, images).maps.max((1, 2))
    middle = float(sorted(peaks)[2] + sorted(peaks)[3]) / 2
    header = Header(
        backbone.name, backbone.timm_name, "random", backbone.mean, backbone.std, *SIZE,
        tuple(model.feature_shift.tolist()), tuple((1 / model.feature_scale).tolist()), backbone.standardise,
        settings={}, data={}, verdict=Verdict("map_max", middle, middle, "the middle of six", 6),
        design=dataclasses.asdict(shape),
    )
    (folder / "reference").mkdir(parents=True)
    for number, image in enumerate(images):
        write_image(folder / "reference" / f"{number}.png", image)
    checkpoint.save_model(folder / MODEL_FILE, model, header)
    return folder
