"""A run folder to model files: trace, compare, and only then write."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import onnx

from ssn_edge.errors import InputError
from ssn_edge.files import replacing, sha256
from ssn_edge.images import list_images, read_image, resize
from ssn_edge.schema import ModelInfo
from ssn_export import onnx_file, precision, verify
from ssn_export.graph import Deployed
from ssn_train import checkpoint
from ssn_train.checkpoint import MODEL_FILE, Header

MAX_IMAGES = 16
"""Images of the comparison; more only costs time, since each has tens of thousands of pixels."""


def export(
    run: Path,
    out: Path,
    fp16: bool,
    data: Optional[Path] = None,
    say: Callable[[str], object] = print,
) -> List[Path]:
    """Write ``out`` (float32), with ``fp16`` also ``NAME.fp16.onnx``, and ``NAME.reference.npz``.

    Every file is compared with the trained model first; ModelError beyond tolerance, and then
    nothing is written.
    """
    if out.suffix != ".onnx":
        raise InputError(f"--out {out}: give a name that ends in .onnx")
    model, header, backbone = checkpoint.load_model(run)
    if header.verdict is None:
        raise InputError(f"{run}: its model has no calibrated thresholds; train again")
    images = comparison_images(data or run / "reference", (header.height, header.width))
    say(f"computing the reference in float64 on {len(images)} images ...")
    truth = verify.reference(model, backbone, images)
    say("tracing the graph ...")
    single = onnx_file.trace(Deployed(model, backbone), model.image_size)
    graphs = {"float32": single}
    if fp16:
        say("choosing the nodes of the FP16 graph that stay in float32 ...")
        graphs["float16"], kept = precision.mixed_half(single, truth, header.verdict)
        say(f"{len(kept)} of {len(single.graph.node)} nodes stay in float32")
    digest = sha256(run / MODEL_FILE)
    ready: List[Tuple[Path, onnx.ModelProto]] = []
    for kind, graph in graphs.items():
        path = out if kind == "float32" else out.with_suffix(".fp16.onnx")
        ready.append((path, _finish(graph, kind, truth, header, digest, say)))
    for path, graph in ready:
        with replacing(path) as temporary:
            onnx.save(graph, str(temporary))
    return [path for path, _ in ready] + [_write_reference(out, truth)]


def comparison_images(folder: Path, size_hw: Tuple[int, int]) -> np.ndarray:
    """Up to 16 images below ``folder``, evenly spread, uint8 BGR [N, H, W, 3]."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no images to compare on; give --data FOLDER")
    folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    paths = [path for place in folders for path in list_images(place)]
    if not paths:
        raise InputError(f"{folder}: no images to compare on; give --data FOLDER")
    places = np.linspace(0, len(paths) - 1, min(MAX_IMAGES, len(paths))).astype(int)
    return np.stack([resize(read_image(paths[i]), size_hw) for i in places])


def _finish(
    graph: onnx.ModelProto,
    kind: str,
    truth: verify.Reference,
    header: Header,
    digest: str,
    say: Callable[[str], object],
) -> onnx.ModelProto:
    """Check, compare, gate and describe one graph."""
    onnx_file.check(graph)
    parity = verify.compare(truth, *verify.run_onnx(graph, truth.images), header.verdict, kind)
    say(f"{kind}: {parity.line()}")
    verify.gate(parity, kind)
    figures: Dict[str, Any] = dataclasses.asdict(parity)
    info = ModelInfo(
        height=header.height,
        width=header.width,
        verdict=header.verdict,
        backbone=header.backbone,
        variant=header.variant,
        precision=kind,
        checkpoint_sha256=digest,
        parity=figures,
    )
    onnx_file.describe(graph, info)
    return graph


def _write_reference(out: Path, truth: verify.Reference) -> Path:
    """A few frames with their maps and scores, so that a device can check an engine alone."""
    path = out.with_suffix(".reference.npz")
    with replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            images=truth.images,
            anomaly_map=truth.maps.astype(np.float32),
            score=truth.scores.astype(np.float32),
        )
    return path
