"""Where the time goes: each library's own per-layer clock, folded into our stages."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ssn_bench.measure import contenders, environment
from ssn_bench.measure.contenders import Contender
from ssn_bench.measure.ready import graph_of, noise
from ssn_bench.profile import roofline
from ssn_edge import backends
from ssn_edge.backends import selection
from ssn_edge.errors import BackendError
from ssn_edge.model import schema
from ssn_export.tensorrt import compiled, layers
from ssn_export.work.stages import STAGES, Graph, totals

RUNS = 30
WARM_UP = 5

FLOAT_BYTES = {"float32": 4, "float16": 2}

Layers = Dict[Tuple[str, str], List[float]]
"""Milliseconds of each run by layer name and kind."""


def bench(
    contestants: Sequence[Contender], keep: Optional[Path], timed: bool, devices: Sequence[str],
    log: Callable[[str], object],
) -> Dict[str, Any]:
    """The document of ``--profile`` and ``--predict`` for model files and methods."""
    import onnx

    document: Dict[str, Any] = {
        "schema": 1, "kind": "profile", "environment": environment.describe(), "profiles": [], "bounds": {},
        "compiled": {},
    }
    with contenders.folder_for(keep) as folder:
        for one in contestants:
            path = contenders.model_of(one, 1, folder, log)
            if timed:
                log(f"profiling {one.label} ...")
                document["profiles"].append(profile(path, one.backend, one.label, one.precision))
                made = _made_of(selection.choose(path, one.backend, one.precision))
                document["compiled"].update(made)
            if devices and path.name not in document["bounds"]:
                choice = selection.choose(path, one.backend, one.precision)
                graph = Graph(onnx.load(str(graph_of(path, choice))))
                document["bounds"][path.name] = roofline.predict(graph, list(devices))
    return document


def document_text(document: Dict[str, Any]) -> str:
    lines: List[str] = []
    for one in document["profiles"]:
        lines += [*text(one), ""]
    for made in document.get("compiled", {}).values():
        lines += [*made["lines"], ""]
    for name, bounds in document["bounds"].items():
        lines.append(f"{name}, float16, batch 1: roofline lower bounds from data sheets, not predictions")
        lines += [f"  {device:18s}at least {ms:7.3f} ms" for device, ms in bounds.items()]
    return "\n".join(lines)


def _made_of(choice: selection.Choice) -> Dict[str, Any]:
    """What NVIDIA's compiler made of it, by the file's name, with its lines for people; of an engine its
    inspector tells, of a graph TensorRT for RTX, where it is installed."""
    if choice.library.NAME not in backends.ENGINES and compiled.missing() is not None:
        return {}
    if choice.path.suffix == ".xml":
        return {}
    title, found = layers.of_choice(choice)
    return {choice.path.name: {**found.document(), "lines": [title, *found.lines()]}}


def profile(path: Path, backend: str, name: str, precision: Optional[str] = None) -> Dict[str, Any]:
    """Median milliseconds of each stage over the runs, with its work, the share of the measured peak
    that it attains, and the ten slowest layers.

    The profiler's own cost is inside; compare shares, not these times with those of other runs.
    """
    import onnx

    choice = selection.choose(path, backend, precision)
    library = choice.library.NAME
    if backends.has_provider(choice.library):
        raise BackendError(f"--profile: {library} tells no times of its layers; give --backend onnxruntime")
    model = onnx.load(str(graph_of(path, choice)))
    graph = Graph(model)
    measure = {"onnxruntime": _onnxruntime, "openvino": _openvino}.get(library)
    if library in backends.ENGINES:  # whose peak would take an engine of its own
        layers, peaks = _engine(choice), None
    else:
        assert measure is not None
        before = roofline.measured(library)
        layers = measure(choice.path)
        peaks = roofline.better(before, roofline.measured(library))
    info = schema.from_metadata({p.key: p.value for p in model.metadata_props}, str(path))
    rows = _stages(graph, layers, peaks, FLOAT_BYTES[info.precision])
    slowest = sorted(layers.items(), key=lambda item: -np.median(item[1]))[:10]
    return {
        "name": name,
        "backend": f"{library} {choice.library.version()}",
        "backbone": info.backbone,
        "size": list(info.size_hw),
        "precision": info.precision,
        "runs": RUNS,
        "peak": peaks,
        "stages": rows,
        "total_ms": sum(row["ms"] for row in rows),
        "slowest": [
            {"layer": layer, "kind": kind, "stage": graph.of_layer(layer, kind), "ms": float(np.median(ms))}
            for (layer, kind), ms in slowest
        ],
    }


def _stages(
    graph: Graph, layers: Layers, peaks: Any, element_bytes: int
) -> List[Dict[str, Any]]:
    by_stage = {stage: np.zeros(RUNS) for stage in STAGES}
    for (name, kind), ms in layers.items():
        by_stage[graph.of_layer(name, kind)] += np.array(ms)
    work = totals(graph)
    whole = sum(float(np.median(ms)) for ms in by_stage.values())
    rows = []
    for stage, runs in by_stage.items():
        median = float(np.median(runs))
        row: Dict[str, Any] = {"stage": stage, "ms": median, "share": median / whole}
        if stage in work:
            nodes = [one for node, one in graph.work.items() if graph.stage[node] == stage]
            row["gmacs"] = work[stage].macs / 1e9
            row["megabytes"] = element_bytes * work[stage].elements / 1e6
            if peaks is not None:
                row["bound_ms"] = roofline.bound_ms(nodes, roofline.peak_of(peaks), element_bytes)
                row["attained"] = row["bound_ms"] / median if median else None
        rows.append(row)
    return rows


def text(one: Dict[str, Any]) -> List[str]:
    """The stage table of one profile."""
    lines = [
        f"{one['name']}: {one['backbone']}, {one['precision']}, {one['backend']}; medians of "
        f"{one['runs']} profiled runs",
        f"  {'stage':16s}{'ms':>9s}{'share':>7s}{'GMAC':>8s}{'MB':>8s}{'GMAC/s':>8s}{'bound ms':>10s}"
        f"{'attained':>10s}",
    ]
    for row in one["stages"]:
        line = f"  {row['stage']:16s}{row['ms']:9.2f}{row['share']:7.0%}"
        if "gmacs" in row:
            rate = 1e3 * row["gmacs"] / row["ms"] if row["ms"] else 0
            line += f"{row['gmacs']:8.2f}{row['megabytes']:8.1f}{rate:8.0f}"
        if row.get("attained") is not None:
            line += f"{row['bound_ms']:10.2f}{row['attained']:10.0%}"
        lines.append(line)
    bounds = [row["bound_ms"] for row in one["stages"] if "bound_ms" in row]
    if bounds:
        share = sum(bounds) / one["total_ms"]
        lines.append(f"  {'all':16s}{one['total_ms']:9.2f}{'':41s}{sum(bounds):10.2f}{share:10.0%}")
        rates = ", ".join(f"{k} {v:.0f} GMAC/s" for k, v in one["peak"]["gmacs_per_second"].items())
        lines.append(
            f"  measured peak: {rates}; {one['peak']['gigabytes_per_second']:.1f} GB/s ({one['peak']['how']})"
        )
    return lines


def _onnxruntime(path: Path) -> Layers:
    from ssn_edge.backends.onnxruntime_backend import inference_session

    with tempfile.TemporaryDirectory(prefix="ssn-bench-") as folder:
        session = inference_session(str(path), profile=str(Path(folder) / "profile"))
        image = session.get_inputs()[0]
        feeds = {image.name: noise(1, tuple(image.shape[1:3]))}
        for _ in range(WARM_UP + RUNS):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    layers: Layers = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = (event["name"][: -len("_kernel_time")], event["args"].get("op_name", ""))
            layers.setdefault(key, []).append(event["dur"] / 1e3)
    return {key: ms[-RUNS:] for key, ms in layers.items()}


def _openvino(path: Path) -> Layers:
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    height, width = (int(n.get_length()) for n in list(model.input("image").partial_shape)[1:3])
    model.reshape({"image": [1, height, width, 3]})
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": "YES"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    layers: Layers = {}
    for number in range(WARM_UP + RUNS):
        request.infer({"image": noise(1, (height, width))})
        for info in request.get_profiling_info() if number >= WARM_UP else ():
            ms = info.real_time.total_seconds() * 1e3
            layers.setdefault((info.node_name, info.node_type), []).append(ms)
    return layers


def _engine(choice: selection.Choice) -> Layers:
    path = choice.path
    library = backends.engine_library(choice.library.NAME)
    session = library.open_session(path, 1, choice.digest, choice.host_code)
    try:
        info = schema.from_metadata(session.metadata, str(path))
        selection.check_core(choice, info)
        images = session.prepare(info.input_hw)
        images[:] = noise(1, info.input_hw)
        maps, scores = np.empty((1, *info.size_hw), np.float32), np.empty(1, np.float32)
        layers: Layers = {}
        for number in range(WARM_UP + RUNS):
            for name, ms in session.layer_times(maps, scores):
                if number >= WARM_UP:
                    layers.setdefault((name, ""), []).append(ms)
    finally:
        session.close()
    if not layers:
        raise BackendError(f"{path}: {choice.library.NAME} reported no layer times")
    return layers
