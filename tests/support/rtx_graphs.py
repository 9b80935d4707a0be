"""Graphs of every kind that ssn-export writes, with random weights, for NVIDIA's compiler to judge."""

import functools
import itertools
from dataclasses import dataclass

from random_model import random_model

from ssn_edge.model.schema import Verdict
from ssn_export.bundles import baking
from ssn_export.graph import half_precision, tracing
from ssn_export.graph.deployed import PLANS, Deployed, GraphOptions
from ssn_train.network.design import PAPER, Design
from ssn_train.options.defaults import LEAN

SIZE, CAMERA = (256, 256), (1080, 1920)
VERDICT = Verdict("either", 0.5, 2.0, "made up", 1, 2.5)
PRECISIONS, BATCHES = ("float32", "float16"), (1, 16)

KEPT = {"efficientnet_lite0": 6, "resnet18": 3}
"""How many of the backbone's first nodes, and of the heads' last ones, stay in float32 in a half graph: plans
name theirs differently. Beside half_precision.FLOAT_OPS."""

WIDE_KEPT = frozenset([
    "backbone/Conv_3", "backbone/Relu_4", "backbone/MaxPool_5", "backbone/Conv_6", "backbone/Relu_7",
    "heads.score/Mul_148", "heads.score/Add_149", "heads.score/Mul_151", "heads.score/Add_152",
    "heads.score/Add_153",
])
"""The same of wide_resnet50_2's plan full, by name."""


@dataclass(frozen=True)
class Case:
    """A graph, and the largest batch of its profile."""

    plan: str
    precision: str
    frame: bool
    verdict: bool
    batch: int
    backbone: str = "efficientnet_lite0"
    design: str = "paper"

    @property
    def name(self):
        parts = [self.backbone, self.design, self.plan, self.precision, f"1..{self.batch}"]
        return "-".join([*parts, *(["frame"] if self.frame else []), *(["verdict"] if self.verdict else [])])

    def graph(self):
        model = _traced(self.backbone, self.design, self.plan, self.frame)
        if self.precision == "float16":
            model = half_precision.to_half(model, float32_nodes(model, self.backbone))
        return baking.with_thresholds(model, VERDICT) if self.verdict else model


def everything(backbone="efficientnet_lite0"):
    """All combinations."""
    return [
        Case(*row, backbone)
        for row in itertools.product(PLANS, PRECISIONS, (False, True), (False, True), BATCHES)
    ]


def pairwise():
    """As few of them as have every pair of values of two of the five settings somewhere; greedily."""
    left = {pair for case in everything() for pair in _pairs(case)}
    chosen = []
    while left:
        best = max(everything(), key=lambda case: len(left & _pairs(case)))
        chosen.append(best)
        left -= _pairs(best)
    return chosen


def _pairs(case):
    values = list(enumerate((case.plan, case.precision, case.frame, case.verdict, case.batch)))
    return set(itertools.combinations(values, 2))


def others():
    """The default's design, and the other backbones."""
    return [
        *(Case(plan, precision, False, False, 1, design="default")
          for plan in ("full", "gather") for precision in PRECISIONS),
        Case("gather", "float32", False, False, 16, "wide_resnet50_2"),
        *(Case("full", precision, False, False, 1, name)
          for name in ("resnet18", "wide_resnet50_2") for precision in PRECISIONS),
    ]


def float32_nodes(model, backbone):
    names = [node.name for node in model.graph.node]
    if backbone == "wide_resnet50_2":
        assert WIDE_KEPT <= set(names), sorted(WIDE_KEPT - set(names))
        return WIDE_KEPT
    count = KEPT[backbone]
    return frozenset([
        *[name for name in names if name.startswith("backbone/")][:count],
        *[name for name in names if name.startswith("heads")][-count:],
    ])


@functools.lru_cache(maxsize=4)
def _traced(backbone, design, plan, frame):
    model, network = _model(backbone, design)
    options = GraphOptions(CAMERA if frame else None)
    return tracing.trace(Deployed(model, network, plan, options=options), CAMERA if frame else SIZE)


@functools.lru_cache(maxsize=1)
def _model(backbone, design):
    lean = LEAN.get(backbone, {})
    shape = PAPER if design == "paper" else Design(
        lean["levels"], scale=lean["scale"], seg_width=lean["seg_width"], cls_width=0, adaptor=lean["adaptor"]
    )
    return random_model(backbone, SIZE, shape)
