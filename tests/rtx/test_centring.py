"""Without a classification head a level's centring was a kernel of its own: the backbone's biases have it."""

from random_model import LEAN, random_model

from ssn_export.graph import tracing
from ssn_export.graph.deployed import Deployed
from ssn_export.graph.half_precision import to_half
from ssn_export.half import centring
from ssn_export.tensorrt import compiled, engine_layers

SIZE = (96, 128)


def alone(model):
    """All kernels, and those that compute nothing but a subtraction of the heads."""
    layers = compiled.compiled(to_half(model).SerializeToString(), "centring").kernels
    kernels = engine_layers.read(layers, 1)
    return len(kernels), [k.name for k in kernels if k.nodes and all("/Sub_" in node for node in k.nodes)]


def test_the_centrings_kernels_are_gone():
    name, design = LEAN[0]
    model, backbone = random_model(name, SIZE, design)
    mean = [1.0] * sum(backbone.channels)
    graph = tracing.trace(Deployed(model, backbone, "gather", mean), SIZE)
    (count, before), (fewer, after) = alone(graph), alone(centring.centred(graph))
    assert before and after == []  # the last level's joins the sum in front of it
    assert fewer == count - len(before)
