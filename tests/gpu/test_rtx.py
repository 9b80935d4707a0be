"""An engine of TensorRT for RTX on a card: what no machine without one can tell."""

import shutil
import time

import numpy as np
import pytest
from commands import command

from ssn_edge import Detector
from ssn_edge.model import bundle
from ssn_edge.model.engine_file import CACHE_SUFFIX
from ssn_export.gates import parity


@pytest.fixture(scope="module")
def model(exported, tmp_path_factory):
    """A copy of the bundle with an engine for up to 16 images for every card."""
    path = shutil.copytree(exported, tmp_path_factory.mktemp("rtx") / "model.ssn")
    command("ssn_export", path, "--engine", "rtx", "--batch", "16", "--layers")
    return path


def engine(path):
    return [one for one in bundle.read(path).of_role("engine") if one.engine.product == "rtx"][-1]


def caches(path):
    return sorted(one for one in path.iterdir() if one.name.endswith(CACHE_SUFFIX))


def test_is_compared_when_it_is_built(model, figures):
    entry = engine(model)
    figures["rtx"] = {key: entry.measured[key] for key in ("parity", "layers", "build_seconds", "warnings")}
    assert entry.verified and not entry.engine.unverified
    assert entry.measured["parity"]["trained model"]["map_rms"] <= parity.HALF_LIMITS["map_rms"]


def test_one_that_was_not_run_is_compared_where_it_is_opened(exported, tmp_path):
    path = shutil.copytree(exported, tmp_path / "model.ssn")
    command("ssn_export", path, "--engine", "rtx", "--unverified")
    assert not engine(path).verified
    with Detector.open(path, "rtx") as detector:
        assert "; agrees with" in detector.choice


def test_the_cache_saves_the_second_opening_its_compiling(model, figures):
    for place in caches(model):
        place.unlink()
    seconds = []
    for _ in range(2):
        start = time.monotonic()
        with Detector.open(model, "rtx") as detector:
            assert detector.library == "rtx"
        seconds.append(time.monotonic() - start)
        assert len(caches(model)) == 1
    figures["rtx opening, seconds"] = {"without cache": seconds[0], "with cache": seconds[1]}
    (kept,) = caches(model)
    kept.write_bytes(b"no cache")
    with Detector.open(model, "rtx"):
        pass
    assert kept.read_bytes() != b"no cache"


def test_the_same_frame_has_the_same_answer_in_every_batch_of_its_size(model):
    found = bundle.read(model)
    images = parity.read_reference(found.place(found.of_role("reference")[0])).images
    with Detector.open(model, "rtx", batch=4) as detector:
        for count in (1, 2, 4):
            first = detector.infer_batch(images[:1].repeat(count, 0))
            for _ in range(50):
                again = detector.infer_batch(images[:1].repeat(count, 0))
                np.testing.assert_array_equal(again[0], first[0])
                np.testing.assert_array_equal(again[1], first[1])
