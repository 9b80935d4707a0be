"""Graphs of one export by plan: traced once each, chosen for each target, put into half precision."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import onnx

from ssn_edge.errors import InputError, ModelError
from ssn_edge.model.schema import ModelInfo
from ssn_export.bundles import baking
from ssn_export.gates import parity
from ssn_export.graph import float64_reference, mixed_precision, tracing
from ssn_export.graph.camera_resize import FRONTS
from ssn_export.graph.deployed import CPU_PLANS, PLANS, Deployed, GraphOptions
from ssn_export.graph.half_precision import to_half
from ssn_export.targets import on_card, plan_timing, ranking, rooflines
from ssn_export.targets.ranking import Candidate
from ssn_export.targets.target import CPU, Target, words
from ssn_train.network.backbones import Backbone
from ssn_train.network.model import SuperSimpleNet
from ssn_train.training.checkpoint import Header

FRONT = next(iter(FRONTS))
"""How camera frames are resized while plans are compared."""

HALF_RATIO = 1.1
"""A plan's error in half against the naive graph's, all nodes in half, on the same images."""


@dataclass(frozen=True)
class ExportRequest:
    """What to make: ``plan`` a name of :data:`.deployed.PLANS` or ``auto``, chosen for each of ``targets``,
    for the CPU by timing on ``backend``; ``frame`` (height, width) takes camera frames."""

    fp16: bool = False
    data: Optional[Path] = None
    plan: str = "auto"
    backend: str = "auto"
    frame: Optional[Tuple[int, int]] = None
    targets: Tuple[Target, ...] = (CPU,)

    def __post_init__(self) -> None:
        if self.frame and min(self.frame) < 2:
            raise InputError(f"--frame {self.frame[0]}x{self.frame[1]}: give the camera's HxW in pixels")
        if self.plan != "auto" and self.targets != (CPU,):
            raise InputError(
                f"--for {words(self.targets)}: chooses the plans, and --plan {self.plan} names one; give one "
                "of the two"
            )

    @property
    def precision(self) -> str:
        """Of a target's graph."""
        return "float16" if self.fp16 else "float32"


class Source(NamedTuple):
    """The trained model, and what its files say of it before they have a plan."""

    model: SuperSimpleNet
    backbone: Backbone
    header: Header
    truth: parity.Reference
    about: ModelInfo


class Chosen(NamedTuple):
    """A plan, how camera frames are resized in its graph, and the table that it was chosen by (empty where
    the plan was given)."""

    plan: str
    front: str
    table: Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """A graph to be judged and written: for ``target``, or where that is empty for any machine.
    ``float_nodes`` are those that compute in float32 in the half graph of its plan, if there is one;
    ``tables`` are of targets that take it too."""

    chosen: Chosen
    precision: str
    graph: onnx.ModelProto
    float_nodes: Optional[Tuple[str, ...]] = None
    target: str = ""
    tables: Mapping[str, Any] = field(default_factory=dict)

    def table(self) -> Dict[str, Any]:
        """What it was chosen by, those of targets that take it too under ``targets``."""
        return {**self.chosen.table, **({"targets": dict(self.tables)} if self.tables else {})}


class GraphBuilder:
    """All graphs of one export."""

    def __init__(self, source: Source, request: ExportRequest, log: Callable[[str], object]):
        self._source, self._request, self._log = source, request, log
        self._few = source.truth.spread(mixed_precision.MEASURED_IMAGES)
        self._graphs: Dict[Tuple[str, str], onnx.ModelProto] = {}
        self._errors: Dict[Tuple[str, str], float] = {}
        self._halves: Dict[Tuple[str, str], Made] = {}

    def made(self) -> List[Made]:
        """Those for any machine, which are the CPU's if it is a target and else the first one's; then those
        of the other targets, where another plan suits them."""
        main, *others = sorted(self._request.targets, key=lambda target: target != CPU)
        found = self._for_any(main)
        last, own = len(found) - 1, []
        for target in others:
            chosen, like = self._ranked(target), found[last]
            made = None
            if (chosen.plan, chosen.front) != (like.chosen.plan, like.chosen.front):
                chosen, made = self._own(target, chosen, like)
            if made is None:
                self._log(f"{target.name} takes the same {like.precision} graph, plan {like.chosen.plan}")
                tables = {**like.tables, target.name: chosen.table}
                found[last] = dataclasses.replace(like, tables=tables)
            else:
                self._log(f"{target.name} gets a {like.precision} graph of its own, plan {chosen.plan}")
                own.append(made)
        return [*found, *own]

    def graph(self, plan: str, front: str = FRONT) -> onnx.ModelProto:
        """The float32 graph of a plan, its module having passed the float64 gate."""
        if (plan, front) not in self._graphs:
            self._log(f"tracing plan {plan} ...")
            model, request = self._source.model, self._request
            options = GraphOptions(request.frame, front)
            module = Deployed(model, self._source.backbone, plan, self._source.header.feature_mean, options)
            float64_reference.gate_exact(module.double().eval(), self._source.truth.first(2))
            self._graphs[plan, front] = tracing.trace(module, request.frame or model.image_size)
        return self._graphs[plan, front]

    def _own(self, target: Target, chosen: Chosen, like: Made) -> Tuple[Chosen, Optional[Made]]:
        """The target's graph as it would be written; None where ``like``, which is written anyway, turns out
        better. Plans are ranked with every node in half, and those that stay in float32 cost one plan more
        than another."""
        made = self._mixed(chosen) if self._request.fp16 else self._plain(chosen)
        table = chosen.table
        if self._request.fp16 and target.name == "rtx" and "timed" not in table:
            ours, theirs = (
                ranking.bound_ms(rooflines.judge(target, one.graph, f"plan {one.chosen.plan}", "float16"))
                for one in (made, like)
            )
            self._log(
                f"{target.name}, with the nodes that stay in float32: plan {chosen.plan} {ours:.3f} ms at "
                f"least, plan {like.chosen.plan} {theirs:.3f}"
            )
            chosen = chosen._replace(table={**table, "as_written_ms": {"own": ours, "for any": theirs}})
            if theirs <= ours:
                return chosen, None
        return chosen, dataclasses.replace(made, chosen=chosen, target=target.name)

    def _for_any(self, target: Target) -> List[Made]:
        chosen = self._timed() if target == CPU else self._ranked(target)
        plain = self._plain(chosen)
        if not self._request.fp16:
            return [plain]
        half = self._mixed(self._fit_for_half(chosen) if target == CPU else chosen)
        if half.chosen.plan == chosen.plan:  # the names are of the half file's plan
            plain = dataclasses.replace(plain, float_nodes=half.float_nodes)
        return [plain, half]

    def _timed(self) -> Chosen:
        """The plan that was given, or the fastest on this machine's CPU."""
        table: Dict[str, Any] = {}
        plan, front, backend = self._request.plan, FRONT, self._request.backend
        if plan == "auto":
            table = plan_timing.compare({name: self.graph(name) for name in CPU_PLANS}, backend)
            plan = table["fastest"]
            self._log(plan_timing.lines("plan", table))
        if self._request.frame:
            table["frame"] = plan_timing.compare({one: self.graph(plan, one) for one in FRONTS}, backend)
            front = table["frame"]["fastest"]
            self._log(plan_timing.lines("frame resize", table["frame"]))
        return Chosen(plan, front, table)

    def _ranked(self, target: Target) -> Chosen:
        """The plan of the least bound on the target's cards, or the fastest on the one that is here."""
        plans, front = PLANS if target.name == "rtx" else CPU_PLANS, FRONT
        table = self._decided(target, "plan", {plan: (plan, FRONT) for plan in plans})
        if self._request.frame and target.name == "rtx":  # an estimate does not see what a resize moves
            resizes = {one: (table["fastest"], one) for one in FRONTS}
            table["frame"] = self._decided(target, "frame resize", resizes)
            front = table["frame"]["fastest"]
        return Chosen(table["fastest"], front, table)

    def _decided(self, target: Target, what: str, of: Mapping[str, Tuple[str, str]]) -> Dict[str, Any]:
        """The table of some graphs, by name, each of a plan with a resize."""
        table = ranking.rank(target, self._request.precision, self._candidates(target, what, of))
        why_not = on_card.why_not(target)
        if why_not is None:
            self._log(f"{target.name}: building an engine of each {what} and timing them ...")
            models = {name: self._described(*of[name]) for name in table["candidates"]}
            table = ranking.with_times(table, on_card.timed(models))
        for line in ranking.lines(table, what):
            self._log(line)
        if target.name == "rtx" and why_not is not None:
            self._log(f"{target.name}: not timed ({why_not.partition(' (')[0]})")
        return table

    def _candidates(
        self, target: Target, what: str, of: Mapping[str, Tuple[str, str]]
    ) -> Iterator[Candidate]:
        for number, (name, (plan, front)) in enumerate(of.items(), 1):
            self._log(f"{target.name}: {what} {number} of {len(of)}: {name} ...")
            if not self._request.fp16:
                yield Candidate(name, self.graph(plan, front))
                continue
            ratio = self._error(plan, front) / self._error("none", front)
            refused = f"in half {ratio:.2f} times plan none's error, limit {HALF_RATIO}"
            yield Candidate(
                name, to_half(self.graph(plan, front)), self._error(plan, front),
                refused if ratio > HALF_RATIO else "",
            )

    def _described(self, plan: str, front: str) -> onnx.ModelProto:
        """A copy that an engine can be built of, in the target's precision."""
        graph, copy = self.graph(plan, front), onnx.ModelProto()
        copy.CopyFrom(to_half(graph) if self._request.fp16 else graph)
        about = dataclasses.replace(self._source.about, precision=self._request.precision, plan=plan)
        baking.describe(copy, about)
        return copy

    def _error(self, plan: str, front: str) -> float:
        """The map's with every node in half."""
        if (plan, front) not in self._errors:
            graph, verdict = self.graph(plan, front), self._source.header.calibrated
            self._errors[plan, front] = mixed_precision.all_half_rms(graph, self._few, verdict)
        return self._errors[plan, front]

    def _plain(self, chosen: Chosen) -> Made:
        return Made(chosen, "float32", self.graph(chosen.plan, chosen.front))

    def _fit_for_half(self, chosen: Chosen) -> Chosen:
        """A plan that half precision suits worse than the naive one gives way to ``none`` if it was chosen
        here, and is refused if it was asked for."""
        if chosen.plan == "none":
            return chosen
        ours, naive = (self._error(plan, chosen.front) for plan in (chosen.plan, "none"))
        self._log(f"all in half: plan {chosen.plan} {ours:.1e} rms, plan none {naive:.1e}")
        if ours <= HALF_RATIO * naive:
            return chosen
        if self._request.plan != "auto":
            raise ModelError(
                f"float16 export refused: plan {chosen.plan} has {ours / naive:.2f} times the naive "
                f"graph's error, limit {HALF_RATIO}; use --plan none"
            )
        self._log("the FP16 file takes plan none")
        return chosen._replace(plan="none")

    def _mixed(self, chosen: Chosen) -> Made:
        """The typed half graph, with the names of its nodes in float32."""
        key = chosen.plan, chosen.front
        if key not in self._halves:
            self._log("choosing the nodes of the FP16 graph that stay in float32 ...")
            plain, header = self.graph(*key), self._source.header
            graph, kept = mixed_precision.mixed_half(plain, self._source.truth, header.calibrated)
            self._log(f"{len(kept)} of {len(plain.graph.node)} nodes stay in float32")
            nodes = mixed_precision.float_nodes(plain, kept)
            self._halves[key] = Made(chosen, "float16", graph, nodes)
        return dataclasses.replace(self._halves[key], chosen=chosen)
