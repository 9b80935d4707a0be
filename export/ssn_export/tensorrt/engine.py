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
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from ssn_edge import Detector, backends
from ssn_edge.backends import gpu, selection, tensorrt_backend
from ssn_edge.errors import InputError, ModelError, SsnEdgeError
from ssn_edge.files import check_writable, replacing, sha256
from ssn_edge.model import bundle, bundle_writer
from ssn_edge.model.bundle import Bundle, Entry
from ssn_edge.model.engine_file import EngineInfo
from ssn_edge.model.onnx_metadata import read_info
from ssn_edge.model.schema import ModelInfo
from ssn_export.gates import parity
from ssn_export.tensorrt import builder, engine_layers
from ssn_export.tensorrt.builder import MIB

MOST_BATCH = 16

JETSON_WORKSPACE = 1024 * MIB
"""Most that a build takes as scratch on a GPU that shares the host's memory, unless asked to."""

ENGINE_SLACK = 2.0
"""Engine against ONNX Runtime: each may be off by the limit, in opposite directions."""


@dataclass(frozen=True)
class EngineRequest:
    """An engine of the ONNX file ``model`` for up to ``batch`` images; ``workspace`` in MiB. It is compared
    with the answers in ``reference``; None leaves it unverified, and it says so of itself."""

    model: Path
    reference: Optional[Path]
    fp16: bool = False
    batch: int = 1
    workspace: Optional[int] = None
    timing_cache: Optional[Path] = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    show_layers: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= MOST_BATCH:
            raise InputError(f"--batch {self.batch}: choose 1 to {MOST_BATCH}")


class Built(NamedTuple):
    """A serialized plan, what it says of itself, the full description of what it computes, its sha256, and
    what is worth keeping of the build."""

    plan: bytes
    core: EngineInfo
    info: ModelInfo
    digest: str
    record: Dict[str, Any]


def write_file(request: EngineRequest, out: Path, log: Callable[[str], object] = print) -> List[Path]:
    """A plain engine. Beyond the limits of ``parity`` it is not kept; errors as of :func:`build`."""
    if out.suffix != ".engine":
        raise InputError(f"--engine-out {out}: give a name that ends in .engine")
    check_writable(out)
    built = build(request, log)
    with replacing(out) as temporary:
        temporary.write_bytes(built.plan)
        with _as_asked_for(out, temporary):
            verify(temporary, request, built, log)
            _layers(temporary, request, built, log)
    log(f"sha256 {built.digest}")
    return [out]


def add(
    path: Path, precision: Optional[str], options: Mapping[str, Any], log: Callable[[str], object] = print
) -> List[Path]:
    """Build an engine of the bundle's graph that suits this TensorRT, and add it; ``options`` as of
    :class:`EngineRequest`. It takes the place of one for the same device, precision and batch."""
    bundle.read(path)  # what is none is not made one
    with bundle_writer.writing(path, log) as writer:
        found = bundle.read(path)
        request = of_bundle(found, precision, options)
        built = build(request, log)
        info = built.info
        entry = writer.add(bundle_writer.Content(
            "engine", lambda place: place.write_bytes(built.plan), info.precision, info.plan, built.core,
        ))
        place = found.place(entry)
        measured = {
            **built.record, "parity": verify(place, request, built, log),
            "layers": _layers(place, request, built, log),
        }
        replaced = [old for old in found.of_role("engine") if _target(old) == _target(entry)]
        writer.commit_more([dataclasses.replace(entry, measured=measured)], replaced)
        for old in replaced:
            if old.name != entry.name:
                log(f"in place of {old.name}")
    return [place]


def _target(entry: Entry) -> Any:
    """What an engine is for: two with the same are the old one and the new one."""
    engine = entry.engine
    return engine and (
        entry.precision, engine.tensorrt, engine.compute_capability, engine.device, engine.batch,
        engine.version_compatible, engine.hardware_compatible,
    )


def of_bundle(found: Bundle, precision: Optional[str], options: Mapping[str, Any]) -> EngineRequest:
    """The graph and the flag that give this precision here; None: half where the bundle has it. InputError
    where it has not."""
    graphs = found.graphs()
    wanted = precision or ("float16" if "float16" in graphs else "float32")
    source = wanted if builder.typed() else "float32"
    if wanted not in graphs or source not in graphs:
        raise InputError(f"{found.path}: no {wanted} graph in it; export it again with --fp16")
    frames = found.of_role("reference")
    if not frames and not options.get("unverified"):
        raise InputError(f"{found.path}: {NO_IMAGES}")
    return EngineRequest(
        bundle.check(found, graphs[source], force=True),
        bundle.check(found, frames[0], force=True) if frames else None,
        fp16=wanted == "float16" and not builder.typed(),
        **{name: value for name, value in options.items() if name != "unverified"},
    )


NO_IMAGES = (
    "no reference images to compare an engine with; pack it with NAME.reference.npz, or give --unverified "
    "for an engine that says so"
)


def build(request: EngineRequest, log: Callable[[str], object] = print) -> Built:
    """Serialize a plan.

    Raises InputError for a file of the wrong precision for this TensorRT, ModelError and
    BackendError as :func:`ssn_export.tensorrt.builder.serialize`.
    """
    info = read_info(request.model)
    info = dataclasses.replace(info, precision=_precision(info, request))
    if request.timing_cache is not None:
        check_writable(request.timing_cache)
    start = time.monotonic()
    device = gpu.open_device()
    core = _core(info, request, device)
    options, memory = _options(info, request, core, device)
    log(f"building with TensorRT {core.tensorrt} on {device.name}: minutes ...")
    with device.active("building an engine"):
        show = sys.stderr.isatty()
        plan = builder.serialize(request.model, core.to_name(), options, log, show)
    record = {
        **memory, "build_seconds": round(time.monotonic() - start, 1), "warnings": builder.warnings(),
    }
    return Built(plan, core, info, hashlib.sha256(plan).hexdigest(), record)


@contextlib.contextmanager
def _as_asked_for(engine: Path, temporary: Path) -> Iterator[None]:
    """Errors about the engine say the name that it will have."""
    try:
        yield
    except SsnEdgeError as error:
        raise type(error)(str(error).replace(temporary.name, engine.name)) from None


def _precision(info: ModelInfo, request: EngineRequest) -> str:
    """The engine's precision; InputError where file and release do not go together."""
    name, version = request.model, tensorrt_backend.version()
    if builder.typed():
        if request.fp16 and info.precision == "float32":
            raise InputError(
                f"{name}: TensorRT {version} takes half precision from the file; give the half graph, "
                "which ssn-export RUN --fp16 writes"
            )
        return info.precision
    if info.precision != "float32":
        raise InputError(
            f"{name}: TensorRT {version} chooses precisions itself; give the float32 file, with --fp16"
        )
    if request.fp16 and info.float32_nodes is None:
        raise InputError(
            f"{name}: exported without --fp16 (or with another plan than its half file), so the layers "
            "that need float32 are not known; export again with --fp16, or with --fp16 --plan none"
        )
    return "float16" if request.fp16 else "float32"


def _core(info: ModelInfo, request: EngineRequest, device: gpu.Device) -> EngineInfo:
    return EngineInfo(
        model=dataclasses.replace(info, plan_table={}, parity={}, float32_nodes=None),
        source=request.model.name,
        onnx_sha256=sha256(request.model),
        tensorrt=tensorrt_backend.version(),
        compute_capability=device.compute_capability,
        device=device.name,
        batch=request.batch,
        fp16_flag=request.fp16 and not builder.typed(),
        version_compatible=request.version_compatible,
        hardware_compatible=request.hardware_compatible,
        unverified=request.reference is None,
    )


def _options(
    info: ModelInfo, request: EngineRequest, core: EngineInfo, device: gpu.Device
) -> Tuple[builder.BuildOptions, Dict[str, Any]]:
    """The builder's options, and the memory budget for the record."""
    with device.active("asking for free memory"):
        free, total = device.free_memory()
    workspace = request.workspace * MIB if request.workspace else None
    tactics = None
    if device.integrated:  # what the builder takes is taken from the host's programs, and swaps
        workspace = workspace or min(free // 4, JETSON_WORKSPACE)
        tactics = free // 2
    options = builder.BuildOptions(
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
    engine: Path, request: EngineRequest, built: Built, log: Callable[[str], object]
) -> Dict[str, Any]:
    """The engine against the trained model's stored answers, and against ONNX Runtime where that is
    installed; ModelError beyond the limits. Empty where there is nothing to compare with."""
    info = built.info
    if request.reference is None:
        log("not compared with the trained model, as asked for: the engine says so of itself")
        return {}
    truth = parity.read_reference(request.reference)
    if truth.images.shape[1:3] != info.input_hw or truth.maps.shape[1:] != info.size_hw:
        raise ModelError(
            f"{request.reference}: images of another model; give the one of {request.model.name}"
        )
    answers = run(engine, "tensorrt", truth.images, request.batch, built.digest)
    figures = {"trained model": parity.compare(truth, *answers, info.verdict, info.precision)}
    log(f"engine against the trained model: {figures['trained model'].line()}")
    parity.gate(figures["trained model"], info.precision, judged="engine")
    if "onnxruntime" in backends.installed():
        other = parity.Reference(truth.images, *run(request.model, "onnxruntime", truth.images, 1))
        found = parity.compare(other, *answers, info.verdict, info.precision)
        figures["ONNX Runtime"] = found
        log(f"engine against ONNX Runtime: {found.line()}")
        parity.gate(found, info.precision, ENGINE_SLACK, "engine")
    return {name: dataclasses.asdict(found) for name, found in figures.items()}


def run(
    model: Path, backend: str, images: np.ndarray, batch: int, digest: Optional[str] = None
) -> Tuple[np.ndarray, np.ndarray]:
    """Maps and scores of ``images`` [N, H, W, 3] through the runtime, in batches, the last one smaller."""
    with Detector.open(model, backend, batch=batch, sha256=digest) as detector:
        parts = [detector.infer_batch(images[i : i + batch]) for i in range(0, len(images), batch)]
    maps, scores = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return maps, scores


def _layers(
    engine: Path, request: EngineRequest, built: Built, log: Callable[[str], object]
) -> Dict[str, Any]:
    """The inspector's report in short; printed in full with ``--layers``."""
    info = built.info
    found, device_memory = _inspect(engine, built.digest)
    odd = engine_layers.oddities(found, info.float32_nodes or ()) if info.precision == "float16" else []
    for line in engine_layers.lines(found) if request.show_layers else []:
        log(line)
    for line in odd:
        log(f"warning: {line}")
    return {"table": engine_layers.table(found), "warnings": odd, "activation_bytes": device_memory}


def show_layers(model: Path) -> List[str]:
    """The layers of an engine that exists, line by line; of a bundle, the one that fits this machine."""
    choice = selection.choose(model, "tensorrt")
    warnings: List[str] = []
    if bundle.is_bundle(model):
        (entry,) = (one for one in bundle.read(model).entries if one.name == choice.path.name)
        stated = entry.measured.get("layers", {}).get("warnings")
        warnings = [str(line) for line in stated] if isinstance(stated, list) else []
    found, device_memory = _inspect(choice.path, choice.digest)
    return [
        choice.path.name, *engine_layers.lines(found), f"{device_memory / MIB:.1f} MiB of activations",
        *(f"warning: {line}" for line in warnings),
    ]


def _inspect(engine: Path, digest: Optional[str]) -> Tuple[List[engine_layers.Layer], int]:
    session = tensorrt_backend.open_session(engine, 1, digest, digest is not None)
    try:
        return engine_layers.read(session.layers()), session.device_memory()
    finally:
        session.close()
