"""Which nodes stay in float32: as few as the gate needs, whatever the first photos show."""

import numpy as np
from random_model import LEAN, photos
from run_folder import SIZE, write_run

from ssn_export.gates import parity
from ssn_export.graph import float64_reference, half_precision, mixed_precision, tracing
from ssn_export.graph.deployed import Deployed
from ssn_train.training import checkpoint


def test_flat_maps_of_sound_photos_do_not_keep_everything_in_float32(tmp_path):
    """A trained model's sound photos, which come first, have nearly constant maps. Errors are judged over the
    deviation of all; over theirs alone no node would be good enough in half."""
    model, header, backbone = checkpoint.load_model(write_run(tmp_path / "run", *LEAN[3]))
    graph = tracing.trace(Deployed(model, backbone, "full", header.feature_mean), SIZE)
    flat = [np.full((*SIZE, 3), 128, np.uint8) for _ in range(6)]
    for number, image in enumerate(flat):
        image[:, :, 0] += number
    truth = float64_reference.reference(model, backbone, np.stack([*flat, *photos(2, SIZE)]))
    few = truth.first(mixed_precision.MEASURED_IMAGES)
    sound = np.abs(few.maps - few.maps.mean((0,))).max()
    assert sound < 0.1 * truth.maps.std()
    half, kept = mixed_precision.mixed_half(graph, truth, header.calibrated)
    answers = float64_reference.run_onnx(half_precision.emulated(half), truth.images)
    found = parity.compare(truth, *answers, header.calibrated, "float16")
    parity.gate(found, "float16")
    assert len(kept) < len(graph.graph.node) / 2


def test_spread_images_are_at_even_distances():
    numbers = np.arange(12)
    truth = parity.Reference(numbers, numbers * 2.0, numbers * 3.0)
    found = truth.spread(4)
    assert found.images.tolist() == [0, 3, 7, 11] and found.maps.tolist() == [0, 6, 14, 22]
    assert found.scores.tolist() == [0, 9, 21, 33]
    assert truth.spread(99).images.tolist() == truth.images.tolist()
    assert truth.first(1).spread(4).images.tolist() == [0] and truth.spread(1).images.tolist() == [0]
