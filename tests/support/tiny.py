"""The tiny model of :mod:`ssn_edge.testing`, variants of it made with ONNX's own package, and bundles."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ssn_edge.model.onnx_metadata import appended
from ssn_edge.model.schema import METADATA_KEY
from ssn_edge.testing import tiny_info as info
from ssn_edge.testing.tiny import GRAPH, HEIGHT, WIDTH

MEASURED = {"parity": {"trained model": {"map_rms": 1e-3, "images": 3}}}
"""What the builder of an engine found."""


def write_model(path, metadata=None, with_metadata=True, breaks=None, full=255.0):
    """``breaks``: the output, "score" or "anomaly_map", that is NaN for a frame that is black, or has a
    black pixel: 0 / 0, as a damaged weight makes it. ``full``: the map's value for a score of 1."""
    plain = breaks is None and full == 255.0
    data = GRAPH.read_bytes() if plain else graph(breaks, full).SerializeToString()
    if with_metadata:
        data = appended(data, {METADATA_KEY: metadata or info().to_json()})
    path.write_bytes(data)
    return path


def graph(breaks=None, full=255.0):
    """The model without a description."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["anomaly_map"], axes=[3], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map"], ["peak"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["peak", "full"], ["score"]),
    ]
    if breaks:  # its value times itself over itself
        (made,) = (node for node in nodes if node.output[0] == breaks)
        made.output[0] = "sound"
        nodes.insert(nodes.index(made) + 1, helper.make_node("Div", ["square", "sound"], [breaks]))
        nodes.insert(nodes.index(made) + 1, helper.make_node("Mul", ["sound", "sound"], ["square"]))
    made = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", HEIGHT, WIDTH]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(np.float32(full), "full")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def reference(count=3, full=255.0):
    """Seeded images with the model's answers."""
    from ssn_export.gates import parity

    images = np.random.default_rng(3).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)
    maps = images.astype(np.float64).mean(3)
    return parity.Reference(images, maps, maps.max((1, 2)) / full)


def engine_info(**changes):
    """What an engine of the model says of itself."""
    from ssn_edge.model.engine_file import EngineInfo

    fields = dict(
        model=info(precision="float16"), source="m.onnx", onnx_sha256="0" * 64, tensorrt="10.3.0",
        compute_capability="8.7", device="Orin", batch=4,
    )
    fields.update(changes)
    return EngineInfo(**fields)


def contents(engines=(), roles=("float32", "half", "reference"), **changes):
    """A bundle's files; ``engines`` are descriptions, whose plans are no plans but bytes."""
    from ssn_edge.model.bundle_writer import Content
    from ssn_export.gates import parity

    found = []
    for role, precision in (("float32", "float32"), ("half", "float16")):
        if role in roles:
            text = info(precision=precision, **changes).to_json()
            found.append(Content(role, lambda path, text=text: write_model(path, text), precision, "none"))
    if "reference" in roles:
        found.append(Content("reference", lambda path: parity.write_reference(path, reference())))
    for number, one in enumerate(engines):
        found.append(Content(
            "engine", lambda path, number=number: path.write_bytes(b"plan %d" % number), one.model.precision,
            "none", one, {} if one.unverified else MEASURED,
        ))
    return found


def target_graph(target="rtx", precision="float16", plan="full", **changes):
    """A graph for a target, as a bundle's file."""
    from ssn_edge.model.bundle_writer import Content

    table = {"target": target}
    text = info(precision=precision, plan=plan, plan_table=table, **changes).to_json()
    return Content("graph", lambda path: write_model(path, text), precision, plan, target=target)


def add(path, *files):
    """The bundle with more files."""
    from ssn_edge.model import bundle, bundle_writer

    with bundle_writer.writing(path, lambda line: None) as writer:
        writer.commit_more([writer.add(one) for one in files])
    return bundle.read(path)


def write_bundle(path, engines=(), roles=("float32", "half", "reference"), **changes):
    """The model as a bundle; ``changes`` as of :func:`info`."""
    from ssn_edge.model import bundle_writer

    with bundle_writer.writing(path, lambda line: None) as writer:
        entries = [writer.add(content) for content in contents(engines, roles, **changes)]
        writer.commit(info(**changes), entries)
    return path


def write_targets(path):
    """A bundle with a graph of its own for RTX cards and one for an Orin."""
    write_bundle(path)
    add(path, target_graph(), target_graph("orin", "float32", "row-first"))
    return path
