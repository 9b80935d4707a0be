"""The description inside a model file."""

import dataclasses

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
