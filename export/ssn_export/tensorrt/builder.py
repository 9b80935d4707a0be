"""An ONNX file to a serialized plan: all calls of the builder, of TensorRT 8.5 to 11 and TensorRT for RTX.

Two ways. TensorRT 8 chooses precisions itself: it takes the float32 file, the FP16 flag, and the
list of layers that must not follow it. From 10 on, and for RTX, the network is strongly typed: precisions
are the file's. Names that only some releases have are asked for with ``hasattr`` right where they are used.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from ssn_edge.backends.nvidia import Product
from ssn_edge.errors import BackendError, InputError, ModelError
from ssn_edge.files import replacing
from ssn_edge.model.engine_file import NAME_BYTES
from ssn_edge.signals import stop_on_signals
from ssn_edge.text import one_line

if TYPE_CHECKING:  # either product's: which one is the argument's to say
    import tensorrt as trt

MIB = 1 << 20

OUT_OF_MEMORY = re.compile(r"out of memory|outofmemory|insufficient memory|memoryallocation", re.I)

CACHE_BYTES = 256 * MIB
"""Most that is read of a timing cache."""


@dataclass(frozen=True)
class BuildOptions:
    """How to build: ``fp16`` only where :func:`typed` is false, sizes in bytes. ``capabilities`` are what
    TensorRT for RTX builds for, as "8.6"; TensorRT builds for the GPU that is there."""

    batch: int = 1
    fp16: bool = False
    float32_nodes: Sequence[str] = ()
    workspace: Optional[int] = None
    tactic_memory: Optional[int] = None
    timing_cache: Optional[Path] = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    capabilities: Sequence[str] = ()


def typed(product: Product) -> bool:
    """Whether this release takes precisions from the file (TensorRT 10 and later, RTX)."""
    return hasattr(product.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def targets(product: Product) -> List[str]:
    """The compute capabilities that TensorRT for RTX can build for, as "8.6", in their order; none for
    TensorRT, which builds for the GPU that is there."""
    if not hasattr(product.trt, "ComputeCapability"):
        return []
    names = [name[2:] for name in product.trt.ComputeCapability.__members__ if name.startswith("SM")]
    return sorted((f"{name[:-1]}.{name[-1]}" for name in names), key=float)


def check_targets(product: Product, capabilities: Sequence[str]) -> None:
    """InputError for a compute capability that the library does not build for."""
    known = targets(product)
    for one in capabilities:
        if one not in known:
            raise InputError(
                f"compute capability {one}: {product.words()} builds for {', '.join(known) or 'the GPU here'}"
            )


def serialize(
    product: Product, model: Union[Path, bytes], name: str, options: BuildOptions,
    log: Callable[[str], object], show: bool = False, called: str = "",
) -> bytes:
    """The plan of an ONNX file, or of its bytes, which messages call ``called``; its network gets ``name``.
    TensorRT needs an active context, TensorRT for RTX no driver.

    ``show`` draws progress on stderr. Raises ModelError where the library does not take the graph,
    naming the node, or the name; BackendError where it cannot build it here; KeyboardInterrupt on Ctrl-C.
    """
    product.said.clear()
    called = called or str(model)
    builder: trt.Builder = product.created(product.trt.Builder, product.log)
    network: trt.INetworkDefinition = builder.create_network(_network_flags(product))
    parser: trt.OnnxParser = product.trt.OnnxParser(network, product.log)
    taken = parser.parse(model) if isinstance(model, bytes) else parser.parse_from_file(str(model))
    if not taken:
        raise ModelError(f"{called}: {product.words()} does not take it: {_parse_error(product, parser)}")
    network.name = name
    if network.name != name:  # too long, it says in its log alone; the parser's name would stay
        raise ModelError(
            f"{called}: {product.words()} does not take its description as the engine's name "
            f"({len(name.encode())} bytes; it takes {NAME_BYTES}); shorten the verdict's method and export "
            "again"
        )
    config: trt.IBuilderConfig = builder.create_builder_config()
    _configure(product, config, options)
    _aim(product, config, options.capabilities)
    _add_profile(builder, network, config, options.batch)
    if options.fp16:
        _mix_precisions(product, network, config, options.float32_nodes, log)
    cache = _load_cache(product, config, options.timing_cache, log)
    with _progress(product, config, show) as drawing:
        plan: trt.IHostMemory = builder.build_serialized_network(network, config)
    if drawing is not None and drawing.stop.is_set():
        raise KeyboardInterrupt
    if plan is None:
        raise BackendError(_build_error(product, called))
    if cache is not None and options.timing_cache is not None:
        _store_cache(config, options.timing_cache)
    return bytes(memoryview(plan))


def warnings(product: Product) -> List[str]:
    """What the parser and the builder warned of, each once."""
    return list(dict.fromkeys(" ".join(line.split()) for line in product.said.warnings))


def kernels(product: Product) -> str:
    """The list of the kernels that the last build made, in the builder's own words; "" where it has none
    (TensorRT: its inspector has them)."""
    return product.said.layers[-1] if product.said.layers else ""


def _network_flags(product: Product) -> int:
    if hasattr(product.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        return 1 << int(product.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    if hasattr(product.trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):
        return 1 << int(product.trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return 0


def _configure(product: Product, config: trt.IBuilderConfig, options: BuildOptions) -> None:
    config.profiling_verbosity = product.trt.ProfilingVerbosity.DETAILED  # layer names for reports
    # TF32 has half's mantissa: it would undo what the nodes in float32 are there for.
    config.clear_flag(product.trt.BuilderFlag.TF32)
    if options.workspace is not None:
        config.set_memory_pool_limit(product.trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.tactic_memory is not None and hasattr(product.trt.MemoryPoolType, "TACTIC_DRAM"):
        config.set_memory_pool_limit(product.trt.MemoryPoolType.TACTIC_DRAM, options.tactic_memory)
    if options.version_compatible:
        if not hasattr(product.trt.BuilderFlag, "VERSION_COMPATIBLE"):
            raise InputError(f"--version-compatible: {product.words()} cannot; 8.6 and later can")
        config.set_flag(product.trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        if not (
            hasattr(product.trt, "HardwareCompatibilityLevel")
            and hasattr(config, "hardware_compatibility_level")
        ):
            raise InputError(f"--hardware-compatible: {product.words()} cannot; 8.6 and later can")
        config.hardware_compatibility_level = product.trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _aim(product: Product, config: trt.IBuilderConfig, capabilities: Sequence[str]) -> None:
    """At these compute capabilities: all in one plan, which runs on cards of each."""
    if not capabilities:
        return
    check_targets(product, capabilities)
    if not (
        hasattr(product.trt, "ComputeCapability")
        and hasattr(config, "num_compute_capabilities")
        and hasattr(config, "set_compute_capability")
    ):
        raise InputError(f"{product.words()} builds for the GPU that is there")
    config.num_compute_capabilities = len(capabilities)
    for index, one in enumerate(capabilities):
        kind = product.trt.ComputeCapability.__members__["SM" + one.replace(".", "")]
        if not config.set_compute_capability(kind, index):
            raise BackendError(f"{product.words()} takes no compute capability {one} ({product.said.last()})")


def _add_profile(
    builder: trt.Builder, network: trt.INetworkDefinition, config: trt.IBuilderConfig, batch: int
) -> None:
    """Any batch up to ``batch``, fastest at ``batch``."""
    profile: trt.IOptimizationProfile = builder.create_optimization_profile()
    image: trt.ITensor = network.get_input(0)
    shape = tuple(image.shape)[1:]
    profile.set_shape(image.name, (1, *shape), (batch, *shape), (batch, *shape))
    config.add_optimization_profile(profile)


def _mix_precisions(
    product: Product,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    float32_nodes: Sequence[str],
    log: Callable[[str], object],
) -> None:
    """TensorRT 8: half where it likes, but not in the layers that were measured to need float32."""
    if not (
        hasattr(product.trt.BuilderFlag, "FP16")
        and hasattr(product.trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS")
        and hasattr(product.trt.ILayer, "precision")
        and hasattr(product.trt.ILayer, "set_output_type")
    ):
        raise InputError(f"{product.words()} takes precisions from the file alone")
    config.set_flag(product.trt.BuilderFlag.FP16)
    config.set_flag(product.trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    wanted, found = set(float32_nodes), set()
    for number in range(network.num_layers):
        layer: trt.ILayer = network.get_layer(number)
        if layer.name not in wanted:
            continue
        found.add(layer.name)
        first: Optional[trt.ITensor] = layer.get_input(0)
        if first is None or first.dtype != product.trt.DataType.FLOAT:  # casts from bytes, constants
            continue
        layer.precision = product.trt.DataType.FLOAT
        for index in range(layer.num_outputs):
            output: trt.ITensor = layer.get_output(index)
            if output.dtype == product.trt.DataType.FLOAT:  # a comparison's is a boolean
                layer.set_output_type(index, product.trt.DataType.FLOAT)
    if wanted - found:
        log(f"{len(wanted - found)} of {len(wanted)} float32 nodes have no layer of their name: "
            f"{', '.join(sorted(wanted - found)[:3])} ...; the comparison will tell")


def _load_cache(
    product: Product, config: trt.IBuilderConfig, path: Optional[Path], log: Callable[[str], object]
) -> Optional[trt.ITimingCache]:
    """The timing cache of ``path``, or an empty one where it is absent or another device's."""
    if path is None:
        return None
    stored = _read_cache(path)
    for data in (stored, b"") if stored else (b"",):
        cache: trt.ITimingCache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
        if data:
            log(f"{path}: timing cache of another {product.title} or GPU, or damaged; starting a new one")
    log(f"--timing-cache {path}: {product.title} made none; building without")
    return None


def _store_cache(config: trt.IBuilderConfig, path: Path) -> None:
    """Write the cache, joined with what another build has written there meanwhile."""
    cache: trt.ITimingCache = config.get_timing_cache()
    written = _read_cache(path)
    if written:
        other: trt.ITimingCache = config.create_timing_cache(written)
        if other is not None:
            cache.combine(other, False)
    data: trt.IHostMemory = cache.serialize()
    with replacing(path) as temporary:
        temporary.write_bytes(memoryview(data))


def _read_cache(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(CACHE_BYTES)


def _parse_error(product: Product, parser: trt.OnnxParser) -> str:
    lines = []
    for index in range(parser.num_errors):
        error: trt.ParserError = parser.get_error(index)
        where = f"node {error.node()}"
        if hasattr(error, "node_name") and hasattr(error, "node_operator"):
            where = f"node {error.node_name()} ({error.node_operator()})"
        lines.append(f"{where}: {one_line(error.desc(), 200)}")
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return (lines[0] if lines else product.said.first()) + more


def _build_error(product: Product, called: str) -> str:
    errors = [" ".join(line.split()) for line in product.said.errors]
    if any(OUT_OF_MEMORY.search(line) for line in errors):
        return (
            f"{called}: out of memory while building ({errors[-1][:160]}); give --workspace a smaller "
            "value, a smaller --batch, close other programs, or add swap"
        )
    reason = "; ".join(dict.fromkeys((*errors[:1], *errors[-1:])))[:400]
    return f"{called}: {product.words()} could not build it: {reason or 'no reason given'}"


class Drawing:
    """One line on stderr for the builder's phases, and a way to stop: it asks after each step."""

    def __init__(self, show: bool) -> None:
        self.stop = threading.Event()
        self._show, self._start = show, time.monotonic()
        self._phases: Dict[str, Tuple[int, int]] = {}  # name -> steps done, steps

    def start(self, name: str, steps: int) -> None:
        self._phases[name] = (0, steps)

    def step(self, name: str, number: int) -> bool:
        if name in self._phases:
            self._phases[name] = (number + 1, self._phases[name][1])
        self._draw()
        return not self.stop.is_set()

    def finish(self, name: str) -> None:
        self._phases.pop(name, None)
        if not self._phases and self._show:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        if self._show:
            parts = [f"{name} {done}/{total}" for name, (done, total) in self._phases.items()]
            seconds = time.monotonic() - self._start
            line = f"building {seconds:4.0f} s: {' > '.join(parts)}"[:110]
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def monitor_of(product: Product, drawing: Drawing) -> Any:
    """The builder's monitor that draws; only where the release has one."""
    if not hasattr(product.trt, "IProgressMonitor"):
        raise BackendError(f"{product.words()} has no progress monitor")

    class Monitor(product.trt.IProgressMonitor):  # type: ignore[name-defined]
        """Hands on what the builder reports."""

        def __init__(self) -> None:
            product.trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            drawing.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return drawing.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            drawing.finish(phase_name)

    return Monitor()


@contextlib.contextmanager
def _progress(
    product: Product, config: trt.IBuilderConfig, show: bool
) -> Iterator[Optional[Drawing]]:
    """Draws progress where the release has a monitor; Ctrl-C then ends the build, and what is yielded says
    so."""
    if not (hasattr(product.trt, "IProgressMonitor") and hasattr(config, "progress_monitor")):
        yield None
        return
    drawing = Drawing(show)
    config.progress_monitor = monitor_of(product, drawing)
    with stop_on_signals(drawing.stop, (signal.SIGINT,), once=False):
        yield drawing
