"""The description inside a model file."""

import dataclasses
import json

import pytest
import tiny

from ssn_edge import ModelError
from ssn_edge.model import schema
from ssn_edge.model.schema import ModelInfo


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
