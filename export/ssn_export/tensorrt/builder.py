"""An ONNX file to a serialized TensorRT plan: all calls of the builder, 8.5 to 11.

Two ways. TensorRT 8 chooses precisions itself: it takes the float32 file, the FP16 flag, and the
list of layers that must not follow it. From 10 on the network is strongly typed: precisions are the
file's. Names that only some releases have are asked for with ``hasattr`` right where they are used.
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
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import tensorrt as trt

from ssn_edge.backends.tensorrt_backend import LOG, created, version
from ssn_edge.errors import BackendError, InputError, ModelError
from ssn_edge.files import replacing
from ssn_edge.model.engine_file import NAME_BYTES
from ssn_edge.signals import stop_on_signals
from ssn_edge.text import one_line

MIB = 1 << 20

OUT_OF_MEMORY = re.compile(r"out of memory|outofmemory|insufficient memory|memoryallocation", re.I)

CACHE_BYTES = 256 * MIB
"""Most that is read of a timing cache."""


@dataclass(frozen=True)
class BuildOptions:
    """How to build: ``fp16`` only where :func:`typed` is false, sizes in bytes."""

    batch: int = 1
    fp16: bool = False
    float32_nodes: Sequence[str] = ()
    workspace: Optional[int] = None
    tactic_memory: Optional[int] = None
    timing_cache: Optional[Path] = None
    version_compatible: bool = False
    hardware_compatible: bool = False


def typed() -> bool:
    """Whether this release takes precisions from the file (10 and later)."""
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def serialize(
    model: Path, name: str, options: BuildOptions, log: Callable[[str], object], show: bool = False
) -> bytes:
    """The plan of an ONNX file whose network is called ``name``; the context must be active.

    ``show`` draws progress on stderr. Raises ModelError where TensorRT does not take the graph,
    naming the node, or the name; BackendError where it cannot build it here; KeyboardInterrupt on Ctrl-C.
    """
    LOG.clear()
    builder: trt.Builder = created(trt.Builder, LOG)
    network: trt.INetworkDefinition = builder.create_network(_network_flags())
    parser: trt.OnnxParser = trt.OnnxParser(network, LOG)
    if not parser.parse_from_file(str(model)):
        raise ModelError(f"{model}: TensorRT {version()} does not take it: {_parse_error(parser)}")
    network.name = name
    if network.name != name:  # too long, it says in its log alone; the parser's name would stay
        raise ModelError(
            f"{model}: TensorRT {version()} does not take its description as the engine's name "
            f"({len(name.encode())} bytes; it takes {NAME_BYTES}); shorten the verdict's method and export "
            "again"
        )
    config: trt.IBuilderConfig = builder.create_builder_config()
    _configure(config, options)
    _add_profile(builder, network, config, options.batch)
    if options.fp16:
        _mix_precisions(network, config, options.float32_nodes, log)
    cache = _load_cache(config, options.timing_cache, log)
    with _progress(config, show) as monitor:
        plan: trt.IHostMemory = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.stop.is_set():
        raise KeyboardInterrupt
    if plan is None:
        raise BackendError(_build_error(model))
    if cache is not None and options.timing_cache is not None:
        _store_cache(config, options.timing_cache)
    return bytes(memoryview(plan))


def warnings() -> List[str]:
    """What the builder warned of, each once."""
    return list(dict.fromkeys(" ".join(line.split()) for line in LOG.warnings))


def _network_flags() -> int:
    if hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):
        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return 0


def _configure(config: trt.IBuilderConfig, options: BuildOptions) -> None:
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # layer names for reports
    # TF32 has half's mantissa: it would undo what the nodes in float32 are there for.
    config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.tactic_memory is not None and hasattr(trt.MemoryPoolType, "TACTIC_DRAM"):
        config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_DRAM, options.tactic_memory)
    if options.version_compatible:
        if not hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE"):
            raise InputError(f"--version-compatible: TensorRT {version()} cannot; 8.6 and later can")
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        if not (
            hasattr(trt, "HardwareCompatibilityLevel")
            and hasattr(config, "hardware_compatibility_level")
        ):
            raise InputError(f"--hardware-compatible: TensorRT {version()} cannot; 8.6 and later can")
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


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
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    float32_nodes: Sequence[str],
    log: Callable[[str], object],
) -> None:
    """TensorRT 8: half where it likes, but not in the layers that were measured to need float32."""
    if not (
        hasattr(trt.BuilderFlag, "FP16")
        and hasattr(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS")
        and hasattr(trt.ILayer, "precision")
        and hasattr(trt.ILayer, "set_output_type")
    ):
        raise InputError(f"TensorRT {version()} takes precisions from the file alone")
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    wanted, found = set(float32_nodes), set()
    for number in range(network.num_layers):
        layer: trt.ILayer = network.get_layer(number)
        if layer.name not in wanted:
            continue
        found.add(layer.name)
        first: Optional[trt.ITensor] = layer.get_input(0)
        if first is None or first.dtype != trt.DataType.FLOAT:  # casts from bytes, constants
            continue
        layer.precision = trt.DataType.FLOAT
        for index in range(layer.num_outputs):
            output: trt.ITensor = layer.get_output(index)
            if output.dtype == trt.DataType.FLOAT:  # a comparison's is a boolean
                layer.set_output_type(index, trt.DataType.FLOAT)
    if wanted - found:
        log(f"{len(wanted - found)} of {len(wanted)} float32 nodes have no layer of their name: "
            f"{', '.join(sorted(wanted - found)[:3])} ...; the comparison will tell")


def _load_cache(
    config: trt.IBuilderConfig, path: Optional[Path], log: Callable[[str], object]
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
            log(f"{path}: timing cache of another TensorRT or GPU, or damaged; starting a new one")
    log(f"--timing-cache {path}: TensorRT made none; building without")
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


def _parse_error(parser: trt.OnnxParser) -> str:
    lines = []
    for index in range(parser.num_errors):
        error: trt.ParserError = parser.get_error(index)
        where = f"node {error.node()}"
        if hasattr(error, "node_name") and hasattr(error, "node_operator"):
            where = f"node {error.node_name()} ({error.node_operator()})"
        lines.append(f"{where}: {one_line(error.desc(), 200)}")
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return (lines[0] if lines else LOG.reason()) + more


def _build_error(model: Path) -> str:
    errors = [" ".join(line.split()) for line in LOG.errors]
    if any(OUT_OF_MEMORY.search(line) for line in errors):
        return (
            f"{model}: out of memory while building ({errors[-1][:160]}); give --workspace a smaller "
            "value, a smaller --batch, close other programs, or add swap"
        )
    return f"{model}: TensorRT {version()} could not build it: {'; '.join(errors[-2:])[:400] or 'no reason'}"


if hasattr(trt, "IProgressMonitor"):

    class Progress(trt.IProgressMonitor):
        """One line on stderr, and a way to stop: the builder asks after each step."""

        def __init__(self, show: bool) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stop = threading.Event()
            self._show, self._start = show, time.monotonic()
            self._phases: Dict[str, Tuple[int, int]] = {}  # name -> steps done, steps

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            self._phases[phase_name] = (0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._phases:
                self._phases[phase_name] = (step + 1, self._phases[phase_name][1])
            self._draw()
            return not self.stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)
            if not self._phases and self._show:
                print("\r\033[K", end="", file=sys.stderr, flush=True)

        def _draw(self) -> None:
            if self._show:
                parts = [f"{name} {done}/{total}" for name, (done, total) in self._phases.items()]
                seconds = time.monotonic() - self._start
                line = f"building {seconds:4.0f} s: {' > '.join(parts)}"[:110]
                print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _progress(config: trt.IBuilderConfig, show: bool) -> Iterator[Optional[Progress]]:
    """Draws progress where the release has a monitor; Ctrl-C then ends the build, and the monitor
    that is yielded says so."""
    if not (hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor")):
        yield None
        return
    monitor = Progress(show)
    config.progress_monitor = monitor

    with stop_on_signals(monitor.stop, (signal.SIGINT,), once=False):
        yield monitor
