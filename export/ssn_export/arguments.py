"""What ssn-export is given, read and held against what it is asked to do, before anything is done."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Dict, Optional, Set, Tuple

import click

from ssn_edge import backends
from ssn_edge.errors import InputError
from ssn_edge.model import bundle
from ssn_edge.values import whole_number
from ssn_export.targets import target
from ssn_export.targets.target import Target

FOR_RUNS = ("data", "plan", "targets", "backend", "frame")
"""Options that only a run folder has a use for."""

ACTIONS = {
    "a bundle": ("engine", "engine_out", "info", "layers", "triton", "unpack"),
    "an .onnx file": ("engine_out", "info", "layers", "triton", "pack"),
    "an .engine file": ("layers",),
}
"""What can be done with what is exported already."""

OF_ENGINES = (
    "batch", "workspace", "timing_cache", "version_compatible", "hardware_compatible", "unverified", "sm",
)
"""Options of building an engine."""

GATHERS = ("gather", "gather-columns", "gather-composed")
"""Plans that only a GPU's compiler makes fast."""

ENGINES = backends.ENGINES
"""What ``--engine`` may be given; the first is the default."""

NO_DLA = (
    "runs no uint8 input and no matrix products, and has no float32 for the layers that need it; "
    "give --device gpu:0"
)


def capabilities(
    context: click.Context, parameter: click.Parameter, value: Optional[str]
) -> Tuple[str, ...]:
    """"86,8.9" as ("8.6", "8.9"), each once."""
    words = [word.strip() for word in (value or "").split(",")] if value is not None else []
    found = []
    for word in words:
        digits = word.replace(".", "", 1)
        if not re.fullmatch("[0-9]{2,3}", digits) or "." in word and word[-2] != ".":
            raise click.BadParameter(f"{value!r}: give compute capabilities, as 86,89,120")
        found.append(f"{digits[:-1]}.{digits[-1]}")
    return tuple(sorted(set(found), key=float))


def gpu_index(context: click.Context, parameter: click.Parameter, value: Optional[str]) -> None:
    """Make the GPU ``N`` or ``gpu:N`` the only one that this process sees."""
    kind, _, number = (value or "gpu:").rpartition(":")
    if kind == "dla":
        raise click.BadParameter(f"the DLA {NO_DLA}")
    if value is None:
        return
    index = whole_number(number)
    if kind not in ("", "gpu") or index is None:
        raise click.BadParameter(f"{value!r}: give a GPU's number, as 0 or gpu:0")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name for name in visible.split(",") if name] or [str(n) for n in range(index + 1)]
    if index >= len(names):
        raise click.BadParameter(f"{value}: CUDA_VISIBLE_DEVICES lets {len(names)} be seen")
    os.environ["CUDA_VISIBLE_DEVICES"] = names[index]


def check_words(source: Optional[Path], options: Any) -> None:
    """What ``--engine`` was given, and that there is a source."""
    word = options["engine"]
    if word not in (None, *ENGINES):
        if Path(word).suffix == bundle.SUFFIX and source is None:
            raise InputError(f"--engine {word}: name the bundle first: ssn-export {word} --engine")
        raise InputError(
            f"--engine {word}: takes no file; --engine-out {word} writes a plain engine, and --engine alone "
            "adds one to a bundle: ssn-export NAME.ssn --engine"
        )
    if source is None:
        raise InputError("give a run folder, a bundle or a model file; ssn-export --help has examples")


def check_unused(given: Set[str], source: Path, options: Any) -> None:
    """InputError for options that would have no effect."""
    written = ("out",) if bundle.is_bundle(source) else ()
    uses: Dict[str, Tuple[str, ...]] = {
        **{name: ("engine", "engine_out", "fp16") for name in OF_ENGINES},
        "sm": ("engine", "engine_out", "layers"), "batch": ("engine", "engine_out", "fp16", "layers"),
        "reference": ("engine_out",), 
        "precision": ("engine", "engine_out", "triton", "fp16", "layers", *written),
        **({"verdict": written, "calibration": ("triton", *written)} if written else {}),
    }
    for name, users in uses.items():
        if name in given and not any(options[user] for user in users):
            needed = [shown(user) for user in users if user != "fp16"]
            raise InputError(f"{shown(name)}: only with {' or '.join(needed)}")


def targets(options: Any) -> Tuple[Target, ...]:
    """What a run folder's graphs are for; InputError for what does not go together with it."""
    text, plan = options["targets"], options["plan"]
    if text is None:
        rtx = options["engine"] == "rtx" and plan == "auto"
        return (target.CPU, Target("rtx")) if rtx else (target.CPU,)
    found = target.parse(text)
    if plan != "auto":
        raise InputError(f"--for {text}: chooses the plans, and --plan {plan} names one; give one of the two")
    if options["out"] is not None and options["out"].suffix == ".onnx" and len(found) > 1:
        raise InputError(f"--for {text}: {options['out']} is one graph; give one target, or --out NAME.ssn")
    if options["backend"] != "auto" and target.CPU not in found:
        raise InputError(f"--backend: times plans for the CPU; give --for cpu,{text} too, or leave it out")
    return found


def shown(name: str) -> str:
    if name == "targets":
        return "--for"
    return f"--{name.replace('_', '-')}"


def check_kind(given: Set[str], source: Path, kind: str, options: Any) -> None:
    """InputError for options that mean nothing for a source that is exported already."""
    for name in FOR_RUNS:
        if name in given:
            raise InputError(f"{shown(name)}: for a run folder; {source} is exported already")
    if options["fp16"] and not (options["engine"] or options["engine_out"]):
        remedy = "; --precision float16 takes its half graph" if options["out"] else ""
        raise InputError(
            f"--fp16: for a run folder, or with --engine-out; {source} is exported already{remedy}"
        )
    if options["out"] and not options["pack"]:
        _check_out(source, kind, options["out"])
    if kind != "a bundle":
        for name in ("verdict", "calibration"):
            if name in given:
                raise InputError(f"--{name}: with --out NAME.onnx of a bundle; {source} is {kind}")
    everything = [name for names in ACTIONS.values() for name in names]
    for name in everything:
        if options[name] and name not in ACTIONS[kind] and not (
            options["engine_out"] and name in ("layers", "engine")
        ):
            remedy = "; --engine-out FILE builds a plain engine" if name == "engine" else ""
            raise InputError(f"{shown(name)}: not for {kind}, as {source} is{remedy}")
    if not any(options[name] for name in (*ACTIONS[kind], "out")):
        ways = [*map(shown, ACTIONS[kind]), *(["--out NAME.onnx"] if kind == "a bundle" else [])]
        raise InputError(f"{source}: is exported already; give {', '.join(ways)}")


def _check_out(source: Path, kind: str, out: Path) -> None:
    """InputError unless ``--out`` is a plain file of a bundle."""
    if kind != "a bundle":
        raise InputError(f"--out: for a run folder, or with --pack; {source} is exported already")
    if out.suffix != ".onnx":
        raise InputError(f"--out {out}: {source} is a bundle already; give NAME.onnx, one of its graphs")
