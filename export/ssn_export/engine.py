"""An ONNX file to a TensorRT engine on the device that will run it: build, compare, only then keep.

Needs tensorrt, pycuda and the base install; no torch, no onnx.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from ssn_edge import Detector, backends
from ssn_edge.backends import gpu, tensorrt_backend
from ssn_edge.engine_file import EngineInfo, description_path, read_description
from ssn_edge.errors import InputError, ModelError, SsnEdgeError
from ssn_edge.files import beside, check_writable, replacing, sha256, write_json
from ssn_edge.onnx_metadata import read_info
from ssn_edge.schema import ModelInfo
from ssn_export import layers, parity, trt_build
from ssn_export.trt_build import MIB

MOST_BATCH = 16

JETSON_WORKSPACE = 1024 * MIB
"""Most that a build takes as scratch on a GPU that shares the host's memory, unless asked to."""

ENGINE_SLACK = 2.0
"""Engine against ONNX Runtime: each may be off by the limit, in opposite directions."""


@dataclass(frozen=True)
class Request:
    """``engine`` to write from ``model``, for up to ``batch`` images; ``workspace`` in MiB."""

    model: Path
    engine: Path
    fp16: bool = False
    batch: int = 1
    workspace: Optional[int] = None
    timing_cache: Optional[Path] = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    show_layers: bool = False

    def __post_init__(self) -> None:
        if self.engine.suffix != ".engine":
            raise InputError(f"--engine {self.engine}: give a name that ends in .engine")
        if not 1 <= self.batch <= MOST_BATCH:
            raise InputError(f"--batch {self.batch}: choose 1 to {MOST_BATCH}")


def build(request: Request, say: Callable[[str], object] = print) -> List[Path]:
    """Write the engine and the ``.json`` beside it. Beyond the limits of ``parity`` neither is kept.

    Raises InputError for a file of the wrong precision for this TensorRT, ModelError and
    BackendError as :func:`ssn_export.trt_build.serialize`.
    """
    info = read_info(request.model)
    info = dataclasses.replace(info, precision=_precision(info, request))
    check_writable(request.engine)
    if request.timing_cache is not None:
        check_writable(request.timing_cache)
    start = time.monotonic()
    device = gpu.open_device()
    core = _core(info, request, device)
    options, memory = _options(info, request, core, device)
    say(f"building with TensorRT {core.tensorrt} on {device.name}: minutes ...")
    with device.active("building an engine"):
        show = sys.stderr.isatty()
        plan = trt_build.serialize(request.model, core.to_name(), options, say, show)
    warnings = trt_build.warnings()
    digest = hashlib.sha256(plan).hexdigest()
    with replacing(request.engine) as temporary:
        temporary.write_bytes(plan)
        description: Dict[str, Any] = {
            "schema": core.schema, "engine": dataclasses.asdict(core),
            "model": dataclasses.asdict(info), "sha256": digest, **memory,
            "build_seconds": round(time.monotonic() - start, 1), "warnings": warnings,
        }
        stated = description_path(temporary)
        try:
            with _as_asked_for(request.engine, temporary):
                write_json(stated, description)
                description["parity"] = verify(temporary, request, info, digest, say)
                description["layers"] = _layers(temporary, request, info, digest, say)
        finally:
            with contextlib.suppress(FileNotFoundError):
                stated.unlink()
    write_json(description_path(request.engine), description)
    say(f"sha256 {digest}")
    return [request.engine, description_path(request.engine)]


@contextlib.contextmanager
def _as_asked_for(engine: Path, temporary: Path) -> Iterator[None]:
    """Errors about the engine, or the ``.json`` beside it, say the name that it will have."""
    try:
        yield
    except SsnEdgeError as error:
        raise type(error)(str(error).replace(temporary.stem, engine.stem)) from None


def _precision(info: ModelInfo, request: Request) -> str:
    """The engine's precision; InputError where file and release do not go together."""
    name, version = request.model, tensorrt_backend.version()
    if trt_build.typed():
        if request.fp16 and info.precision == "float32":
            raise InputError(
                f"{name}: TensorRT {version} takes half precision from the file; give "
                f"{name.stem}.fp16.onnx, which ssn-export RUN --fp16 writes"
            )
        return info.precision
    if info.precision != "float32":
        raise InputError(
            f"{name}: TensorRT {version} chooses precisions itself; give the float32 file with --fp16: "
            f"ssn-export {beside(name, '.onnx')} --engine {request.engine} --fp16"
        )
    if request.fp16 and info.float32_nodes is None:
        raise InputError(
            f"{name}: exported without --fp16 (or with another plan than its half file), so the layers "
            "that need float32 are not known; export again with --fp16, or with --fp16 --plan none"
        )
    return "float16" if request.fp16 else "float32"


def _core(info: ModelInfo, request: Request, device: gpu.Device) -> EngineInfo:
    return EngineInfo(
        model=dataclasses.replace(info, plan_table={}, parity={}, float32_nodes=None),
        source=request.model.name,
        onnx_sha256=sha256(request.model),
        tensorrt=tensorrt_backend.version(),
        compute_capability=device.compute_capability,
        device=device.name,
        batch=request.batch,
        fp16_flag=request.fp16 and not trt_build.typed(),
        version_compatible=request.version_compatible,
        hardware_compatible=request.hardware_compatible,
    )


def _options(
    info: ModelInfo, request: Request, core: EngineInfo, device: gpu.Device
) -> Tuple[trt_build.Options, Dict[str, Any]]:
    """The builder's options, and the memory budget for the record."""
    with device.active("asking for free memory"):
        free, total = device.free_memory()
    workspace = request.workspace * MIB if request.workspace else None
    tactics = None
    if device.integrated:  # what the builder takes is taken from the host's programs, and swaps
        workspace = workspace or min(free // 4, JETSON_WORKSPACE)
        tactics = free // 2
    options = trt_build.Options(
        batch=request.batch,
        fp16=core.fp16_flag,
        float32_nodes=info.float32_nodes or (),
        workspace=workspace,
        tactic_memory=tactics,
        timing_cache=request.timing_cache,
        version_compatible=request.version_compatible,
        hardware_compatible=request.hardware_compatible,
    )
    return options, {"memory": {"free": free, "total": total, "workspace": workspace, "tactics": tactics}}


def verify(
    engine: Path, request: Request, info: ModelInfo, digest: str, say: Callable[[str], object]
) -> Dict[str, Any]:
    """The engine against the trained model's stored answers, and against ONNX Runtime where that is
    installed; ModelError beyond the limits. Without a reference file it is left unverified, and
    said so."""
    path = parity.reference_path(request.model)
    if not path.is_file():
        say(f"NOT VERIFIED: no {path.name} beside the model; copy it from the export and build again")
        return {}
    truth = parity.read_reference(path)
    if truth.images.shape[1:3] != info.input_hw or truth.maps.shape[1:] != info.size_hw:
        raise ModelError(f"{path}: frames of another model; copy the one of {request.model.name}")
    answers = run(engine, "tensorrt", truth.images, request.batch, digest)
    figures = {"trained model": parity.compare(truth, *answers, info.verdict, info.precision)}
    say(f"engine against the trained model: {figures['trained model'].line()}")
    parity.gate(figures["trained model"], info.precision, judged="engine")
    if "onnxruntime" in backends.installed():
        other = parity.Reference(truth.images, *run(request.model, "onnxruntime", truth.images, 1))
        found = parity.compare(other, *answers, info.verdict, info.precision)
        figures["ONNX Runtime"] = found
        say(f"engine against ONNX Runtime: {found.line()}")
        parity.gate(found, info.precision, ENGINE_SLACK, "engine")
    return {name: dataclasses.asdict(found) for name, found in figures.items()}


def run(
    model: Path, backend: str, images: np.ndarray, batch: int, digest: Optional[str] = None
) -> Tuple[np.ndarray, np.ndarray]:
    """Maps and scores of ``images`` [N, H, W, 3] through the runtime, in batches, the last one smaller."""
    with Detector.open(model, backend, batch=batch, sha256=digest) as detector:
        parts = [detector.infer_batch(images[i : i + batch]) for i in range(0, len(images), batch)]
    return tuple(np.concatenate([p[i] for p in parts]) for i in (0, 1))


def _layers(
    engine: Path, request: Request, info: ModelInfo, digest: str, say: Callable[[str], object]
) -> Dict[str, Any]:
    """The inspector's report in short; printed in full with ``--layers``."""
    found, device_memory = _inspect(engine, digest)
    odd = layers.oddities(found, info.float32_nodes or ()) if info.precision == "float16" else []
    for line in layers.lines(found) if request.show_layers else []:
        say(line)
    for line in odd:
        say(f"warning: {line}")
    return {"table": layers.table(found), "warnings": odd, "activation_bytes": device_memory}


def show_layers(engine: Path) -> List[str]:
    """The layers of an engine that exists, line by line."""
    if not engine.is_file():
        raise InputError(f"{engine}: no such engine")
    description = read_description(engine)
    found, device_memory = _inspect(engine, None)
    warnings = description.get("layers", {}).get("warnings", [])
    return [
        *layers.lines(found), f"{device_memory / MIB:.1f} MiB of activations",
        *(f"warning: {line}" for line in warnings),
    ]


def _inspect(engine: Path, digest: Optional[str]) -> Tuple[List[layers.Layer], int]:
    session = tensorrt_backend.open_session(engine, 1, digest)
    try:
        return layers.read(session.layers()), session.device_memory()
    finally:
        session.close()
