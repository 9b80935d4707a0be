"""Which file runs on which library: a plain file itself, of a bundle the best entry for this machine."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from ssn_edge import backends
from ssn_edge.backends.session import Library
from ssn_edge.errors import BackendError, InputError, ModelError
from ssn_edge.files import PathLike, open_plain
from ssn_edge.model import bundle
from ssn_edge.model.bundle import Bundle, Entry
from ssn_edge.model.engine_file import HEAD_BYTES, PRODUCTS, check_trust, product_of
from ssn_edge.model.schema import ModelInfo
from ssn_edge.text import one_line

PRECISIONS = ("float32", "float16")


@dataclass(frozen=True)
class Choice:
    """A back end's module, the file it opens, and in one line why it was taken.

    ``digest``: what the back end finds the file to hash to, or refuses it; None where that was done or none
    is known. ``host_code``: the user gave a sha256, so an engine may bring code for the host. ``bundle``:
    what the file is of, whose manifest says what it must say of itself; ``sha256``: the file's, by that.
    ``uncompared``: what runs is made on this machine, so that it is compared with the trained model first.
    """

    library: Library
    path: Path
    why: str
    digest: Optional[str] = None
    host_code: bool = False
    bundle: Optional[Bundle] = None
    sha256: str = ""
    uncompared: bool = False


def choose(
    model: PathLike, backend: str = "auto", precision: Optional[str] = None, batch: int = 1,
    sha256: Optional[str] = None, verify: bool = False,
) -> Choice:
    """What to open for ``model``; arguments as of :meth:`ssn_edge.Detector.open`.

    Raises InputError for what is not there, is read by no back end, or not by this one; ModelError for a
    damaged bundle; BackendError where no library is installed.
    """
    path = Path(model)
    if path.is_dir() and not bundle.is_bundle(path):
        raise InputError(f"{path}: {_folder(path)}")
    if bundle.is_bundle(path):
        return _of_bundle(path, backend, precision, batch, sha256, verify)
    if verify:
        raise InputError(f"{path}: --verify is for bundles; a plain file's digest is --sha256's to give")
    if not path.exists():
        raise InputError(f"{path}: no such model file; write one with ssn-export RUN --out NAME.ssn")
    readers = _readers(path)
    if readers is None:
        raise InputError(
            f"{path}: not an .onnx, .engine or .xml file, nor a bundle (.ssn); write one with ssn-export RUN "
            "--out NAME.ssn"
        )
    if backend == "auto":
        name, why = "auto" if len(readers) > 1 else readers[0], "the file as given"
    elif backends.base_of(backend) in readers or backends.base_of(backend) not in backends.BACKENDS:
        name, why = backend, "asked for"
    else:
        engine = ", or a bundle with an engine" if backend in backends.ENGINES else ""
        raise InputError(f"{path}: runs on {' or '.join(readers)} alone; give --backend auto{engine}")
    return Choice(backends.load(name), path, why, sha256, sha256 is not None)


def _readers(path: Path) -> Optional[Tuple[str, ...]]:
    """The back ends for a plain file: an engine says whose it is."""
    readers = backends.FILES.get(path.suffix)
    if readers != backends.ENGINES or not path.is_file():
        return readers
    with open_plain(path) as file:
        return (product_of(file.read(HEAD_BYTES)),)


def _folder(path: Path) -> str:
    """What is said of a folder that is no bundle."""
    if (path / "model.safetensors").is_file():
        return f"is a run folder of ssn-train; export it first: ssn-export {path} --out model.ssn"
    return "is a folder and no bundle; give NAME.ssn as ssn-export writes it, or an .onnx or .engine file"


def _of_bundle(
    path: Path, backend: str, precision: Optional[str], batch: int, sha256: Optional[str], verify: bool
) -> Choice:
    found = bundle.read(path, sha256)
    trusted = sha256 is not None
    reasons = []
    for name in backends.ENGINES if backend == "auto" else (backend,) if backend in backends.ENGINES else ():
        asked = name == backend
        library = backends.load(name) if asked else None
        entry, reason = _engine(found, name, precision, batch, asked, trusted)
        if entry is not None and entry.engine is not None:
            check_trust(found.place(entry), entry.engine, trusted)
            return Choice(library or backends.load(name), found.place(entry), reason, entry.sha256, trusted,
                          found, entry.sha256, compared_later(found, entry))
        if asked:
            raise InputError(f"{path}: {reason}")
        if name == backends.ENGINES[0] or _has_engine(found, name):
            reasons.append(f"; not {PRODUCTS[name]}: {reason}")
    skipped = "".join(reasons)
    try:
        library = backends.load(backend)
    except BackendError as error:
        raise BackendError(f"{error}{skipped}") from None
    graph = graph_of(found, precision or PRECISIONS[0])
    why = f"{graph.name}{skipped or ', asked for'}"
    checked = bundle.check(found, graph, verify or trusted)  # who names a digest trusts no note of ours
    return Choice(library, checked, why, bundle=found, sha256=graph.sha256)


def graph_of(found: Bundle, precision: str, target: Optional[str] = None) -> Entry:
    """The ONNX file of a precision: that for the ``target`` ("rtx", "orin") where there is one, else the one
    for any machine. InputError, saying what there is, where there is none."""
    graphs = found.graphs()
    for entry in found.of_role("graph") if target is not None else ():
        if (entry.target, entry.precision) == (target, precision):
            return entry
    if precision not in graphs:
        option = " with --fp16" if precision == "float16" else ""
        others = one_line(", ".join(sorted(graphs)) or "none at all")
        raise InputError(
            f"{found.path}: no {precision} graph in it, but {others}; export it again{option}"
        )
    return graphs[precision]


def _has_engine(found: Bundle, product: str) -> bool:
    return any(one.engine is not None and one.engine.product == product for one in found.entries)


def _engine(
    found: Bundle, product: str, precision: Optional[str], batch: int, asked: bool, trusted: bool
) -> Tuple[Optional[Entry], str]:
    """The engine of this product that suits this machine best, and why it was taken or in a few words why
    there is none. The GPU is looked at only if there is an engine: a CUDA context takes its share of the
    memory."""
    word = "" if product == backends.ENGINES[0] else f" {product}"
    build = f"build one: ssn-export {found.path} --engine{word}"
    if importlib.util.find_spec(backends.BACKENDS[product]) is None:
        return None, f"{PRODUCTS[product]} is not installed"
    engines = [
        one for one in found.of_role("engine")
        if precision in (None, one.precision) and one.engine is not None and one.engine.product == product
    ]
    if not engines:
        return None, f"no {precision + ' ' if precision else ''}engine in it; {build}"
    problem = backends.engine_problem(product)
    if problem is not None:
        return None, problem
    fitting, misfits = _fitting(product, engines)
    if not fitting:
        return None, f"{misfits[0]}; {build}"
    if not asked:
        compared = [one for one in fitting if one.verified or compared_later(found, one)]
        if not compared:
            name = fitting[0].name
            return None, f"{name} was never compared with the trained model; --backend {product} takes it"
        fitting = compared
    safe = [one for one in fitting if trusted or not (one.engine and one.engine.version_compatible)]
    if not safe and not asked:
        return None, f"{fitting[0].name} brings code for the host; --sha256 of the manifest allows it"
    fitting = safe or fitting
    best = min(fitting, key=lambda one: _rank(one, batch))
    return best, f"{best.name}, {_of(len(fitting), len(engines))}"


def compared_later(found: Bundle, entry: Entry) -> bool:
    """Whether it is held against the bundle's reference frames at each opening: engines for RTX are, since
    their kernels are compiled there, for a card on which no builder may have compared them."""
    for_rtx = entry.engine is not None and entry.engine.product == "rtx"
    return for_rtx and bool(found.of_role("reference"))


def _of(fitting: int, engines: int) -> str:
    if engines == 1:
        return "built for this GPU"
    return f"the best of {fitting} that fit this GPU, of {engines} engines"


def _fitting(product: str, engines: List[Entry]) -> Tuple[List[Entry], List[str]]:
    """Engines that run here, and why the others do not."""
    library = backends.engine_library(product)
    device = library.open_device()
    fitting, misfits = [], []
    for one in engines:
        assert one.engine is not None
        misfit = one.engine.misfit(product, library.version(), device.compute_capability, device.name)
        if misfit is None:
            fitting.append(one)
        else:
            misfits.append(f"{one.name}: {misfit}")
    return fitting, misfits


def _rank(entry: Entry, batch: int) -> Tuple[bool, int, bool, bool, int]:
    """Least first: takes the batch (or comes nearest), half precision, made for this GPU alone, tuned for
    no more images than needed."""
    engine = entry.engine
    assert engine is not None
    short = engine.batch < batch
    general = engine.version_compatible or engine.hardware_compatible
    return short, -engine.batch if short else 0, entry.precision != "float16", general, engine.batch


def check_core(choice: Choice, info: ModelInfo) -> None:
    """:func:`check_same` for what was chosen from a bundle."""
    if choice.bundle is not None:
        check_same(choice.path, info, choice.bundle)


def check_same(path: Path, info: ModelInfo, found: Bundle) -> None:
    """ModelError unless a bundle's file says of itself what the manifest says of the model. The verdict may
    be another where the bundle has calibrations: what a graph says of one is from its export."""
    core = found.model
    if info.same_network(core) and (found.history or info.verdict == core.verdict):
        return
    ours, theirs = map(one_line, (info.checkpoint_sha256, core.checkpoint_sha256))
    what = f"made from another training (checkpoint {ours[:12]}..., the bundle's is {theirs[:12]}...)"
    raise ModelError(
        f"{path}: {what if ours != theirs else 'describes another model than the manifest'}; "
        "export or copy the bundle again"
    )
