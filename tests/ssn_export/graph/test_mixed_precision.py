"""Which nodes stay in float32: as few as the gate needs, whatever the first photos show."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
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


def chain():
    """Three convolutions: 8 channels of 10x11 between the first two, 2 channels between the others."""
    weights = {"a": (8, 4, 1, 1), "b": (2, 8, 3, 3), "c": (1, 2, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "wa"], ["ya"], "a"),
        helper.make_node("Conv", ["ya", "wb"], ["yb"], "b", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["yb"], ["rb"], "r"),
        helper.make_node("Conv", ["rb", "wc"], ["yc"], "c"),
    ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "chain", [tensor("x", TensorProto.FLOAT, ["N", 4, 10, 11])],
        [tensor("yc", TensorProto.FLOAT, ["N", 1, 10, 11])],
        [numpy_helper.from_array(np.zeros(shape, np.float32), f"w{name}") for name, shape in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


WIDE, NARROW = frozenset({"a", "b"}), frozenset({"b", "r", "c"})


def test_a_tensors_bytes_are_its_elements_written_and_read_and_its_nodes_weights():
    model = chain()
    assert mixed_precision.islands(model) == {"ya": WIDE, "rb": NARROW}
    a, b, c = 8 * 4, 2 * 8 * 9, 2
    wide, narrow = 2 * 2 * 8 * 110, 2 * 2 * 2 * 110
    assert mixed_precision.float32_bytes(model, WIDE) == wide + 2 * (a + b)
    assert mixed_precision.float32_bytes(model, NARROW) == narrow + 2 * (b + c)
    assert mixed_precision.float32_bytes(model, WIDE | NARROW) == wide + narrow + 2 * (a + b + c)
    assert mixed_precision.float32_bytes(model, frozenset("b")) == 2 * b
    assert mixed_precision.float32_bytes(model, frozenset()) == 0


@pytest.mark.parametrize(("removed", "taken"), [
    ({WIDE: 4.0, NARROW: 4.0}, NARROW),  # either is enough: the cheaper
    ({WIDE: 4.0, NARROW: 0.1}, WIDE),  # more error for each of its bytes
    ({WIDE: 4.0, NARROW: 2.0}, WIDE),  # the narrow one is taken first, and given back
    ({WIDE: 2.0, NARROW: 2.0}, WIDE | NARROW),
    ({WIDE: 1.0, NARROW: 1.0}, frozenset("abrc")),  # not enough: everything
])
def test_the_search_takes_what_removes_most_for_its_bytes(removed, taken):
    """An error that is the target's square plus 3.5 parts, from which each tensor takes its own."""

    def error(keep):
        rest = 1 + 3.5 - sum(part for nodes, part in removed.items() if nodes <= keep)
        return mixed_precision.TARGET_RMS * max(rest, 0.0) ** 0.5

    def alone(names):
        nodes = {"ya": WIDE, "rb": NARROW}
        return mixed_precision.TARGET_RMS * sum(removed[nodes[name]] for name in names) ** 0.5

    assert mixed_precision.search(chain(), error, alone) == taken
