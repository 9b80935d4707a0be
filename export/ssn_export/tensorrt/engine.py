"""An ONNX file to an engine: build, compare, only then keep. No torch, no onnx.

TensorRT builds on the device that will run the engine. TensorRT for RTX builds anywhere, without a GPU or
its driver too: such an engine was built and not run, says so of itself, and is compared where it is opened.
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
from ssn_edge.backends import gpu, selection
from ssn_edge.errors import InputError, ModelError, SsnEdgeError, needs
from ssn_edge.files import check_writable, replacing, sha256
from ssn_edge.model import bundle, bundle_writer
from ssn_edge.model.bundle import Bundle, Entry
from ssn_edge.model.engine_file import PRODUCTS, EngineInfo
from ssn_edge.model.onnx_metadata import read_info
from ssn_edge.model.schema import ModelInfo
from ssn_export.gates import parity
from ssn_export.tensorrt import builder, compiled, layers
from ssn_export.tensorrt.builder import MIB

MOST_BATCH = 16

JETSON_WORKSPACE = 1024 * MIB
"""Most that a build takes as scratch on a GPU that shares the host's memory, unless asked to."""

ORIN = "8.7"
"""The compute capability of all Orins."""

ENGINE_SLACK = 2.0
"""Engine against ONNX Runtime: each may be off by the limit, in opposite directions."""


NOT_FOR_RTX = {
    "version_compatible": "it has no runtime to put into an engine; build again for each release",
    "hardware_compatible": "its engines run on every card that they are built for; --sm says which",
    "timing_cache": "it times nothing when it builds; what it compiles is kept when the engine is opened",
}
"""Options that would be claimed and have no effect, or another one."""

@dataclass(frozen=True)
class EngineRequest:
    """An engine of the ONNX file ``model`` for up to ``batch`` images; ``workspace`` in MiB. It is compared
    with the answers in ``reference``; None leaves it unverified, and it says so of itself. ``product`` is one
    of :data:`ssn_edge.backends.ENGINES`; RTX's is built for the compute ``capabilities``, none for all that
    share an engine."""

    model: Path
    reference: Optional[Path]
    fp16: bool = False
    batch: int = 1
    workspace: Optional[int] = None
    timing_cache: Optional[Path] = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    show_layers: bool = False
    product: str = backends.ENGINES[0]
    capabilities: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, reason in NOT_FOR_RTX.items() if self.product == "rtx" else ():
            if getattr(self, name):
                raise InputError(f"--{name.replace('_', '-')}: not for {PRODUCTS['rtx']}: {reason}")
        if self.capabilities and self.product != "rtx":
            raise InputError("--sm: TensorRT builds for the GPU that is there; --engine rtx for any")
        if compiled.TURING in self.capabilities and len(self.capabilities) > 1:
            raise InputError("--sm: an engine for Turing (75) is one of its own; build another for the rest")
        if self.product == "rtx":
            builder.check_targets(backends.engine_library("rtx").PRODUCT, self.capabilities)
        if not 1 <= self.batch <= MOST_BATCH:
            raise InputError(f"--batch {self.batch}: choose 1 to {MOST_BATCH}")


class Built(NamedTuple):
    """A serialized plan, what it says of itself, the full description of what it computes, its sha256, what
    is worth keeping of the build, and the builder's list of kernels, where it gives one."""

    plan: bytes
    core: EngineInfo
    info: ModelInfo
    digest: str
    record: Dict[str, Any]
    kernels: str = ""


def check(options: Mapping[str, Any]) -> None:
    """InputError for options of :class:`EngineRequest` that do not go together: before an export."""
    EngineRequest(Path(), None, **{name: value for name, value in options.items() if name != "unverified"})


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
        entry.precision, engine.product, engine.tensorrt, engine.compute_capability, engine.device,
        engine.compute_capabilities, engine.batch, engine.version_compatible, engine.hardware_compatible,
    )


def of_bundle(found: Bundle, precision: Optional[str], options: Mapping[str, Any]) -> EngineRequest:
    """The graph and the flag that give this precision here; None: half where the bundle has it. InputError
    where it has not. A graph for the target that the engine is for is taken where there is one."""
    graphs = found.graphs()
    wanted = precision or ("float16" if "float16" in graphs else "float32")
    typed = builder.typed(backends.engine_library(options.get("product", backends.ENGINES[0])).PRODUCT)
    source = wanted if typed else "float32"
    if wanted not in graphs or source not in graphs:
        raise InputError(f"{found.path}: no {wanted} graph in it; export it again with --fp16")
    unverified = bool(options.get("unverified"))
    frames = [] if unverified else found.of_role("reference")
    if not frames and not unverified:
        raise InputError(f"{found.path}: {NO_IMAGES}")
    return EngineRequest(
        bundle.check(found, selection.graph_of(found, source, _for(found, options)), force=True),
        bundle.check(found, frames[0], force=True) if frames else None,
        fp16=wanted == "float16" and not typed,
        **{name: value for name, value in options.items() if name != "unverified"},
    )


def _for(found: Bundle, options: Mapping[str, Any]) -> Optional[str]:
    """The target that an engine is for; the GPU is looked at only where there is a graph for one."""
    if options.get("product") == "rtx":
        return "rtx"
    if not any(entry.target == "orin" for entry in found.of_role("graph")):
        return None
    device = backends.engine_library().open_device()
    return "orin" if device.compute_capability == ORIN else None


NO_IMAGES = (
    "no reference images to compare an engine with; pack it with NAME.reference.npz, or give --unverified "
    "for an engine that says so"
)


def build(request: EngineRequest, log: Callable[[str], object] = print) -> Built:
    """Serialize a plan.

    Raises InputError for a file of the wrong precision for this TensorRT, ModelError and
    BackendError as :func:`ssn_export.tensorrt.builder.serialize`.
    """
    product = backends.engine_library(request.product).PRODUCT
    info = read_info(request.model)
    info = dataclasses.replace(info, precision=_precision(info, request))
    if request.timing_cache is not None:
        check_writable(request.timing_cache)
    start = time.monotonic()
    prepare = _for_cards if request.product == "rtx" else _for_here
    core, options, record, device = prepare(info, request, log)
    source = _for_turing(request.model) if compiled.TURING in options.capabilities else request.model
    with contextlib.ExitStack() as active:
        if device is not None:
            active.enter_context(device.active("building an engine"))
        show, called = sys.stderr.isatty(), str(request.model)
        plan = builder.serialize(product, source, core.to_name(), options, log, show, called)
    record.update(
        build_seconds=round(time.monotonic() - start, 1), warnings=builder.warnings(product),
    )
    digest = hashlib.sha256(plan).hexdigest()
    return Built(plan, core, info, digest, record, builder.kernels(product))


def _for_turing(model: Path) -> bytes:
    """The file's graph without what Turing does not compute."""
    with needs("rtx", "an engine for Turing"):
        import onnx

        from ssn_export.tensorrt import turing
    return turing.for_turing(onnx.load(str(model))).SerializeToString()


Prepared = Tuple[EngineInfo, builder.BuildOptions, Dict[str, Any], Optional[gpu.Device]]
"""What the engine says of itself, how it is built, what is recorded, and the GPU that building needs."""


def _for_here(info: ModelInfo, request: EngineRequest, log: Callable[[str], object]) -> Prepared:
    """For the GPU that is there."""
    device = gpu.open_device()
    core = _core(info, request, device.compute_capability, device.name)
    options, memory = _options(info, request, core, device)
    log(f"building with TensorRT {core.tensorrt} on {device.name}: minutes ...")
    return core, options, memory, device


def _for_cards(info: ModelInfo, request: EngineRequest, log: Callable[[str], object]) -> Prepared:
    """For cards that need not be there. Unverified unless this machine has one of them."""
    capabilities = request.capabilities or compiled.shared_targets()
    core = _core(info, request, capabilities[0], "")
    unverified = request.reference is None or why_not_run(request.product, capabilities) is not None
    core = dataclasses.replace(core, compute_capabilities=capabilities, unverified=unverified)
    log(f"building with {core.made_with} for compute capability {', '.join(capabilities)}: seconds ...")
    return core, builder.BuildOptions(
        batch=request.batch, workspace=request.workspace * MIB if request.workspace else None,
        capabilities=capabilities,
    ), {}, None


def why_not_run(name: str, capabilities: Tuple[str, ...]) -> Optional[str]:
    """Why an engine for these does not run here; None if it does."""
    problem = backends.engine_problem(name)
    if problem is not None:
        return problem
    device = backends.engine_library(name).open_device()
    if device.compute_capability not in capabilities:
        return f"{device.name} has compute capability {device.compute_capability}"
    return None


@contextlib.contextmanager
def _as_asked_for(engine: Path, temporary: Path) -> Iterator[None]:
    """Errors about the engine say the name that it will have."""
    try:
        yield
    except SsnEdgeError as error:
        raise type(error)(str(error).replace(temporary.name, engine.name)) from None


def _precision(info: ModelInfo, request: EngineRequest) -> str:
    """The engine's precision; InputError where file and release do not go together."""
    product = backends.engine_library(request.product).PRODUCT
    name = request.model
    if builder.typed(product):
        if request.fp16 and info.precision == "float32":
            raise InputError(
                f"{name}: {product.words()} takes half precision from the file; give the half graph, "
                "which ssn-export RUN --fp16 writes"
            )
        return info.precision
    if info.precision != "float32":
        raise InputError(
            f"{name}: {product.words()} chooses precisions itself; give the float32 file, with --fp16"
        )
    if request.fp16 and info.float32_nodes is None:
        raise InputError(
            f"{name}: exported without --fp16 (or with another plan than its half file), so the layers "
            "that need float32 are not known; export again with --fp16, or with --fp16 --plan none"
        )
    return "float16" if request.fp16 else "float32"


def _core(info: ModelInfo, request: EngineRequest, capability: str, device: str) -> EngineInfo:
    product = backends.engine_library(request.product).PRODUCT
    return EngineInfo(
        model=dataclasses.replace(info, plan_table={}, parity={}, float32_nodes=None),
        source=request.model.name,
        onnx_sha256=sha256(request.model),
        product=request.product,
        tensorrt=product.version(),
        compute_capability=capability,
        device=device,
        batch=request.batch,
        fp16_flag=request.fp16 and not builder.typed(product),
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
    if built.core.unverified:
        reason = (why_not_run(request.product, built.core.compute_capabilities) or "").partition(" (")[0]
        log(f"built, not run ({reason}); of a bundle it is compared with the trained model at each opening")
        return {}
    answers = run(engine, request.product, truth.images, request.batch, built.digest)
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
    """What the engine is made of, in short; printed in full with ``--layers``."""
    text, activations = built.kernels, None
    if request.product != "rtx":
        text, activations = layers.inspected(request.product, engine, built.digest, host_code=True)
    found = layers.of_engine(text, request.model, built.info, request.batch, request.show_layers, log)
    return {**found, "activation_bytes": activations}
