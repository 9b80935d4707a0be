"""A graph that TensorRT for RTX builds for Turing (SM75), which has no float32 matrix product there.

"FP32 GEMM is not supported", says 1.7, and names the first MatMul. Convolutions are: a product with a
constant is a 1x1 one over the axis that it sums. Neither TensorRT nor torch is needed here.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ssn_edge.errors import ModelError


def for_turing(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose float32 MatMuls are convolutions of the same names; half ones stay, as Turing has them.

    Each sums the same products: results differ by the order of float32 additions alone. Raises ModelError,
    naming the node, where a float32 product has no constant matrix, or is a Gemm, which no plan has.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:]
    writer = _Writer(graph, result.graph)
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm") and writer.is_float32(node):
            writer.convolve(node)
        else:
            result.graph.node.append(node)
    used = {name for node in result.graph.node for name in node.input}
    result.graph.initializer.extend(weight for weight in writer.weights if weight.name in used)
    return result


class _Writer:
    """Appends to ``target`` what stands for the products of ``graph``, whose shapes are inferred."""

    def __init__(self, graph: onnx.GraphProto, target: onnx.GraphProto):
        values = [*graph.value_info, *graph.input, *graph.output]
        self.weights: List[TensorProto] = list(graph.initializer)
        self._nodes = target.node
        self._constants = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
        self._stored = {_content(array): name for name, array in self._constants.items()}
        self._others = {v.name for v in values if v.type.tensor_type.elem_type != TensorProto.FLOAT}
        self._dims: Dict[str, List[int]] = {
            v.name: [dim.dim_value for dim in v.type.tensor_type.shape.dim] for v in values
        }

    def is_float32(self, node: onnx.NodeProto) -> bool:
        return node.output[0] not in self._others

    def convolve(self, node: onnx.NodeProto) -> None:
        """``node`` as Transpose, Conv, Transpose: the summed axis goes where a convolution has channels."""
        left = node.input[0] in self._constants
        values, weight = node.input[1::-1] if left else node.input[:2]
        dims, matrix = self._dims.get(values, []), self._constants.get(weight, np.zeros(()))
        taps = matrix.ndim == 3 and not left and len(dims) == 4 and dims[1] == 1  # one matrix each: [t, k, n]
        fits = (3 if left else 2) <= len(dims) <= 4 and (matrix.ndim == 2 or taps)
        if node.op_type != "MatMul" or not fits:
            raise ModelError(
                f"node {node.name}: Turing (SM75) has no float32 {node.op_type}, and this one is no product "
                "with a constant matrix; build the half graph: --precision float16"
            )
        axis = len(dims) - (2 if left else 1)
        if not left:
            matrix = np.swapaxes(matrix, -1, -2).reshape(-1, matrix.shape[-2])  # [n, k] or [t n, k]
        if len(dims) == 2:  # [N, k]
            axes = self._constant(np.array([2], np.int64), f"{node.name}/axes")
            inner = self._add("Unsqueeze", [values, axes], f"{node.name}/column")
            summed = self._convolution(node, inner, matrix, 1, f"{node.name}/summed")
            self._add("Squeeze", [summed, axes], f"{node.name}/row", node.output[0])
            return
        order = [0, axis, *(other for other in range(1, len(dims)) if other != axis)]
        back = np.argsort(order).tolist()
        if order == sorted(order):
            self._convolution(node, values, matrix, len(dims) - 2, node.output[0])
            return
        inner = self._add("Transpose", [values], f"{node.name}/channels", perm=order)
        summed = self._convolution(node, inner, matrix, len(dims) - 2, f"{node.name}/summed")  # [N, n, ...]
        if taps:  # [N, t n, 1, p] -> [N, t, n, p]
            shape = np.array([-1, *self._constants[weight].shape[::2], dims[2]], np.int64)
            shaped = self._constant(shape, f"{node.name}/shape")
            summed, back = self._add("Reshape", [summed, shaped], f"{node.name}/taps"), [0, 1, 3, 2]
        self._add("Transpose", [summed], f"{node.name}/places", node.output[0], perm=back)

    def _convolution(
        self, node: onnx.NodeProto, values: str, matrix: np.ndarray, spatial: int, output: str
    ) -> str:
        kernel = self._constant(matrix.reshape(*matrix.shape, *[1] * spatial), f"{node.name}/weight")
        self._nodes.append(helper.make_node("Conv", [values, kernel], [output], node.name))
        return output

    def _add(self, operator: str, inputs: List[str], name: str, output: str = "", **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output or name], name, **attributes))
        return output or name

    def _constant(self, array: np.ndarray, name: str) -> str:
        """Its name; an equal one serves, since no tensor is stored twice."""
        key = _content(array)
        if key not in self._stored:
            self._stored[key] = name
            self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return self._stored[key]


def _content(array: np.ndarray) -> Tuple[str, Tuple[int, ...], bytes]:
    return str(array.dtype), array.shape, array.tobytes()
