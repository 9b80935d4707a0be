"""Multiply-accumulates, against torch's counter and in closed form."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ssn_export.work import macs


def test_macs_are_torchs():
    """Plan none counted from the graph, against torch's counter over the trained model."""
    torch = pytest.importorskip("torch", reason="torch counts here")
    from random_model import random_model
    from torch.utils.flop_counter import FlopCounterMode

    from ssn_export.graph import tracing
    from ssn_export.graph.deployed import Deployed

    size = (64, 96)
    model, backbone = random_model("resnet18", size)
    graph = tracing.trace(Deployed(model, backbone), size)
    counted = macs.count(graph)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.discriminator(*model.head_inputs(model.features(torch.zeros(1, 3, *size))))
    theirs = counter.get_total_flops() // 2
    spatial = sum(v for k, v in counted.items() if "MatMul" in k)  # theirs interpolates
    linear = 258  # the last layer is a MatMul here
    assert sum(counted.values()) - spatial + linear == theirs
    assert macs.count(graph, batch=3) == {k: 3 * v for k, v in counted.items()}


def test_macs_of_products_in_closed_form():
    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    weights = [numpy_helper.from_array(np.zeros(shape, np.float32), name)
               for name, shape in (("w", (7, 5)), ("g", (9, 7)))]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
        helper.make_node("Flatten", ["y"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "g"], ["z"], "gemm", transB=0),
    ]
    weights[1] = numpy_helper.from_array(np.zeros((15, 2), np.float32), "g")
    graph = helper.make_graph(nodes, "g", [value("x", ["N", 3, 7])], [value("z", ["N", 2])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert macs.count(model, batch=4) == {"product": 4 * 3 * 5 * 7, "gemm": 4 * 2 * 15}
