"""How long a candidate's whole model takes on a frame: random weights, all candidates alternating."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, Sequence

import torch

from ssn_bench.pareto.candidates import Candidate
from ssn_edge.backends import installed
from ssn_export.graph import tracing
from ssn_export.graph.deployed import CPU_PLANS, Deployed
from ssn_export.targets import plan_timing
from ssn_train.network import backbones
from ssn_train.network.model import SuperSimpleNet

QUICK, ROUNDS = 7, 60


def measure(
    candidates: Sequence[Candidate], budget_s: float, log: Callable[[str], object]
) -> Dict[str, Dict[str, Any]]:
    """By back end and candidate: median and quartiles in ms of one run, and the plan that was fastest there.

    Candidates of the same graph are timed once. Methods without heads of ours have no graph and no time.
    """
    kinds: Dict[Any, Candidate] = {}
    for one in candidates:
        if not one.method:
            kinds.setdefault(_graph_of(one), one)
    found: Dict[str, Dict[str, Any]] = {}
    libraries = installed()
    runners: Dict[str, Dict[str, Callable[[], object]]] = {name: {} for name in libraries}
    plans: Dict[Any, str] = {}
    for kind, one in kinds.items():
        log(f"  {one.name}: which plan is fastest")
        graphs = {plan: _trace(one, plan) for plan in CPU_PLANS}
        for backend in libraries:
            calls = {plan: plan_timing.runner(graph, backend) for plan, graph in graphs.items()}
            quick = plan_timing.alternate(calls, rounds=QUICK)
            plans[backend, kind] = min(quick, key=lambda plan: quick[plan]["median_ms"])
            runners[backend][str(kind)] = calls[plans[backend, kind]]
    for backend in libraries:
        log(f"  {backend}: all of them in turn")
        times = plan_timing.alternate(runners[backend], rounds=ROUNDS, budget_s=budget_s)
        found[backend] = {
            one.name: {**times[str(_graph_of(one))], "plan": plans[backend, _graph_of(one)]}
            for one in candidates if not one.method
        }
    return found


def _graph_of(candidate: Candidate) -> Any:
    settings = candidate.settings()
    return settings.backbone, settings.size, dataclasses.astuple(candidate.design)


def _trace(candidate: Candidate, plan: str) -> Any:
    settings = candidate.settings()
    torch.manual_seed(0)
    backbone = backbones.create(settings.backbone, settings.levels)
    model = SuperSimpleNet(backbone.module, backbone.channels, settings.size, shape=candidate.design).eval()
    return tracing.trace(Deployed(model, backbone, plan), settings.size)
