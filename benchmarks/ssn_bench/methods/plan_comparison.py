"""Every plan of the fusion against the graph as trained, alternating in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import click
import numpy as np
import torch
from torch import nn

from ssn_bench.measure import environment
from ssn_bench.measure.ready import noise
from ssn_bench.methods import random_models
from ssn_bench.methods.random_models import Subject
from ssn_edge.backends import installed
from ssn_edge.model.schema import Verdict
from ssn_export.gates import parity
from ssn_export.graph import float64_reference, half_precision, tracing
from ssn_export.graph.deployed import PLANS, Deployed
from ssn_export.graph.head_plans import shapes_of, trained
from ssn_export.targets import plan_timing
from ssn_export.tensorrt import compiled, kernels
from ssn_export.work import macs
from ssn_train.network.model import SuperSimpleNet
from ssn_train.steps import training_step
from ssn_train.training.photo_loader import normalise

SCHEMA = 1
SEEDS = 5
BATCHES = (1, 16)
STEP_ROUNDS = 3
STEP_BATCH = {"wide_resnet50_2": 4}  # others 8: what a small machine trains with
ANY_VERDICT = Verdict("score", 0.5, 0.0, "none: only maps are compared", 0)


class _Heads(nn.Module):
    """A plan's heads alone, features given."""

    def __init__(self, subject: Subject, plan: str):
        super().__init__()
        self.heads = PLANS[plan](trained(subject.model, subject.mean), shapes_of(subject.model))

    def forward(
        self, first: torch.Tensor, second: torch.Tensor, third: Optional[torch.Tensor] = None
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        return self.heads([first, second] if third is None else [first, second, third])


def bench(name: str, size: Tuple[int, int], step: bool, half_seeds: int) -> Dict[str, Any]:
    """The content of ``plans.json``: whole models and heads by backend, MACs, FP16 errors, and with
    ``step`` the training step."""
    subject = random_models.open_subject(name, size)
    env = environment.describe()
    click.echo(f"tracing {len(PLANS)} plans of {subject.name} ...", err=True)
    whole = {plan: _trace(subject, plan) for plan in PLANS}
    heads = {plan: _trace_heads(subject, plan) for plan in PLANS}
    document: Dict[str, Any] = {
        "schema": SCHEMA,
        "model": subject.name,
        "size": list(subject.model.image_size),
        "environment": env,
        "gmacs": {plan: macs.total(graph) / 1e9 for plan, graph in whole.items()},
        "whole": {},
        "heads": {},
        "notes": [
            "Ratios are medians of one alternating run; absolute times on this machine are not results.",
            "Not measured: GPUs, batches above 1, clock changes during the run.",
        ],
    }
    eager = _eager(subject)
    for backend in installed():
        click.echo(f"timing on {backend} ...", err=True)
        calls: Dict[str, Callable[[], object]] = {
            plan: plan_timing.runner(graph, backend) for plan, graph in whole.items()
        }
        document["whole"][backend] = plan_timing.alternate({**calls, "eager": eager}, budget_s=60)
        calls = {plan: _heads_runner(graph, backend) for plan, graph in heads.items()}
        document["heads"][backend] = plan_timing.alternate(calls, budget_s=30)
    document["compiled"] = _compiled(whole)
    if half_seeds:
        document["float16"] = _half_errors(name, size, subject, half_seeds)
    if step:
        document["training_step"] = _steps(subject)
    return document


def _compiled(whole: Mapping[str, Any]) -> Dict[str, Dict[str, Any]]:
    """By largest batch and plan what NVIDIA's compiler makes of each graph with every node in half (kernels,
    traffic, bounds by card); empty where it is not installed."""
    problem = compiled.missing()
    if problem is not None:
        click.echo(f"not compiled: {problem}", err=True)
        return {}
    found: Dict[str, Dict[str, Any]] = {}
    for batch in BATCHES:
        click.echo(f"compiling {len(whole)} plans for RTX cards, batch {batch} ...", err=True)
        rows = found[str(batch)] = {}
        for plan, graph in whole.items():
            half = half_precision.to_half(graph)
            made = compiled.compiled(half.SerializeToString(), f"plan {plan}", batch=batch)
            rows[plan] = {"compiler": made.made_with, **kernels.report(made.kernels, half, batch).document()}
    return found


def _compiled_lines(tables: Mapping[str, Any]) -> List[str]:
    """A line a plan: bounds on RTX cards, ms, all from memory / L2 kept."""
    lines = []
    for batch, rows in tables.items():
        made = next(iter(rows.values()))
        names = [name for name in made["bounds_ms"] if name.startswith("RTX")]
        images = "1 image" if batch == "1" else f"1 to {batch} images"
        lines.append(f"all in half, {made['compiler']}, compute capability {compiled.CARD[0]}, {images}; not "
                     "run: bounds in ms, all from memory / L2 kept:")
        head = f"  {'':16s}{'kernels':>8s}{'MB':>9s}{'GMAC':>8s}{'activations':>12s}"
        lines.append(head + "".join(f"{name.replace('-Blackwell', ''):>16s}" for name in names))
        for plan, row in rows.items():
            line = f"  {plan:16s}{row['kernels']:8d}{row['megabytes']:9.1f}{sum(row['gmacs'].values()):8.2f}"
            line += f"{row['activation_megabytes']:9.1f} MB"
            for name in names:
                first, second = row["bounds_ms"][name]
                line += f"{f'{first:.3f}/{second:.3f}':>16s}"
            lines.append(line)
    return lines


def text(document: Dict[str, Any]) -> str:
    """The tables that ``ssn-bench --plans`` prints; ratios over plan none."""
    env = document["environment"]
    size = "x".join(map(str, document["size"]))
    where = f"{env['device']}, {env['processors']} CPUs"
    lines = [f"{document['model']}, {size}, float32, batch 1; {where}"]
    for part in ("whole", "heads"):
        for backend, rows in document[part].items():
            base = rows["none"]["median_ms"]
            lines.append(f"{part} model, {backend}:" if part == "whole" else f"heads alone, {backend}:")
            for plan, row in rows.items():
                gmac = f"{document['gmacs'][plan]:7.2f} GMAC" if part == "whole" and plan in PLANS else ""
                lines.append(
                    f"  {plan:16s}{base / row['median_ms']:6.2f}x  median {row['median_ms']:8.2f} ms "
                    f"({row['lower_quartile_ms']:.2f} to {row['upper_quartile_ms']:.2f}, "
                    f"n = {row['repetitions']}) {gmac}"
                )
    lines += _compiled_lines(document["compiled"])
    for row in document.get("float16", []):
        errors = ", ".join(f"{plan} {rms:.2e}" for plan, rms in row.items() if plan != "weights")
        lines.append(f"float16, {row['weights']}: map rms {errors} (of the map's standard deviation)")
    if "training_step" in document:
        step = document["training_step"]
        base = step["rows"]["plain"]["median_ms"]
        ratios = ", ".join(f"{k} {base / row['median_ms']:.2f}x" for k, row in step["rows"].items())
        count = step["rows"]["plain"]["repetitions"]
        lines.append(f"training step, batch {step['batch']}, features cached, n = {count}: {ratios}")
    return "\n".join([*lines, *document["notes"]])


def plot(document: Dict[str, Any], path: Path) -> None:
    """Bars: how many times faster than plan none, whole model and heads."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, part in zip(axes, ("whole", "heads")):
        tables = document[part]
        for offset, (backend, rows) in enumerate(tables.items()):
            base = rows["none"]["median_ms"]
            ratios = [base / row["median_ms"] for row in rows.values()]
            places = np.arange(len(rows)) + 0.4 * offset
            bars = axis.bar(places, ratios, width=0.38, label=backend)
            axis.bar_label(bars, fmt="%.2f", fontsize=8)
            axis.set_xticks(places - 0.2 * offset, list(rows), fontsize=8)
        axis.axhline(1, color="grey", linewidth=0.8)
        axis.set_title("whole model" if part == "whole" else "heads alone")
        axis.set_ylabel("times faster than plan none")
    axes[0].legend(loc="upper left")
    figure.suptitle(f"{document['model']}, {'x'.join(map(str, document['size']))}, float32, batch 1")
    figure.savefig(path, dpi=110)


def _trace(subject: Subject, plan: str, centred: bool = True) -> Any:
    mean = subject.mean if centred else [0.0] * len(subject.mean)
    module = Deployed(subject.model, subject.backbone, plan, mean)
    return tracing.trace(module, subject.model.image_size)


def _trace_heads(subject: Subject, plan: str) -> Any:
    levels = zip(subject.model.channels, shapes_of(subject.model).levels)
    features = tuple(torch.zeros(2, c, *hw) for c, hw in levels)
    names = [f"level{n}" for n in range(len(features))]
    return tracing.trace_module(_Heads(subject, plan), features, names, ("seg_logits", "score_logit"))


def _heads_runner(graph: Any, backend: str) -> Callable[[], object]:
    """The heads take a float input for each level, so they go around the runtime's own image interface."""
    rng = np.random.default_rng(0)
    feeds = {}
    for value in graph.graph.input:
        shape = [1, *[d.dim_value for d in value.type.tensor_type.shape.dim[1:]]]
        feeds[value.name] = rng.normal(size=shape).astype(np.float32)
    if backend == "onnxruntime":
        from ssn_edge.backends.onnxruntime_backend import inference_session

        session = inference_session(graph.SerializeToString())
        return lambda: session.run(None, feeds)
    import openvino

    core = openvino.Core()
    model = core.read_model(graph.SerializeToString(), b"")
    model.reshape({name: list(array.shape) for name, array in feeds.items()})
    request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    return lambda: request.infer(feeds)


def _eager(subject: Subject) -> Callable[[], object]:
    images = noise(1, subject.model.image_size, 0)

    @torch.inference_mode()
    def infer() -> object:
        return [part.numpy() for part in subject.model(normalise(images, subject.backbone))]

    return infer


def _half_errors(name: str, size: Tuple[int, int], subject: Subject, seeds: int) -> List[Dict[str, Any]]:
    """All nodes in half, emulated, against float64 on noise images: every plan, and full not centred."""
    chosen: List[Tuple[str, Subject]] = [("trained", subject)] if subject.is_trained else []
    if not chosen:
        chosen = [(f"seed {seed}", random_models.open_subject(name, size, seed)) for seed in range(seeds)]
    rows = []
    for label, one in chosen:
        click.echo(f"float16 errors, {label} ...", err=True)
        truth = float64_reference.reference(one.model, one.backbone, noise(2, one.model.image_size, 7))
        row: Dict[str, Any] = {"weights": label}
        kinds = [(plan, plan, True) for plan in PLANS]
        for key, plan, centred in [*kinds, ("full uncentred", "full", False)]:
            graph = half_precision.emulated(half_precision.to_half(_trace(one, plan, centred)))
            found = float64_reference.run_onnx(graph, truth.images)
            row[key] = parity.compare(truth, *found, ANY_VERDICT, "float16").map_rms
        rows.append(row)
    return rows


def _steps(subject: Subject) -> Dict[str, Any]:
    """One optimizer step, plain and fast in turn, features given."""
    batch = STEP_BATCH.get(subject.backbone.name, 8)
    click.echo("timing the training step ...", err=True)
    shapes, channels = shapes_of(subject.model), subject.model.channels
    features = [torch.randn(batch, c, *hw) for c, hw in zip(channels, shapes.levels)]
    model = SuperSimpleNet(None, channels, subject.model.image_size, shape=subject.model.shape).train()
    optimizer = training_step.make_optimizer(model)
    generator = training_step.step_generator(0, 0)
    draws = training_step.draw(batch, sum(channels), shapes.map, 0.3, 0.2, generator)

    def step(plain: bool) -> None:
        loss = training_step.batch_loss(model, features, draws, plain=plain)
        training_step.take_step(optimizer, loss.total)

    calls = {"plain": lambda: step(True), "fast": lambda: step(False)}
    rows = plan_timing.alternate(calls, rounds=STEP_ROUNDS)
    return {"batch": batch, "masked_share": len(draws.noise) / draws.perlin_mask.numel(), "rows": rows}
