"""What can be timed: bundles and model files, trained models in eager PyTorch, and other methods by name."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

from ssn_bench.comparison.paper import OURS
from ssn_bench.measure import environment
from ssn_bench.measure.protocol import Call
from ssn_bench.measure.ready import ReadyContender, file_of, noise
from ssn_edge import backends
from ssn_edge.backends import selection
from ssn_edge.detector import Detector
from ssn_edge.errors import InputError, needs
from ssn_edge.model import bundle

TORCH = "torch"
"""Eager PyTorch: no back end of the runtime, but what the published code is."""

VARIANTS = ("icpr", "jims")
"""Of SuperSimpleNet; a file of another method names that instead."""

OTHERS = ("auto", "all", TORCH)
"""What ``--backend`` takes besides the runtime's back ends."""


@dataclass(frozen=True)
class Contender:
    """``word`` as given on the command line, ``label`` in tables; ``file`` is None for eager PyTorch and
    for a method whose file is yet to be made. ``precision`` narrows the choice from a bundle; ``opens``: the
    library and the file that will run. ``threads`` of the CPU, the library's own number if None."""

    word: str
    label: str
    backend: str
    file: Optional[Path] = None
    run: Optional[Path] = None
    opens: Optional[Tuple[str, Path]] = None
    precision: Optional[str] = None
    threads: Optional[int] = None


def parse(
    names: Sequence[str], wanted: Sequence[str], precision: Optional[str] = None,
    threads: Optional[int] = None,
) -> List[Contender]:
    """Every name on every back end that is wanted and can run it; labels are unique.

    ``auto`` is the best back end for a model and eager PyTorch for a run folder; ``all`` every one that is
    installed. ``precision`` is which of a bundle's files to take, ``threads`` how many of the CPU compute. A
    name may stand there twice, for the spread of equals. InputError for a name that is none of the three, and
    for two that would be one file on one library: one time under two names.
    """
    found: List[Contender] = []
    for name in names:
        for backend in _expand(name, wanted):
            one = _contender(name, backend, precision)
            _check_another(one, found)
            if threads is not None:
                one = _with_threads(one, threads)
            copies = sum(other.label.partition(" #")[0] == one.label for other in found)
            label = f"{one.label} #{copies + 1}" if copies else one.label
            found.append(dataclasses.replace(one, label=label))
    return found


def _with_threads(one: Contender, threads: int) -> Contender:
    if one.backend == TORCH:
        raise InputError(f"{one.label}: --threads is not for eager PyTorch, only for exported models")
    label = f"{one.label}, {threads} thread{'s' if threads > 1 else ''}"
    return dataclasses.replace(one, label=label, threads=threads)


def _check_another(one: Contender, found: Sequence[Contender]) -> None:
    for other in found:
        if one.opens is not None and one.opens == other.opens and Path(one.word) != Path(other.word):
            library, path = one.opens
            remedy = ", or --backend onnxruntime" if library in backends.ENGINES else ""
            raise InputError(
                f"{other.word} and {one.word}: both run {path.name} on {library}; give one of them{remedy}"
            )


def _expand(word: str, wanted: Sequence[str]) -> List[str]:
    names: List[str] = []
    is_run = _is_run(Path(word))
    for name in wanted:
        if name == "all":
            names += [TORCH] if is_run else backends.installed()
        elif name == "auto":
            names.append(TORCH if is_run else name)
        else:
            names.append(name)
    if is_run and set(names) != {TORCH}:
        raise InputError(f"{word}: a run folder runs in eager PyTorch alone; export it for {names[0]}")
    return list(dict.fromkeys(names))


def _is_run(path: Path) -> bool:
    return path.is_dir() and not bundle.is_bundle(path)


def _contender(word: str, backend: str, precision: Optional[str]) -> Contender:
    path = Path(word)
    if _is_run(path):
        with needs("demo", f"{path}, a run folder"):
            from ssn_bench.methods import eager  # noqa: F401
        return Contender(word, f"{path.name}, eager PyTorch", backend, run=path)
    if path.suffix in backends.FILES or bundle.is_bundle(path):
        if backend == TORCH:
            raise InputError(f"{path}: eager PyTorch runs run folders and methods, not exported models")
        choice = selection.choose(path, backend, precision)
        name = choice.library.NAME
        opens = (name, choice.path.resolve())
        return Contender(word, f"{path.name}, {name}", backend, path, opens=opens, precision=precision)
    peers = _peers(word)
    if word not in peers.PEERS:
        raise InputError(
            f"{word}: no bundle (.ssn), no model file (.onnx, .engine, .xml), no run folder and none of the "
            f"methods {', '.join(peers.PEERS)}"
        )
    shown = "eager PyTorch" if backend == TORCH else backends.load(backend).NAME
    return Contender(word, f"{word}, {shown}", backend)


def _peers(word: str) -> Any:
    with needs("bench-peers", f"{word}: no such model file; for methods by name"):
        from ssn_bench.methods import peers
    return peers


@contextlib.contextmanager
def folder_for(keep: Optional[Path]) -> Iterator[Path]:
    """``keep``, or a temporary folder, for the files of methods."""
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="ssn-bench-") as name:
        yield Path(name)


def model_of(one: Contender, batch: int, folder: Path, log: Callable[[str], object]) -> Path:
    """The bundle or model file; a method's is made unless ``folder`` has it. InputError for eager PyTorch."""
    if one.file is not None:
        return one.file
    if one.run is not None or one.backend == TORCH:
        raise InputError(f"{one.label}: not a model file; export it, or choose another --backend")
    path = folder / f"{one.word}-b{batch}.onnx"
    if not path.is_file():
        log(f"making {path.name} ...")
        _peers(one.word).write(one.word, path, batch)
    return path


@contextlib.contextmanager
def opened(
    one: Contender, wanted_batch: int, folder: Path, log: Callable[[str], object]
) -> Iterator[ReadyContender]:
    """The contender with seeded noise for images: no network's time depends on what is in the picture.

    An engine built for fewer images than ``wanted_batch`` gets as many as it takes. ``folder`` is
    where methods' files are made.
    """
    if one.backend == TORCH:
        from ssn_bench.methods import eager

        yield eager.opened(one.word, one.run, wanted_batch)
        return
    path = model_of(one, wanted_batch, folder, log)
    batch = wanted_batch if one.file is None else _largest(one, path, wanted_batch)
    with Detector.open(
        path, one.backend, batch=batch, precision=one.precision, threads=one.threads
    ) as detector:
        images = noise(batch, detector.info.input_hw)
        info = detector.info
        about = {
            "backend": detector.backend_name,
            "backend_choice": detector.choice,
            "threads": one.threads,
            **file_of(path, detector),
            "device": _device(detector),
            "method": OURS if info.variant in VARIANTS else info.variant,
            "backbone": info.backbone,
            "precision": info.precision,
            "plan": info.plan,
            "size": list(info.size_hw),
            "design": None if info.design is None else dataclasses.asdict(info.design),
        }
        call = Call(lambda: detector.infer_batch(images), detector.device_ms)
        yield ReadyContender(call, batch, about, path)


def _device(detector: Detector) -> str:
    """Where it computes: the GPU's name or the CPU's; ONNX Runtime does not say which of a provider's."""
    if detector.library not in ("onnxruntime:openvino", *backends.BACKENDS):
        return f"a device of {detector.library}"
    if detector.device_ms is None:
        return environment.processor()
    from ssn_edge.backends import gpu

    return gpu.open_device().name


def _largest(one: Contender, path: Path, wanted: int) -> int:
    """As many images at once as are wanted, or as the file takes."""
    if wanted == 1:
        return 1
    choice = selection.choose(path, one.backend, one.precision, wanted)
    if choice.path.suffix != ".engine":  # a graph takes any number
        return wanted
    with Detector.open(choice.path, choice.library.NAME, sha256=choice.digest) as detector:
        return min(wanted, detector.max_batch or wanted)
