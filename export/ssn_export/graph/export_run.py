"""A run folder to model files: trace, time, compare, and only then write."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
import onnx

from ssn_edge.errors import InputError, ModelError
from ssn_edge.files import replacing, sha256
from ssn_edge.frames.decoding import Reading
from ssn_edge.frames.image_files import list_images, read_image
from ssn_edge.frames.placement import fit_image
from ssn_edge.model import bundle_writer
from ssn_edge.model.bundle import MANIFEST
from ssn_edge.model.bundle_writer import Content
from ssn_edge.model.schema import ModelInfo, Network
from ssn_edge.verdict import calibration, in_bundle
from ssn_edge.verdict.calibration import Calibration
from ssn_export.bundles import baking, calibrations
from ssn_export.gates import lint, parity
from ssn_export.graph import float64_reference, mixed_precision, plan_timing, tracing
from ssn_export.graph.camera_resize import FRONTS
from ssn_export.graph.deployed import CPU_PLANS, Deployed, GraphOptions
from ssn_export.tensorrt import compiled
from ssn_train.network.backbones import Backbone
from ssn_train.network.model import SuperSimpleNet
from ssn_train.training import checkpoint
from ssn_train.training.checkpoint import MODEL_FILE, Header

MAX_IMAGES = 16
"""Images of the comparison; more only costs time, since each has tens of thousands of pixels."""

FRAMES_KEPT = 4
"""Camera frames kept as reference: they are megabytes each."""

HALF_RATIO = 1.1
"""A plan's error in half against the naive graph's, all nodes in half, on the same images."""


@dataclass(frozen=True)
class ExportRequest:
    """What to make: ``plan`` a name of :data:`.deployed.PLANS` or ``auto``, timed on ``backend``; ``frame``
    (height, width) takes camera frames."""

    fp16: bool = False
    data: Optional[Path] = None
    plan: str = "auto"
    backend: str = "auto"
    frame: Optional[Tuple[int, int]] = None

    def __post_init__(self) -> None:
        if self.frame and min(self.frame) < 2:
            raise InputError(f"--frame {self.frame[0]}x{self.frame[1]}: give the camera's HxW in pixels")


@dataclass(frozen=True)
class Exported:
    """Graphs by precision, each with its description, and the images with the trained model's answers that
    they were compared on; ``calibration`` is the training's."""

    graphs: Mapping[str, Tuple[onnx.ModelProto, ModelInfo]]
    truth: parity.Reference
    calibration: Optional[Calibration] = None

    @property
    def model(self) -> ModelInfo:
        """What the graphs have in common."""
        return self.graphs["float32"][1].core()

    def contents(self) -> List[Content]:
        """A bundle's files."""
        roles = {"float32": "float32", "float16": "half"}
        files = [
            Content(roles[kind], partial(_save, graph), kind, info.plan)
            for kind, (graph, info) in self.graphs.items()
        ]
        files.append(Content("reference", partial(_write_reference, self.truth)))
        return [*files, *(in_bundle.content(one) for one in (self.calibration,) if one is not None)]

    def write(
        self, out: Path, inside: bool = False, log: Callable[[str], object] = print
    ) -> List[Path]:
        """Plain files: ``out``, and ``NAME.fp16.onnx`` beside it where there is a half graph; the training's
        thresholds ``inside`` them where asked for."""
        places = {"float32": out, "float16": out.with_suffix(".fp16.onnx")}
        files = {kind: graph for kind, (graph, _) in self.graphs.items()}
        if inside:
            for kind, (graph, info) in self.graphs.items():
                judged = calibrations.judged_by_training(info, self.calibration)
                files[kind] = baking.baked(graph, judged)
                compiled.judged(files[kind], f"{kind} with thresholds", log)
                log(f"{kind}: {calibrations.words(judged)}")
        for kind, graph in files.items():
            with replacing(places[kind]) as temporary:
                _save(graph, temporary)
        return [places[kind] for kind in files]


def _save(graph: onnx.ModelProto, path: Path) -> None:
    onnx.save(graph, str(path))


def _write_reference(truth: parity.Reference, path: Path) -> None:
    parity.write_reference(path, truth)


def export(run: Path, request: ExportRequest, log: Callable[[str], object] = print) -> Exported:
    """The run's graphs, each compared with the trained model; ModelError beyond tolerance."""
    model, header, backbone = checkpoint.load_model(run)
    if header.verdict is None:
        raise InputError(f"{run}: its model has no calibrated thresholds; train again")
    size = (header.height, header.width)
    geometry = header.settings.get("geometry", "stretch")
    if request.frame and geometry != "stretch":
        raise InputError(
            f"--frame: {run} was trained with --geometry {geometry}, and the graph only stretches; export it "
            "without --frame"
        )
    folder = request.data or run / "reference"
    images = comparison_images(folder, request.frame or size, geometry, header.reading)
    log(f"computing the reference in float64 on {len(images)} images ...")
    truth = float64_reference.reference(model, backbone, images)
    builder = _GraphBuilder(model, backbone, header, request, truth, log)
    plan, table = builder.choose()
    graphs = {"float32": (plan, builder.graph(plan))}
    float_nodes: Optional[Tuple[str, ...]] = None
    if request.fp16:
        half_plan, half, float_nodes = builder.half(plan)
        graphs["float16"] = (half_plan, half)
    resized: Dict[str, float] = {}
    if request.frame:
        resized = float64_reference.gate_resize(model, backbone, truth.first(4))
        log(
            "frame resize against the runtime's: {resize_max_levels:.2f} grey levels at most, map "
            "{resize_map_rms:.1e} rms of its standard deviation".format(**resized)
        )
    digest, network = sha256(run / MODEL_FILE), _network(model)
    ready: Dict[str, Tuple[onnx.ModelProto, ModelInfo]] = {}
    for kind, (name, graph) in graphs.items():
        figures, taken = _judge(graph, kind, truth, header, log)
        figures.update(resized)
        tables = {**table, "compiled": taken.document()} if taken is not None else table
        info = _info(header, request, kind, name, tables, digest, figures, network)
        if name == graphs.get("float16", (None,))[0]:  # the names are of the half file's plan
            info = dataclasses.replace(info, float32_nodes=float_nodes)
        baking.describe(graph, info)
        ready[kind] = graph, info
    kept = calibration.from_document(header.calibration, str(run)) if header.calibration else None
    return Exported(ready, truth.spread(FRAMES_KEPT) if request.frame else truth, kept)


def to_bundle(
    run: Path, out: Path, request: ExportRequest, log: Callable[[str], object] = print
) -> List[Path]:
    """Export into the bundle ``out``, in place of what it holds; engines of the same graphs stay."""
    with bundle_writer.writing(out, log) as writer:
        exported = export(run, request, log)
        found = writer.replace(exported.model, exported.contents())
    return [out / MANIFEST, *(found.place(entry) for entry in found.entries)]


class _GraphBuilder:
    """Graphs of one export by plan, traced once each."""

    def __init__(
        self,
        model: SuperSimpleNet,
        backbone: Backbone,
        header: Header,
        request: ExportRequest,
        truth: parity.Reference,
        log: Callable[[str], object],
    ):
        self._model, self._backbone, self._header = model, backbone, header
        self._request, self._truth, self._log = request, truth, log
        self._front = next(iter(FRONTS))
        self._graphs: Dict[Tuple[str, str], onnx.ModelProto] = {}

    def graph(self, plan: str) -> onnx.ModelProto:
        """The float32 graph of a plan, its module having passed the float64 gate."""
        key = (plan, self._front)
        if key not in self._graphs:
            self._log(f"tracing plan {plan} ...")
            options = GraphOptions(self._request.frame, self._front)
            module = Deployed(self._model, self._backbone, plan, self._header.feature_mean, options)
            float64_reference.gate_exact(module.double().eval(), self._truth.first(2))
            size = self._request.frame or self._model.image_size
            self._graphs[key] = tracing.trace(module, size)
        return self._graphs[key]

    def choose(self) -> Tuple[str, Dict[str, Any]]:
        """The plan to write and the timings behind it (empty where it was given)."""
        table: Dict[str, Any] = {}
        plan = self._request.plan
        if plan == "auto":
            table = plan_timing.compare(
                {name: self.graph(name) for name in CPU_PLANS}, self._request.backend
            )
            plan = table["fastest"]
            self._log(_lines("plan", table))
        if self._request.frame:
            graphs = {}
            for front in FRONTS:
                self._front = front
                graphs[front] = self.graph(plan)
            table["frame"] = plan_timing.compare(graphs, self._request.backend)
            self._front = table["frame"]["fastest"]
            self._log(_lines("frame resize", table["frame"]))
        return plan, table

    def half(self, plan: str) -> Tuple[str, onnx.ModelProto, Tuple[str, ...]]:
        """Plan, typed half graph and the names of its nodes in float32. A plan that half precision
        suits worse than the naive one gives way to ``none`` if it was chosen here, and is refused if
        it was asked for."""
        few, verdict = self._truth.spread(mixed_precision.MEASURED_IMAGES), self._header.calibrated
        if plan != "none":
            ours, naive = (mixed_precision.all_half_rms(self.graph(p), few, verdict) for p in (plan, "none"))
            self._log(f"all in half: plan {plan} {ours:.1e} rms, plan none {naive:.1e}")
            if ours > HALF_RATIO * naive:
                if self._request.plan != "auto":
                    raise ModelError(
                        f"float16 export refused: plan {plan} has {ours / naive:.2f} times the naive "
                        f"graph's error, limit {HALF_RATIO}; use --plan none"
                    )
                self._log("the FP16 file takes plan none")
                plan = "none"
        self._log("choosing the nodes of the FP16 graph that stay in float32 ...")
        graph, kept = mixed_precision.mixed_half(self.graph(plan), self._truth, verdict)
        self._log(f"{len(kept)} of {len(self.graph(plan).graph.node)} nodes stay in float32")
        return plan, graph, mixed_precision.float_nodes(self.graph(plan), kept)


def _lines(what: str, table: Mapping[str, Any]) -> str:
    rows = table["candidates"]
    slowest = max(row["median_ms"] for row in rows.values())
    lines = [f"{what}, timed alternately on {table['backend']}, batch 1, {table['threads']} threads:"]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["median_ms"]):
        chosen = "  <- taken" if name == table["fastest"] else ""
        lines.append(
            f"  {name:10s}{row['median_ms']:9.2f} ms  {slowest / row['median_ms']:5.2f}x"
            f"  ({row['lower_quartile_ms']:.2f} to {row['upper_quartile_ms']:.2f}, "
            f"n = {row['repetitions']}){chosen}"
        )
    return "\n".join(lines)


def comparison_images(folder: Path, size_hw: Tuple[int, int], geometry: str = "stretch",
                      reading: Reading = Reading()) -> np.ndarray:  # noqa: B008 (frozen)
    """Up to 16 images below ``folder``, evenly spread, uint8 BGR [N, H, W, 3]."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no images to compare on; give --data FOLDER")
    folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    paths = [path for place in folders for path in list_images(place)]
    if not paths:
        raise InputError(f"{folder}: no images to compare on; give --data FOLDER")
    places = np.linspace(0, len(paths) - 1, min(MAX_IMAGES, len(paths))).astype(int)
    return np.stack([fit_image(read_image(paths[i], reading), size_hw, geometry) for i in places])


def _judge(
    graph: onnx.ModelProto,
    kind: str,
    truth: parity.Reference,
    header: Header,
    log: Callable[[str], object],
) -> Tuple[Dict[str, Any], Optional[compiled.Compiled]]:
    """Check, lint, compile (where NVIDIA's compiler is installed), compare and gate one graph; returns the
    parity figures, and what the compiler said."""
    lint.check_valid(graph)
    lint.check(graph)
    taken = compiled.judged(graph, kind, log)
    runnable = mixed_precision.emulated(graph) if kind == "float16" else graph
    answers = float64_reference.run_onnx(runnable, truth.images)
    found = parity.compare(truth, *answers, header.calibrated, kind)
    log(f"{kind}: {found.line()}")
    parity.gate(found, kind)
    return dataclasses.asdict(found), taken


def _info(
    header: Header,
    request: ExportRequest,
    kind: str,
    plan: str,
    table: Mapping[str, Any],
    digest: str,
    figures: Mapping[str, Any],
    network: Network,
) -> ModelInfo:
    return ModelInfo(
        height=header.height,
        width=header.width,
        verdict=header.calibrated,
        backbone=header.backbone,
        variant=header.variant,
        precision=kind,
        plan=plan,
        plan_table=table,
        frame=request.frame,
        geometry=header.settings.get("geometry", "stretch"),
        bits=header.reading.bits,
        orientation=header.reading.orientation,
        checkpoint_sha256=digest,
        parity=figures,
        design=network,
    )


def _network(model: SuperSimpleNet) -> Network:
    """What the file says that it was built of; the map's size as the input makes it."""
    image = model.feature_shift.new_zeros(1, 3, *model.image_size)
    finest, shape = model.features(image)[0], model.shape
    return Network(
        shape.levels, shape.map_size(finest.shape[2:]), model.discriminator.seg_layers[0].out_channels,
        shape.cls_width, shape.cls_kernel, shape.adaptor, shape.distance,
    )
