"""A bundle of one training, replaced by one of another; which of the two is there."""

import tiny

from ssn_edge import Detector
from ssn_edge.model import bundle, bundle_writer

OLD, NEW = "a" * 64, "b" * 64


def old(folder):
    return tiny.write_bundle(folder / "m.ssn", [tiny.engine_info()], checkpoint_sha256=OLD)


def replace(path, log=lambda line: None, checkpoint=NEW):
    with bundle_writer.writing(path, log) as writer:
        entries = [writer.add(content) for content in tiny.contents(checkpoint_sha256=checkpoint)]
        return writer.commit(tiny.info(checkpoint_sha256=checkpoint), entries)


def checkpoint_of(path):
    with Detector.open(path, "onnxruntime") as detector:
        assert detector.detect(tiny.reference(1).images[0]).map_max > 0
        return detector.info.checkpoint_sha256


def names(path):
    """Of its files, but for the note of what was read."""
    return {one.name for one in path.iterdir()} - {bundle.CHECKED}
