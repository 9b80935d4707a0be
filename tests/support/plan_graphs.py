"""Graphs of every plan, of a model with three levels and a 3 x 3 classification kernel."""

import functools

from random_model import LEAN, random_model

from ssn_export.graph import half_precision, tracing
from ssn_export.graph.deployed import PLANS, Deployed

SIZE = (64, 96)
PRECISIONS = ["float32", "half", "products in float32"]
EVERY = [(plan, precision) for plan in PLANS for precision in PRECISIONS]


@functools.lru_cache(maxsize=None)
def plan_graph(plan, precision="float32"):
    """The traced graph; not to be changed."""
    if precision == "float32":
        name, shape = LEAN[2]
        model, backbone = random_model(name, SIZE, shape)
        return tracing.trace(Deployed(model, backbone, plan), SIZE)
    graph = plan_graph(plan)
    products = frozenset(node.name for node in graph.graph.node if node.op_type == "MatMul")
    return half_precision.to_half(graph, frozenset() if precision == "half" else products)
