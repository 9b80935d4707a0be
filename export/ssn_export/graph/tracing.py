"""A PyTorch module as a checked ONNX file that carries its own description."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import sys
import warnings
from typing import Iterator, Sequence, Tuple

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir
import torch
from onnx_ir.passes import common
from torch import Tensor, nn

OPSET = 17
"""The newest that TensorRT 8.5 and 8.6 read."""

OUTPUTS = ("anomaly_map", "score")

TRACED_OPSET = 18
"""The oldest that torch writes."""


def trace(module: nn.Module, size_hw: Tuple[int, int]) -> onnx.ModelProto:
    """The module's graph in float32: ``image`` -> ``anomaly_map``, ``score``, batch axis ``N``.

    See :func:`trace_module`.
    """
    example = torch.zeros(2, *size_hw, 3, dtype=torch.uint8)
    return trace_module(module, (example,), ("image",), OUTPUTS)


def trace_module(
    module: nn.Module, examples: Tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """A module's float32 graph; every example's first axis is the free batch axis ``N``.

    Opset 18 is traced and converted here: asked for 17, torch converts before it simplifies, which onnx's
    converter cannot do for padding nor for axes that are computed, and writes 18 without a word.
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
    model = onnx.version_converter.convert_version(model, OPSET)
    for node in model.graph.node:  # an attribute of opset 18 that the converter leaves behind
        stale = [a for a in node.attribute if a.name == "noop_with_empty_axes"]
        for attribute in stale:
            node.attribute.remove(attribute)
    _fix_reshapes(model)
    return _cleaned(model)


def _cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nothing unused, equal tensors stored once, no shapes or notes, node names that are unique
    (``heads.score/MatMul_46``)."""
    cleaned = onnx_ir.from_proto(model)
    clean_up = onnx_ir.passes.Sequential(
        common.RemoveUnusedNodesPass(), common.RemoveUnusedFunctionsPass(),
        common.DeduplicateInitializersPass(size_limit=sys.maxsize), common.ClearMetadataAndDocStringPass(),
    )
    model = onnx_ir.to_proto(clean_up(cleaned).model)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.name}/{node.op_type}_{index}" if node.name else f"{node.op_type}_{index}"
    del model.graph.value_info[:]
    return model


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


def _name_by_module(graph: onnx.GraphProto) -> None:
    """Nodes bear the module they belong to, ``backbone`` or ``heads...``, so that the layer reports
    of inference libraries can be read; nothing for the outermost."""
    for node in graph.node:
        scopes = {p.key: p.value for p in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "[]")
        inner = [scope for scope in ast.literal_eval(scopes)[:-1] if scope]
        node.name = (inner[0] if inner[0] == "backbone" else inner[-1]) if inner else ""


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
