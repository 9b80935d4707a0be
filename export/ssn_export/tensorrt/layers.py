"""What an engine is made of, or a graph by NVIDIA's compiler where no engine fits this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ssn_edge import backends
from ssn_edge.backends import selection
from ssn_edge.errors import BackendError, InputError, SsnEdgeError
from ssn_edge.model import bundle
from ssn_edge.model.onnx_metadata import read_info
from ssn_edge.model.schema import ModelInfo
from ssn_export.tensorrt import compiled, kernels
from ssn_export.tensorrt.builder import MIB


def of_engine(
    text: str, graph: Path, info: ModelInfo, batch: int, show: bool, log: Callable[[str], object]
) -> Dict[str, Any]:
    """For the record, what the inspector or the builder (``text``) says of an engine of the file ``graph``;
    float32 where a half engine was not to have it is warned of, and all of it printed with ``show``."""
    found = kernels.report(text, _loaded(graph), batch, info.float32_nodes)
    for line in found.lines(each=True) if show else []:
        log(line)
    document = found.document()
    if info.precision == "float16":
        for name in document["float32_fallbacks"]:
            log(f"warning: fell back to float32: {name[:100]}")
    return document


def inspected(
    library: str, engine: Path, digest: Optional[str], host_code: bool
) -> Tuple[str, int]:
    """The inspector's report of an engine, on its GPU, and the bytes of its activations. ``host_code``: the
    engine may bring code for the host."""
    session = backends.engine_library(library).open_session(engine, 1, digest, host_code)
    try:
        return session.layers(), session.device_memory()
    finally:
        session.close()


def show(
    model: Path, precision: Optional[str] = None, capabilities: Sequence[str] = (), batch: int = 1
) -> List[str]:
    """Line by line: of an engine file; of a bundle the engine for this machine, and where there is none, or
    ``capabilities`` are given, of the graphs of a bundle or an ONNX file as TensorRT for RTX compiles them;
    of a bundle's those for RTX cards first, where it has any.

    Raises BackendError where neither can be had.
    """
    if model.suffix == ".engine":
        for option in (*(["--sm"] if capabilities else []), *(["--precision"] if precision else [])):
            raise InputError(f"{option}: {model} is an engine, as it was built; give the bundle")
    if model.suffix == ".onnx" or capabilities:
        return _of_graphs(model, precision, tuple(capabilities), batch)
    choice, reason = _fitting(model, precision)
    if choice is None:
        if compiled.missing() is not None:
            raise BackendError(f"{model}: {reason}")
        return [f"no engine for this machine ({reason}):", *_of_graphs(model, precision, (), batch)]
    title, found = of_choice(choice, batch)
    return [title, *found.lines(each=True)]


def of_choice(choice: selection.Choice, batch: int = 1) -> Tuple[str, kernels.Report]:
    """What is run, and what it is made of: the engine, or the graph by TensorRT for RTX. BackendError where
    that is not installed."""
    if choice.library.NAME in backends.ENGINES:
        text, activations = inspected(
            choice.library.NAME, choice.path, choice.digest, choice.host_code
        )
        graph = _graph_of(choice)
        nodes = read_info(graph).float32_nodes if graph else ()
        title = f"{choice.path.name}, {activations / MIB:.1f} MiB of activations:"
        return title, kernels.report(text, _loaded(graph), batch, nodes)
    return _compiled(choice.path, compiled.CARD[0], batch)


def _fitting(model: Path, precision: Optional[str]) -> Tuple[Optional[selection.Choice], str]:
    """The engine that runs here; or why there is none. A plain engine's error is the answer itself."""
    if model.suffix == ".engine":
        return selection.choose(model), ""
    reasons = []
    for name in backends.ENGINES:
        try:
            return selection.choose(model, name, precision), ""
        except SsnEdgeError as error:
            reasons.append(str(error).replace(f"{model}: ", ""))
    return None, "; ".join(dict.fromkeys(reasons))


def _graph_of(choice: selection.Choice) -> Optional[Path]:
    """The graph of the bundle that the engine was built from."""
    if choice.bundle is None:
        return None
    built = {one.name: one.engine for one in choice.bundle.entries}.get(choice.path.name)
    for entry in choice.bundle.all_graphs():
        if built is not None and entry.sha256 == built.onnx_sha256:
            return bundle.check(choice.bundle, entry)
    return None


def _of_graphs(
    model: Path, precision: Optional[str], capabilities: Tuple[str, ...], batch: int
) -> List[str]:
    problem = compiled.missing()
    if problem is not None:
        raise BackendError(f"{model}: {problem}")
    lines: List[str] = []
    for path, what in _graphs(model, precision):
        for capability in capabilities or compiled.CARD:
            title, found = _compiled(path, capability, batch)
            lines += [what + title, *found.lines(each=True)]
    return lines


def _compiled(graph: Path, capability: str, batch: int) -> Tuple[str, kernels.Report]:
    model = _loaded(graph)
    if capability == compiled.TURING and model is not None:
        from ssn_export.tensorrt import turing  # needs onnx, which is there

        model = turing.for_turing(model)
    source = graph if model is None else model.SerializeToString()
    made = compiled.compiled(source, str(graph), (capability,), batch)
    found = kernels.report(made.kernels, model, batch, read_info(graph).float32_nodes)
    return f"{graph.name}, {made.made_with}, compute capability {capability}:", found


def _graphs(model: Path, precision: Optional[str]) -> List[Tuple[Path, str]]:
    """Each with what it is for, as a title begins."""
    if model.suffix == ".onnx":
        if precision is not None:
            raise InputError(f"--precision: {model} is one graph; give a bundle")
        return [(model, "")]
    found, graphs = bundle.read(model), []
    for name in [precision] if precision else found.graphs():
        ours = selection.graph_of(found, name)
        entries = {"": ours}
        own = selection.graph_of(found, name, compiled.RTX)
        if own != ours:
            entries = {f"for RTX cards, plan {own.plan}: ": own, f"for any machine, plan {ours.plan}: ": ours}
        graphs += [(bundle.check(found, entry), what) for what, entry in entries.items()]
    return graphs


def _loaded(graph: Optional[Path]) -> Any:
    """The ONNX model; None where there is none, or no onnx, as on a device: products are not counted then."""
    if graph is None:
        return None
    try:
        import onnx
    except ImportError:
        return None
    return onnx.load(str(graph))
