"""A run folder to model files: trace, time, compare, and only then write."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
import onnx

from ssn_edge.errors import InputError
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
from ssn_export.graph import float64_reference, mixed_precision
from ssn_export.graph.graph_builder import ExportRequest, GraphBuilder, Source
from ssn_export.targets import rooflines
from ssn_export.tensorrt import compiled
from ssn_train.network.model import SuperSimpleNet
from ssn_train.training import checkpoint
from ssn_train.training.checkpoint import MODEL_FILE, Header

MAX_IMAGES = 16
"""Images of the comparison; more only costs time, since each has tens of thousands of pixels."""

FRAMES_KEPT = 4
"""Camera frames kept as reference: they are megabytes each."""

Described = Tuple[onnx.ModelProto, ModelInfo]
"""A graph with what it says of itself."""


@dataclass(frozen=True)
class Exported:
    """Graphs by precision, each with its description, and the images with the trained model's answers that
    they were compared on; ``calibration`` is the training's, ``targets`` are the graphs for some devices, by
    target."""

    graphs: Mapping[str, Described]
    truth: parity.Reference
    calibration: Optional[Calibration] = None
    targets: Mapping[str, Described] = field(default_factory=dict)

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
        files += [
            Content("graph", partial(_save, graph), info.precision, info.plan, target=name)
            for name, (graph, info) in self.targets.items()
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
    for target in request.targets:
        rooflines.check_here(target)
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
    about = _about(header, request, sha256(run / MODEL_FILE), _network(model))
    builder = GraphBuilder(Source(model, backbone, header, truth, about), request, log)
    made = builder.made()
    resized: Dict[str, float] = {}
    if request.frame:
        resized = float64_reference.gate_resize(model, backbone, truth.first(4))
        log(
            "frame resize against the runtime's: {resize_max_levels:.2f} grey levels at most, map "
            "{resize_map_rms:.1e} rms of its standard deviation".format(**resized)
        )
    graphs: Dict[str, Described] = {}
    targets: Dict[str, Described] = {}
    for one in made:
        called = f"{one.precision} for {one.target}" if one.target else one.precision
        figures, taken = _judge(one.graph, one.precision, called, truth, header, log)
        table = {**one.table(), **({"compiled": taken.document()} if taken is not None else {})}
        info = dataclasses.replace(
            about, precision=one.precision, plan=one.chosen.plan, plan_table=table,
            parity={**figures, **resized}, float32_nodes=one.float_nodes,
        )
        graph = one.graph
        if one.target:  # another target may have the same graph, with its own table
            graph = onnx.ModelProto()
            graph.CopyFrom(one.graph)
        baking.describe(graph, info)
        (targets if one.target else graphs)[one.target or one.precision] = graph, info
    kept = calibration.from_document(header.calibration, str(run)) if header.calibration else None
    return Exported(graphs, truth.spread(FRAMES_KEPT) if request.frame else truth, kept, targets)


def to_bundle(
    run: Path, out: Path, request: ExportRequest, log: Callable[[str], object] = print
) -> List[Path]:
    """Export into the bundle ``out``, in place of what it holds; engines of the same graphs stay."""
    with bundle_writer.writing(out, log) as writer:
        exported = export(run, request, log)
        found = writer.replace(exported.model, exported.contents())
    return [out / MANIFEST, *(found.place(entry) for entry in found.entries)]


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
    called: str,
    truth: parity.Reference,
    header: Header,
    log: Callable[[str], object],
) -> Tuple[Dict[str, Any], Optional[compiled.Compiled]]:
    """Check, lint, compile (where NVIDIA's compiler is installed), compare and gate one graph; returns the
    parity figures, and what the compiler said."""
    lint.check_valid(graph)
    lint.check(graph)
    taken = compiled.judged(graph, called, log)
    runnable = mixed_precision.emulated(graph) if kind == "float16" else graph
    answers = float64_reference.run_onnx(runnable, truth.images)
    found = parity.compare(truth, *answers, header.calibrated, kind)
    log(f"{called}: {found.line()}")
    parity.gate(found, kind)
    return dataclasses.asdict(found), taken


def _about(header: Header, request: ExportRequest, digest: str, network: Network) -> ModelInfo:
    """What all graphs say of themselves."""
    return ModelInfo(
        height=header.height,
        width=header.width,
        verdict=header.calibrated,
        backbone=header.backbone,
        precision="",
        variant=header.variant,
        frame=request.frame,
        geometry=header.settings.get("geometry", "stretch"),
        bits=header.reading.bits,
        orientation=header.reading.orientation,
        checkpoint_sha256=digest,
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
