"""A PyTorch module as a checked ONNX file that carries its own description."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import warnings
from typing import Dict, Iterator, Sequence, Tuple

import numpy as np
import onnx
import onnx.version_converter
import torch
from torch import Tensor, nn

from ssn_edge.errors import ModelError
from ssn_edge.model.schema import METADATA_KEY, ModelInfo

OPSET = 17
"""The newest that TensorRT 8.5 and 8.6 read."""

OUTPUTS = ("anomaly_map", "score", "mask", "is_defect")
"""The last two where thresholds are inside the graph."""

TRACED_OPSET = 18
"""The oldest that torch writes."""


def trace(
    module: nn.Module, size_hw: Tuple[int, int], outputs: Sequence[str] = OUTPUTS[:2]
) -> onnx.ModelProto:
    """The module's graph in float32: ``image`` -> ``outputs``, batch axis ``N``.

    See :func:`trace_module`.
    """
    example = torch.zeros(2, *size_hw, 3, dtype=torch.uint8)
    return trace_module(module, (example,), ("image",), outputs)


def trace_module(
    module: nn.Module, examples: Tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """A module's float32 graph; every example's first axis is the free batch axis ``N``.

    torch writes opset 18 at least, so the graph is converted down; its padding is folded first,
    which the converter could not take.
    """
    batch = torch.export.Dim("N", min=1, max=4096)
    with quiet():
        program = torch.onnx.export(
            module.float().eval(),
            examples,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch} for _ in examples),
            opset_version=TRACED_OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
    _name_by_module(model.graph)
    _constants_to_initializers(model.graph)
    _fold_padding(model.graph)
    model = onnx.version_converter.convert_version(model, OPSET)
    for node in model.graph.node:  # an attribute of opset 18 that the converter leaves behind
        stale = [a for a in node.attribute if a.name == "noop_with_empty_axes"]
        for attribute in stale:
            node.attribute.remove(attribute)
    _fix_reshapes(model)
    _share_weights(model.graph)
    return _tidy(model)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter talks on three channels; its errors still raise."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Unique node names (``heads.score/MatMul_46``), no unused weights, no stale shapes or notes."""
    used = {name for node in model.graph.node for name in node.input}
    for weight in [w for w in model.graph.initializer if w.name not in used]:
        model.graph.initializer.remove(weight)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.name}/{node.op_type}_{index}" if node.name else f"{node.op_type}_{index}"
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.initializer, *model.graph.input, *model.graph.output]:
        value.doc_string = ""
        del value.metadata_props[:]
    del model.graph.value_info[:]
    del model.functions[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.doc_string = ""
    return model


def _name_by_module(graph: onnx.GraphProto) -> None:
    """Nodes bear the module they belong to, ``backbone`` or ``heads...``, so that the layer reports
    of inference libraries can be read; nothing for the outermost."""
    for node in graph.node:
        scopes = {p.key: p.value for p in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "[]")
        inner = [scope for scope in ast.literal_eval(scopes)[:-1] if scope]
        node.name = (inner[0] if inner[0] == "backbone" else inner[-1]) if inner else ""


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    constants = [node for node in graph.node if node.op_type == "Constant"]
    for node in constants:
        value = onnx.helper.get_attribute_value(node.attribute[0])
        value.name = node.output[0]
        graph.initializer.append(value)
        graph.node.remove(node)


def _fold_padding(graph: onnx.GraphProto) -> None:
    """Zero padding of height and width in front of a convolution becomes its ``pads``."""
    arrays = {w.name: onnx.numpy_helper.to_array(w) for w in graph.initializer}
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        users = [node for node in graph.node if pad.output[0] in node.input]
        amounts = arrays[pad.input[1]].tolist()  # all axes' begins, then all ends
        value = arrays[pad.input[2]].item() if len(pad.input) > 2 and pad.input[2] else 0
        if [u.op_type for u in users] != ["Conv"] or value or any(amounts[:2] + amounts[4:6]):
            continue
        (pads,) = (a for a in users[0].attribute if a.name == "pads")
        extra = amounts[2:4] + amounts[6:8]
        pads.ints[:] = [a + b for a, b in zip(pads.ints, extra)]
        users[0].input[0] = pad.input[0]
        graph.node.remove(pad)


def _fix_reshapes(model: onnx.ModelProto) -> None:
    """Shapes that torch computes from the batch size become constants with -1 for the batch."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value if d.HasField("dim_value") else -1 for d in v.type.tensor_type.shape.dim]
        for v in [*inferred.value_info, *inferred.output]
    }
    constants = {w.name for w in model.graph.initializer}
    for index, node in enumerate(model.graph.node):
        if node.op_type == "Reshape" and node.input[1] not in constants:
            shape = np.array(shapes[node.output[0]], np.int64)
            name = f"shape_{index}"
            model.graph.initializer.append(onnx.numpy_helper.from_array(shape, name))
            node.input[1] = name
    _drop_unused_nodes(model.graph)


def _drop_unused_nodes(graph: onnx.GraphProto) -> None:
    while True:
        used = {name for node in graph.node for name in node.input} | {v.name for v in graph.output}
        dead = [node for node in graph.node if not used & set(node.output)]
        if not dead:
            return
        for node in dead:
            graph.node.remove(node)


def _share_weights(graph: onnx.GraphProto) -> None:
    """Equal tensors are stored once."""
    first: Dict[Tuple[int, Tuple[int, ...], bytes], str] = {}
    same: Dict[str, str] = {}
    for weight in list(graph.initializer):
        array = onnx.numpy_helper.to_array(weight)
        key = (weight.data_type, tuple(weight.dims), array.tobytes())
        if key in first:
            same[weight.name] = first[key]
            graph.initializer.remove(weight)
        else:
            first[key] = weight.name
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]


def check(model: onnx.ModelProto) -> None:
    """onnx.checker with shape inference; ModelError if it objects."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"exported graph is invalid: {str(error).splitlines()[0]}") from None


def describe(model: onnx.ModelProto, info: ModelInfo) -> None:
    """Put the description into the model's metadata."""
    onnx.helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    model.producer_name = "ssn-export"
