"""Small graphs that NVIDIA's parser refuses or takes, and that the linter should judge alike."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, BYTE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
IMAGE = ["N", 4, 8, 8]


def graph(nodes=None, inputs=None, outputs=None, weights=(), opset=17, domain=""):
    nodes = nodes or [helper.make_node("Cast", ["image"], ["y"], "cast", to=FLOAT)]
    inputs = inputs or [("image", BYTE, ["N", 4, 6, 3])]
    outputs = outputs or [("y", FLOAT, ["N", 4, 6, 3])]
    made = [[helper.make_tensor_value_info(*v) for v in values] for values in (inputs, outputs)]
    imports = [helper.make_opsetid("", opset)]
    if domain:
        imports.append(helper.make_opsetid(domain, 1))
    return helper.make_model(
        helper.make_graph(nodes, "g", *made, [numpy_helper.from_array(a, n) for n, a in weights]),
        opset_imports=imports, ir_version=8,
    )


def cast(source, target, kind, name):
    return helper.make_node("Cast", [source], [target], name, to=kind)


def values(*shape, dtype=np.float32):
    """Numbers that differ, none of them 0."""
    return (np.arange(1, 1 + np.prod(shape)).reshape(shape) / 16).astype(dtype)


def node(operator, weights, shape=IMAGE, made=IMAGE, kind=FLOAT, out=None, first=False, **attributes):
    """One node ``n`` of the input ``x`` and ``weights``, which come first or behind it."""
    names = list(weights)
    inputs = [*names, "x"] if first else ["x", *names]
    return graph(
        [helper.make_node(operator, inputs, ["y"], "n", **attributes)], [("x", kind, shape)],
        [("y", kind if out is None else out, made)], [(n, np.asarray(a)) for n, a in weights.items()],
    )


def quantised(scale, zero=None, axis=1, back=None, separate=False, computed=False):
    """``x`` through QuantizeLinear ``q`` and DequantizeLinear ``d``, of the scale ``back`` where one is
    given, or an equal one of its own (``separate``); ``computed``: by a node ``r``."""
    scale = np.asarray(scale, np.float32)
    zero = np.zeros(scale.shape, np.int8) if zero is None else np.asarray(zero)
    weights = [("s", scale), ("z", zero)]
    if separate or back is not None:
        weights.append(("t", scale if back is None else np.float32(back)))
    first, second = "s", weights[-1][0] if len(weights) == 3 else "s"
    before = []
    if computed:
        before, first, second = [helper.make_node("Relu", ["s"], ["r"], "r")], "r", "r"
    return graph(
        [*before, helper.make_node("QuantizeLinear", ["x", first, "z"], ["i"], "q", axis=axis),
         helper.make_node("DequantizeLinear", ["i", second, "z"], ["y"], "d", axis=axis)],
        [("x", FLOAT, IMAGE)], [("y", FLOAT, IMAGE)], weights,
    )


def quantised_weight(scales, kernel=(4, 4, 1, 1), axis=0):
    """A convolution ``n`` whose int8 weight is dequantised by ``d``."""
    return graph(
        [helper.make_node("DequantizeLinear", ["w", "s"], ["v"], "d", axis=axis),
         helper.make_node("Conv", ["x", "v"], ["y"], "n")],
        [("x", FLOAT, IMAGE)], [("y", FLOAT, IMAGE)],
        [("w", np.ones(kernel, np.int8)), ("s", np.asarray(scales, np.float32))],
    )


def two_convolutions(shared):
    """Both quantised alike: the scales of inputs and weights equal, as one tensor or as two."""
    nodes, weights = [], {"z": np.int8(0)}
    for n, (source, made) in enumerate([("x", "m"), ("m", "y")]):
        scale, scales = (name if shared else f"{name}{n}" for name in ("s", "t"))
        nodes += [
            helper.make_node("QuantizeLinear", [source, scale, "z"], [f"i{n}"], f"q{n}"),
            helper.make_node("DequantizeLinear", [f"i{n}", scale, "z"], [f"f{n}"], f"d{n}"),
            helper.make_node("DequantizeLinear", [f"w{n}", scales], [f"v{n}"], f"k{n}", axis=0),
            helper.make_node("Conv", [f"f{n}", f"v{n}"], [made], f"n{n}"),
        ]
        weights[f"w{n}"] = np.full((4, 4, 1, 1), n + 1, np.int8)
        weights[scale], weights[scales] = np.float32(0.5), values(4)
    return graph(nodes, [("x", FLOAT, IMAGE)], [("y", FLOAT, IMAGE)], list(weights.items()))


def mixed(operator, kind, first=False):
    """The operator on ``x`` of one float type and a constant of the other."""
    wrong = np.float32 if kind == HALF else np.float16
    shape, made, weight, attributes = IMAGE, IMAGE, values(1, 4, 1, 1, dtype=wrong), {}
    if operator == "MatMul":
        weight = values(8, 8, dtype=wrong)
    elif operator == "Gemm":
        shape, made, weight = ["N", 8], ["N", 4], values(8, 4, dtype=wrong)
    elif operator == "Concat":
        shape, made, weight, attributes = [1, 4], [1, 8], values(1, 4, dtype=wrong), {"axis": 1}
    out = TensorProto.BOOL if operator == "Less" else kind
    return node(operator, {"w": weight}, shape, made, kind, out, first, **attributes)


def reshaped(target, made, shape=IMAGE):
    return node("Reshape", {"s": np.array(target, np.int64)}, shape, made)


HALF_WEIGHT = values(4, 4, 1, 1, dtype=np.float16)
WEIGHT, BIAS = values(4, 4, 1, 1), values(4)
ONE_TYPE = ["Add", "Sub", "Mul", "Div", "Max", "Less", "MatMul", "Gemm", "Concat"]

REFUSED = {  # what it is -> (the graph, what the linter says of it)
    "half convolution, float32 weight": (
        node("Conv", {"w": WEIGHT}, kind=HALF),
        "node n: Conv takes operands of one type, these are x float16, w float32",
    ),
    "float32 convolution, half weight": (node("Conv", {"w": HALF_WEIGHT}), "x float32, w float16"),
    "half convolution, float32 bias": (
        node("Conv", {"w": HALF_WEIGHT, "b": BIAS}, kind=HALF), "x float16, w float16, b float32",
    ),
    **{
        f"{operator} of both float types, {word} input {'last' if first else 'first'}": (
            mixed(operator, kind, first), f"node n: {operator} takes operands of one type",
        )
        for operator in ONE_TYPE for kind, word in ((FLOAT, "float32"), (HALF, "half"))
        for first in {False, operator != "Gemm"}
    },
    "weight for 3 channels of 4": (
        node("Conv", {"w": values(4, 3, 1, 1)}),
        "node n: weight w [4, 3, 1, 1] in 1 groups does not fit the 4 channels of x",
    ),
    "weight for 4 channels of 2 a group": (node("Conv", {"w": WEIGHT}, group=2), "node n: weight w"),
    "three groups of 4 channels": (
        node("Conv", {"w": values(3, 1, 1, 1)}, made=["N", 3, 8, 8], group=3), "in 3 groups does not fit",
    ),
    "two groups of 3 outputs": (
        node("Conv", {"w": values(3, 2, 1, 1)}, made=["N", 3, 8, 8], group=2), "node n: weight w",
    ),
    "dequantised weight for 3 channels of 4": (
        quantised_weight(values(4), kernel=(4, 3, 1, 1)), "node n: weight v [4, 3, 1, 1]",
    ),
    "bias for 3 outputs of 4": (
        node("Conv", {"w": WEIGHT, "b": values(3)}), "node n: bias b [3] must be [4]",
    ),
    "bias of two dimensions": (
        node("Conv", {"w": WEIGHT, "b": values(4, 1)}), "node n: bias b [4, 1] must be [4]",
    ),
    "scale 0": (quantised(0), "node q: its scale s must be finite and above 0, not 0.0"),
    "scale 0 of the way back": (quantised(0.5, back=0), "node d: its scale t must be finite and above 0"),
    "scale below 0": (quantised(-0.5), "node q: its scale s must be finite and above 0, not -0.5"),
    "scale no number": (quantised(np.nan), "node q: its scale s must be finite and above 0, not nan"),
    "one scale of four 0": (quantised([1, 2, 0, 4]), "node q: its scale s must be finite and above 0"),
    "one scale of a weight's four 0": (
        quantised_weight([1, 2, 0, 4]), "node d: its scale s must be finite and above 0, not 0.0",
    ),
    "three scales for four channels": (
        quantised_weight([1, 2, 3]), "node d: scales s [3] for 4 channels on axis 0",
    ),
    "scales on no axis": (
        quantised_weight([1, 2, 3, 4], axis=9), "node d: scales s [4] for None channels on axis 9",
    ),
    "scales on the free batch": (
        quantised([1, 2, 3, 4], axis=0), "node q: scales s [4] for -1 channels on axis 0",
    ),
    "scales of two dimensions": (quantised(values(4, 1)), "node q: scales s [4, 1] for 4 channels"),
    "three zero points for four scales": (
        quantised([1, 2, 3, 4], np.zeros(3, np.int8)), "node q: scales s [4] for 4 channels",
    ),
    "int32 bias dequantised": (
        graph([helper.make_node("DequantizeLinear", ["b", "s"], ["c"], "d"),
               helper.make_node("Add", ["x", "c"], ["y"], "n")], [("x", FLOAT, IMAGE)], [("y", FLOAT, IMAGE)],
              [("b", np.arange(8, dtype=np.int32)), ("s", np.float32(0.5))]),
        "node d: b is int32; only int8 is dequantised",
    ),
    "int16 inside": (
        graph([cast("x", "m", TensorProto.INT16, "c"), cast("m", "y", FLOAT, "n")], [("x", FLOAT, IMAGE)],
              [("y", FLOAT, IMAGE)]),
        "node c: tensor m is int16",
    ),
    "uint16 frames": (
        graph([cast("x", "y", FLOAT, "c")], [("x", TensorProto.UINT16, IMAGE)], [("y", FLOAT, IMAGE)]),
        "node c: tensor x is uint16",
    ),
    "reshape of a batch of two": (
        reshaped([2, 4, 64], [2, 4, 64]), "node n: shape [2, 4, 64] does not hold x [-1, 4, 8, 8]",
    ),
    "reshape of a batch of one": (reshaped([1, 4, 64], [1, 4, 64]), "node n: shape [1, 4, 64]"),
    "reshape to more channels": (reshaped([-1, 8, 8, 8], ["M", 8, 8, 8]), "node n: shape [-1, 8, 8, 8]"),
    "reshape to other channels": (reshaped([-1, 5, 8, 8], ["M", 5, 8, 8]), "node n: shape [-1, 5, 8, 8]"),
    "reshape to a wider row": (reshaped([0, 4, 65], ["N", 4, 65]), "node n: shape [0, 4, 65]"),
    "reshape of a fixed size": (
        reshaped([1, 4, 9], [1, 4, 9], shape=[1, 4, 8]), "node n: shape [1, 4, 9] does not hold x [1, 4, 8]",
    ),
}

STRICTER = {  # NVIDIA's parser takes it, and why the linter does not
    "scale without end, of which NaN come": (
        quantised(np.inf), "node q: its scale s must be finite and above 0, not inf",
    ),
    "computed scale, which may be 0": (
        quantised(0.5, computed=True), "node q: its scale r must be a constant",
    ),
    "unsigned zero point, which the parser takes for a signed one": (
        quantised(0.5, np.uint8(0)), "must be symmetric int8",
    ),
    "bfloat16, which older releases have not": (
        graph([cast("x", "m", TensorProto.BFLOAT16, "c"), cast("m", "y", FLOAT, "n")], [("x", FLOAT, IMAGE)],
              [("y", FLOAT, IMAGE)]),
        "node c: tensor m is bfloat16",
    ),
}

TAKEN = {
    "half convolution with bias": node("Conv", {"w": HALF_WEIGHT, "b": BIAS.astype(np.float16)}, kind=HALF),
    "depthwise convolution": node("Conv", {"w": values(4, 1, 1, 1)}, group=4),
    "convolution in two groups": node("Conv", {"w": values(4, 2, 1, 1), "b": BIAS}, group=2),
    "one scale": quantised(0.5),
    "a scale as a list of one": quantised([0.5]),
    "a scale for each channel": quantised(values(4)),
    "scales from the end": quantised(values(4), axis=-3),
    "a weight's scales": quantised_weight(values(4)),
    "equal scales, stored for each node": quantised(0.5, separate=True),
    "equal lists of scales, stored for each node": quantised(values(4), separate=True),
    "two convolutions of equal scales": two_convolutions(shared=False),
    "two convolutions of the same scales": two_convolutions(shared=True),
    "reshape that keeps the batch": reshaped([0, 4, 64], ["N", 4, 64]),
    "reshape with what is left": reshaped([-1, 256], ["N", 256]),
    "reshape of channels into the batch": reshaped([-1, 8, 8], ["M", 8, 8]),
    "reshape of both": reshaped([0, -1], ["N", 256]),
}
