"""Folding, counting and emulation against torch's own functions and closed forms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from random_model import photos, random_model
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.flop_counter import FlopCounterMode

from ssn_bench.measure import macs
from ssn_export.graph import float64_reference, folding, half_precision, tracing
from ssn_export.graph.deployed import Deployed
from ssn_train.network import operators


@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_is_torchs(bias):
    generator = torch.Generator().manual_seed(0)
    weight, b, gamma, beta, mean, var = (
        torch.rand(*shape, generator=generator, dtype=torch.float64)
        for shape in ((5, 3, 2, 2), *[(5,)] * 5)
    )
    b = b if bias else None
    theirs = fuse_conv_bn_weights(weight, b, mean, var, 1e-3, gamma, beta)
    arrays = [None if v is None else v.numpy() for v in (weight, b, gamma, beta, mean, var)]
    for ours, value in zip(folding.batch_norm(*arrays, 1e-3), theirs):
        np.testing.assert_allclose(ours, value.detach(), rtol=1e-13)


def test_operators_are_torchs():
    """Upscaling, pooling and the taps' shifts on a random plane."""
    plane = torch.randn(1, 1, 7, 10, dtype=torch.float64)
    up = F.interpolate(plane, (14, 21), mode="bilinear", align_corners=True)
    pooled = F.avg_pool2d(up, 3, 1, 1)[0, 0].numpy()
    u_h, u_w = operators.pooled_upscale(7, 14), operators.pooled_upscale(10, 21)
    np.testing.assert_allclose(u_h @ plane[0, 0].numpy() @ u_w.T, pooled, atol=1e-13)
    kernel = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    convolved = F.conv2d(torch.from_numpy(pooled)[None, None], kernel, padding=2)[0, 0]
    rows, columns = operators.shifted(u_h), operators.shifted(u_w)
    low, k = plane[0, 0].numpy(), kernel[0, 0].numpy()
    ours = sum(k[i, j] * rows[i] @ low @ columns[j].T for i in range(5) for j in range(5))
    np.testing.assert_allclose(ours, convolved, atol=1e-12)


def test_constants_lose_at_the_border_what_padding_takes():
    model, _ = random_model("resnet18", (64, 80))
    from ssn_export.graph.head_plans import feature_sizes, trained

    weights, sizes = trained(model)[0], feature_sizes(model)
    size = tuple(2 * n for n in sizes[0])
    ours = folding.constant_map(weights, folding.levels(weights), sizes)
    level_constants = [
        level.offset[:, None, None] * np.ones((1, *hw))
        for level, hw in zip(folding.levels(weights), sizes)
    ]
    raw = [torch.from_numpy(c * 1.0)[None] for c in level_constants]
    pooled = model.double().pool(torch.cat(
        [F.interpolate(x * s[:, None, None], size, mode="bilinear", align_corners=True)
         for x, s in zip(raw, model.feature_scale.split(model.channels))], dim=1))
    adapted = model.feature_adaptor(pooled).detach()
    taps = torch.from_numpy(weights.taps.transpose(2, 3, 0, 1).copy())
    expected = F.conv2d(adapted, taps, torch.from_numpy(weights.cls_bias), padding=2)[0]
    np.testing.assert_allclose(ours.transpose(2, 0, 1), expected, atol=1e-11)
    assert not np.allclose(ours[0, 0], ours[5, 5])


def test_macs_are_torchs():
    """Plan none counted from the graph, against torch's counter over the trained model."""
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


def test_emulated_half_rounds_what_is_stored():
    """Two layers by hand: float32 products of half values, rounded to half behind each node."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 6)).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "a"], ["y"], "first"),
        helper.make_node("MatMul", ["y", "b"], ["anomaly_map"], "second"),
        helper.make_node("ReduceMean", ["anomaly_map"], ["score"], "mean", axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "two", [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 5, 6])],
        [helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", 5, 4]),
         helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(a, "a"), numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    images = rng.integers(0, 256, (2, 5, 6), dtype=np.uint8)
    found, _ = float64_reference.run_onnx(half_precision.emulated(half_precision.to_half(model)), images)

    def rounded(x):
        return x.astype(np.float16).astype(np.float32)

    expected = rounded(rounded(images.astype(np.float32) @ rounded(a)) @ rounded(b))
    np.testing.assert_allclose(found, expected, rtol=2**-10)  # one unit where sums round apart
    assert np.mean(found == expected) > 0.9
    exact = images.astype(np.float64) @ a @ b
    assert np.abs(found - exact).max() > 10 * np.abs(found - expected).max()


def test_a_backbone_without_a_first_convolution_keeps_its_pixels_exact():
    from dataclasses import replace

    from ssn_export.graph.backbone_folding import deployable

    model, backbone = random_model("resnet18", (48, 48))
    odd = nn.Sequential(nn.AvgPool2d(1), model.backbone)
    module, mean = deployable(odd, replace(backbone, module=odd), (48, 48))
    bgr = torch.from_numpy(photos(1, (48, 48))).double()
    rgb = (bgr.flip(-1) / 255 - torch.tensor(backbone.mean)) / torch.tensor(backbone.std)
    with torch.no_grad():
        theirs = model.backbone.double()(rgb.permute(0, 3, 1, 2))
        ours = module((bgr - torch.from_numpy(mean)).permute(0, 3, 1, 2))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)  # mean and std are float32 above
