"""The description inside a model file."""

import dataclasses
import json

import pytest
import tiny

from ssn_edge import ModelError
from ssn_edge.model import schema
from ssn_edge.model.schema import ModelInfo, Network


def test_metadata_round_trip():
    info = tiny.info(parity={"map_rms": 1e-6})
    assert ModelInfo.from_json(info.to_json(), "x") == info
    with pytest.raises(ModelError, match="not JSON"):
        schema.parse("{", "x")
    for wrong in ({"source": "median"}, {"image_threshold": float("nan")}):
        with pytest.raises(ModelError):
            dataclasses.replace(info.verdict, **wrong)


def test_bits_and_orientation_of_files_from_before_there_was_a_choice():
    document = json.loads(tiny.info(bits=12, orientation="applied").to_json())
    assert (document["bits"], document["orientation"]) == (12, "applied")
    del document["bits"], document["orientation"]
    old = ModelInfo.from_json(json.dumps(document), "x")
    assert (old.bits, old.orientation) == (16, "ignored")
    for wrong in ({"bits": 7}, {"bits": 17}, {"bits": 12.0}, {"orientation": "turned"}):
        with pytest.raises(ModelError, match="bits .* and orientation .*: expected 8 to 16"):
            dataclasses.replace(old, **wrong)


# --- What the network is built of ----------------------------------------------------------------

LEAN = Network(("block5", "block6"), (8, 12), 1024, 0, 5, False)


def test_a_design_goes_through_json_and_readers_that_do_not_know_it():
    described = tiny.info(design=LEAN)
    text = described.to_json()
    assert ModelInfo.from_json(text, "m") == described and described.core().design == LEAN
    document = json.loads(text)
    assert document["design"] == {
        "levels": ["block5", "block6"], "grid": [8, 12], "seg_width": 1024, "cls_width": 0, "cls_kernel": 5,
        "adaptor": False, "distance": False,
    }
    document["design"]["later"] = 1  # of a minor version to come
    assert ModelInfo.from_document(document, "m") == described
    assert "design" not in json.loads(tiny.info().to_json())  # nothing of it where there is none
    del document["design"]
    assert ModelInfo.from_document(document, "m") == tiny.info()


def test_a_file_from_before_designs_is_the_same_network():
    """The checkpoint says that: an engine that an older ssn-export built of a graph stays its engine."""
    new, old = tiny.info(design=LEAN), tiny.info()
    assert new.same_network(old) and old.same_network(new)
    assert not new.same_network(tiny.info(design=LEAN, checkpoint_sha256="another"))


@pytest.mark.parametrize("change", [
    {"grid": [8]}, {"grid": [8, -1]}, {"grid": [8, 1 << 20]}, {"grid": [8, 1.5]}, {"grid": None},
    {"levels": 3}, {"levels": [1, 2]}, {"seg_width": True}, {"cls_width": None}, {"adaptor": 1},
])
def test_designs_that_are_none(change):
    document = json.loads(tiny.info(design=LEAN).to_json())
    document["design"].update(change)
    with pytest.raises(ModelError, match="^m: .*export again"):
        ModelInfo.from_document(document, "m")
    for wrong in ([], "8,16", 5, {}):
        with pytest.raises(ModelError, match="^m: .*export again"):
            ModelInfo.from_document({**document, "design": wrong}, "m")
