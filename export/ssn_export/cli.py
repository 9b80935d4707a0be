"""``ssn-export``: a run folder to a bundle, engines into it, plain files out of it."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, List, Optional, Set, Tuple

import click

from ssn_edge.backends import BACKENDS, tensorrt_problem
from ssn_edge.backends.selection import PRECISIONS
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.errors import BackendError, InputError, needs
from ssn_edge.files import check_writable
from ssn_edge.model import bundle
from ssn_edge.values import size_hw, whole_number

COMMANDLINE = click.core.ParameterSource.COMMANDLINE

FOR_RUNS = ("data", "plan", "backend", "frame")
"""Options that only a run folder has a use for."""

ACTIONS = {
    "a bundle": ("engine", "engine_out", "info", "layers", "triton", "unpack"),
    "an .onnx file": ("engine_out", "info", "triton", "pack"),
    "an .engine file": ("layers",),
}
"""What can be done with what is exported already."""

OF_ENGINES = (
    "batch", "workspace", "timing_cache", "version_compatible", "hardware_compatible", "unverified",
)
"""Options of building an engine."""

ENGINES = ("tensorrt",)
"""What ``--engine`` may be given; the first is the default."""

NO_DLA = (
    "runs no uint8 input and no matrix products, and has no float32 for the layers that need it; "
    "give --device gpu:0"
)


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


@click.command(
    epilog="""\b
Examples:
  ssn-export runs/first --out model.ssn --fp16     # the bundle: float32, half, reference images
  ssn-export model.ssn --info                      # what is in it, and what would run here
  ssn-export runs/first --out model.ssn --frame 1080x1920 --data frames/
  ssn-export runs/first --out model.onnx --fp16    # plain files: model.onnx and model.fp16.onnx
\b
On the device, without PyTorch:
  ssn-export model.ssn --engine                    # build TensorRT's engine, and add it
  ssn-export model.ssn --engine --batch 8 --precision float32
  ssn-export model.ssn --layers                    # what the engine for this GPU is made of
  ssn-export model.ssn --triton repository/        # for Triton
\b
Plain files:
  ssn-export model.ssn --unpack files/             # all that is in it, under plain names
  ssn-export model.ssn --out line.onnx --verdict --calibration line-3   # its thresholds in the graph
  ssn-export --pack model.onnx --out model.ssn     # files of earlier versions into a bundle
  ssn-export model.ssn --engine-out model.engine   # an engine by itself"""
)
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path),
              help="NAME.ssn, a bundle, or NAME.onnx, plain files; of a bundle NAME.onnx, one of its "
                   "graphs.  [default: RUN/model.ssn]")
@click.option("--fp16", is_flag=True,
              help="Also make a typed half-precision graph, and for a bundle, where TensorRT and a GPU are "
                   "there, the engine. With --engine-out of a float32 file: TensorRT 8's flag.")
@click.option("--data", type=click.Path(path_type=Path),
              help="Images to compare on.  [default: RUN/reference]")
@click.option("--plan", default="auto", show_default=True,
              type=click.Choice(["auto", "none", "adaptor", "full", "row-first"]),
              help="How the heads are computed; auto times all and takes the fastest.")
@click.option("--backend", default="auto", show_default=True,
              type=click.Choice(["auto", *(name for name in BACKENDS if name != "tensorrt")]),
              help="Library that --plan auto times on.")
@click.option("--frame", help="Camera resolution HxW: frames go in as they are, the graph resizes.")
@click.option("--verdict", is_flag=True,
              help="With --out NAME.onnx: thresholds in the graph, outputs mask and is_defect, uint8.")
@click.option("--calibration", metavar="NAME",
              help="Of a bundle: whose thresholds --out and --triton write.  [default: the one in use]")
@click.option("--info", is_flag=True, help="Print what a bundle holds, and check every file of it.")
@click.option("--engine", is_flag=False, flag_value=ENGINES[0], metavar="[tensorrt]",
              help="Build an engine of a bundle on this device, compare it, and add it.")
@click.option("--engine-out", type=click.Path(path_type=Path), metavar="FILE",
              help="Build a plain engine of a bundle or an .onnx file.")
@click.option("--reference", type=click.Path(path_type=Path),
              help="With --engine-out of an .onnx file: NAME.reference.npz of --unpack, to compare with.")
@click.option("--unverified", is_flag=True,
              help="Keep an engine that there are no images to compare with; it says so of itself.")
@click.option("--precision", type=click.Choice(PRECISIONS),
              help="Of --engine, or of the graph of --triton or --out.  [default: for an engine float16 if "
                   "the bundle has it; else float32]")
@click.option("--batch", type=click.IntRange(1, 16), default=1, show_default=True,
              help="Engine: most images at once; fastest at just that many.")
@click.option("--workspace", type=click.IntRange(1), metavar="MIB",
              help="Engine: scratch memory.  [default: TensorRT's; at most a quarter of what is free "
                   "on a Jetson]")
@click.option("--timing-cache", type=click.Path(path_type=Path),
              help="Engine: file of timings, read and extended; makes the next build faster.")
@click.option("--device", callback=gpu_index, expose_value=False, metavar="[gpu:]N",
              help="Engine: which GPU.  [default: the first]")
@click.option("--version-compatible", is_flag=True,
              help="Engine: for later TensorRT too; opening it then needs --sha256.")
@click.option("--hardware-compatible", is_flag=True, help="Engine: for any GPU from Ampere on.")
@click.option("--layers", is_flag=True, help="Engine: print every layer with its precision.")
@click.option("--triton", type=click.Path(path_type=Path), metavar="DIR",
              help="Write a Triton model repository of a bundle with its engines, or of an .onnx file.")
@click.option("--unpack", type=click.Path(path_type=Path), metavar="DIR",
              help="Write a bundle's files under plain names.")
@click.option("--pack", is_flag=True,
              help="Take NAME.onnx, and what lies beside it under its name, into the bundle --out.")
@click.pass_context
@one_line_errors
def main(context: click.Context, source: Optional[Path], **options: Any) -> None:
    """Export SOURCE, a run folder, to a bundle NAME.ssn, once its graphs agree with PyTorch on real images;
    or do something with a bundle, an .onnx or an .engine file that was exported before.

    A bundle is one model: a folder with its graphs, reference images and engines, each compared with the
    trained model. It is replaced in one step; beyond tolerance nothing is written.
    """
    _check_words(source, options)
    assert source is not None
    given = {name for name in options if context.get_parameter_source(name) is COMMANDLINE}
    _check_unused(given, source, options)
    kinds = {bundle.SUFFIX: "a bundle", ".onnx": "an .onnx file", ".engine": "an .engine file"}
    kind = kinds.get(source.suffix)
    if kind is None:
        return _run_folder(source, options)
    _check_kind(given, source, kind, options)
    if options["info"]:
        from ssn_export.bundles import info

        info.lines(source, click.echo)
    if options["pack"]:
        _pack(source, options)
    if options["unpack"]:
        from ssn_export.bundles import pack

        pack.unpack(source, options["unpack"], click.echo)
    if options["out"] and not options["pack"]:
        _plain_graph(source, options)
    if options["engine"]:
        _add_engine(source, options)
    if options["engine_out"]:
        _plain_engine(source, kind, options)
    elif options["layers"] and not options["engine"]:
        for line in _builder(f"{source}: cannot be opened").show_layers(source):
            click.echo(line)
    if options["triton"]:
        from ssn_export.serving import triton

        of_bundle = kind == "a bundle"
        how = options["precision"], options["calibration"]
        served = triton.of_bundle(source, *how) if of_bundle else triton.of_file(source)
        triton.write(served, options["triton"], click.echo)


def _check_words(source: Optional[Path], options: Any) -> None:
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


def _check_unused(given: Set[str], source: Path, options: Any) -> None:
    """InputError for options that would have no effect."""
    written = ("out",) if bundle.is_bundle(source) else ()
    uses: Dict[str, Tuple[str, ...]] = {
        **{name: ("engine", "engine_out", "fp16") for name in OF_ENGINES},
        "reference": ("engine_out",), "precision": ("engine", "engine_out", "triton", "fp16", *written),
        **({"verdict": written, "calibration": ("triton", *written)} if written else {}),
    }
    for name, users in uses.items():
        if name in given and not any(options[user] for user in users):
            shown = [_shown(user) for user in users if user != "fp16"]
            raise InputError(f"{_shown(name)}: only with {' or '.join(shown)}")


def _shown(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_kind(given: Set[str], source: Path, kind: str, options: Any) -> None:
    """InputError for options that mean nothing for a source that is exported already."""
    for name in FOR_RUNS:
        if name in given:
            raise InputError(f"--{name}: for a run folder; {source} is exported already")
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
        if options[name] and name not in ACTIONS[kind] and not (name == "layers" and options["engine_out"]):
            remedy = "; --engine-out FILE builds a plain engine" if name == "engine" else ""
            raise InputError(f"{_shown(name)}: not for {kind}, as {source} is{remedy}")
    if not any(options[name] for name in (*ACTIONS[kind], "out")):
        shown = [*map(_shown, ACTIONS[kind]), *(["--out NAME.onnx"] if kind == "a bundle" else [])]
        raise InputError(f"{source}: is exported already; give {', '.join(shown)}")


def _check_out(source: Path, kind: str, out: Path) -> None:
    """InputError unless ``--out`` is a plain file of a bundle."""
    if kind != "a bundle":
        raise InputError(f"--out: for a run folder, or with --pack; {source} is exported already")
    if out.suffix != ".onnx":
        raise InputError(f"--out {out}: {source} is a bundle already; give NAME.onnx, one of its graphs")


def _run_folder(run: Path, options: Any) -> None:
    """Export; the engine too where it is wanted and can be."""
    out = options["out"] or run / f"model{bundle.SUFFIX}"
    if options["calibration"]:
        raise InputError(f"--calibration: of a bundle; export {run} first, then give {out}")
    if out.suffix not in (bundle.SUFFIX, ".onnx"):
        raise InputError(f"--out {out}: give NAME{bundle.SUFFIX}, a bundle, or NAME.onnx, plain files")
    for name in ("engine_out", "info", "unpack", "pack", "layers"):
        if options[name]:
            if run.is_dir() or name != "pack":
                raise InputError(
                    f"{_shown(name)}: for what is exported already; export {run} first, then give {out}"
                )
            raise InputError(f"{run}: --pack takes the .onnx file of a set")
    plain = out.suffix == ".onnx"
    if options["verdict"] and not plain:
        raise InputError(
            f"--verdict: the thresholds of a bundle are its calibrations'; give --out NAME.onnx, or export "
            f"{out} without, then: ssn-export {out} --out NAME.onnx --verdict [--calibration NAME]"
        )
    if options["engine"] and plain:
        raise InputError("--engine: adds to a bundle; give --out NAME.ssn")
    problem = tensorrt_problem() if not plain and (options["engine"] or options["fp16"]) else None
    if options["engine"] and problem:
        raise BackendError(
            f"--engine: {problem}; export without it, then on the device: ssn-export {out} --engine"
        )
    _export(run, out, options)
    if not plain and (options["engine"] or options["fp16"]):
        if problem is None:
            _add_engine(out, options)
        else:
            click.echo(f"no engine: {problem}; on the device: ssn-export {out} --engine")
    if options["triton"]:
        from ssn_export.serving import triton

        served = triton.of_file(out) if plain else triton.of_bundle(out, options["precision"])
        triton.write(served, options["triton"], click.echo)
    click.echo(f"Next: ssn-run {out} SOURCE, or ssn-bench {out}")


def _export(run: Path, out: Path, options: Any) -> None:
    with needs("export"):
        import torch  # noqa: F401, I001  (first, so that it is the one that is named)
        import onnxscript  # noqa: F401  (torch asks for it only when it exports)

        from ssn_export.graph import export_run
    frame = size_hw("--frame", options["frame"]) if options["frame"] else None
    request = export_run.ExportRequest(
        options["fp16"], options["data"], options["plan"], options["backend"], frame
    )
    if out.suffix == bundle.SUFFIX:
        _wrote(export_run.to_bundle(run, out, request, click.echo))
    else:
        check_writable(out)
        exported = export_run.export(run, request, click.echo)
        _wrote(exported.write(out, options["verdict"], click.echo))


def _plain_graph(path: Path, options: Any) -> None:
    with needs("export"):
        from ssn_export.bundles import plain
    precision, out = options["precision"] or PRECISIONS[0], options["out"]
    _wrote(plain.write(path, out, precision, options["calibration"], options["verdict"], click.echo))


def _add_engine(path: Path, options: Any) -> None:
    builder = _builder(f"{path}: no engine built")
    precision = options["precision"] or ("float16" if options["fp16"] else None)
    _wrote(builder.add(path, precision, _engine_options(options), click.echo))


def _plain_engine(source: Path, kind: str, options: Any) -> None:
    out, reference = options["engine_out"], options["reference"]
    builder = _builder(f"{out}: not built")
    chosen = _engine_options(options)
    if kind == "a bundle":
        if reference:
            raise InputError(f"--reference: {source} has frames of its own")
        precision = options["precision"] or ("float16" if options["fp16"] else None)
        request = builder.of_bundle(bundle.read(source), precision, chosen)
    else:
        if options["precision"]:
            raise InputError(f"--precision: the file's; give another one than {source}, or the bundle")
        if bool(reference) == chosen.pop("unverified"):
            raise InputError(
                f"{source}: give --reference FILE, NAME.reference.npz of ssn-export NAME.ssn --unpack, to "
                "compare the engine with, or else --unverified for one that says so of itself"
            )
        request = builder.EngineRequest(source, reference, options["fp16"], **chosen)
    _wrote(builder.write_file(request, out, click.echo))


def _engine_options(options: Any) -> Dict[str, Any]:
    return {**{name: options[name] for name in OF_ENGINES}, "show_layers": options["layers"]}


def _pack(source: Path, options: Any) -> None:
    from ssn_export.bundles import pack

    if not options["out"]:
        raise InputError(f"--pack: give --out NAME{bundle.SUFFIX} too")
    pack.pack(source, options["out"], click.echo)
    click.echo(f"wrote {options['out']}")


def _builder(what: str) -> ModuleType:
    """The module that builds and opens engines; BackendError says ``what`` it is missing for."""
    problem = tensorrt_problem()
    if problem:
        raise BackendError(f"{what}: {problem}; run this on the device")
    from ssn_export.tensorrt import engine

    return engine


def _wrote(paths: List[Path]) -> None:
    for path in paths:
        click.echo(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
