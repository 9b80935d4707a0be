"""``ssn-export``: a run folder to a bundle, engines into it, plain files out of it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Dict, List, Optional, Tuple

import click

from ssn_edge import backends
from ssn_edge.backends.selection import PRECISIONS
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.errors import BackendError, InputError, needs
from ssn_edge.files import check_writable
from ssn_edge.model import bundle
from ssn_edge.values import size_hw
from ssn_export import arguments
from ssn_export.arguments import ENGINES, GATHERS
from ssn_export.targets.target import Target


@click.command(
    epilog="""\b
Examples:
  ssn-export runs/first --out model.ssn --fp16     # the bundle: float32, half, reference images
  ssn-export model.ssn --info                      # what is in it, and what would run here
  ssn-export runs/first --out model.ssn --fp16 --for cpu,rtx     # a graph for RTX cards too
  ssn-export runs/first --out model.ssn --frame 1080x1920 --data frames/
  ssn-export runs/first --out model.onnx --fp16    # plain files: model.onnx and model.fp16.onnx
\b
On the device, without PyTorch:
  ssn-export model.ssn --engine                    # build TensorRT's engine, and add it
  ssn-export model.ssn --engine --batch 8 --precision float32
  ssn-export model.ssn --layers                    # what the engine for this GPU is made of
  ssn-export model.ssn --triton repository/        # for Triton
\b
For PCs with RTX cards, on any machine (pip install "ssn-edge[rtx]"):
  ssn-export model.ssn --engine rtx                # one engine for Ampere to Blackwell
  ssn-export model.ssn --engine rtx --sm 86,89 --batch 8
  ssn-export model.ssn --layers --sm 86            # what NVIDIA's compiler makes of the graphs
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
              type=click.Choice(["auto", "none", "adaptor", "full", "row-first", *GATHERS]),
              help="How the heads are computed; auto chooses for each target of --for; the "
                   "gathers are for NVIDIA's RTX cards.")
@click.option("--for", "targets", metavar="TARGET[:CARD],...",
              help="What graphs are for: cpu (timed here), rtx (by what NVIDIA's compiler makes of them, or "
                   "timed on the card that is here), orin (an estimate); as cpu,rtx:RTX-A2000.  [default: "
                   "cpu; with --engine rtx cpu,rtx]")
@click.option("--backend", default="auto", show_default=True,
              type=click.Choice(["auto", *backends.FILES[".onnx"]]),
              help="Library that --plan auto times on.")
@click.option("--frame", help="Camera resolution HxW: frames go in as they are, the graph resizes.")
@click.option("--verdict", is_flag=True,
              help="With --out NAME.onnx: thresholds in the graph, outputs mask and is_defect, uint8.")
@click.option("--calibration", metavar="NAME",
              help="Of a bundle: whose thresholds --out and --triton write.  [default: the one in use]")
@click.option("--info", is_flag=True, help="Print what a bundle holds, and check every file of it.")
@click.option("--engine", is_flag=False, flag_value=ENGINES[0], metavar=f"[{'|'.join(ENGINES)}]",
              help="Build an engine of a bundle, compare it, and add it: TensorRT's on the device that will "
                   "run it, that of TensorRT for RTX anywhere.  [default: tensorrt]")
@click.option("--engine-out", type=click.Path(path_type=Path), metavar="FILE",
              help="Build a plain engine of a bundle, which stays as it is, or of an .onnx file; with "
                   "--engine rtx, for RTX.")
@click.option("--reference", type=click.Path(path_type=Path),
              help="With --engine-out of an .onnx file: NAME.reference.npz of --unpack, to compare with.")
@click.option("--unverified", is_flag=True,
              help="Build an engine and do not run it to compare; it says so of itself.")
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
@click.option("--device", callback=arguments.gpu_index, expose_value=False, metavar="[gpu:]N",
              help="Engine: which GPU.  [default: the first]")
@click.option("--sm", callback=arguments.capabilities, metavar="86,89,...",
              help="With --engine rtx or --layers: compute capabilities to build for; 75 (Turing) by "
                   "itself.  [default: all but 75; of --layers 86]")
@click.option("--version-compatible", is_flag=True,
              help="Engine: for later TensorRT too; opening it then needs --sha256.")
@click.option("--hardware-compatible", is_flag=True, help="Engine: for any GPU from Ampere on.")
@click.option("--layers", is_flag=True,
              help="What the compiler made of the model: kernels, bytes, products, copies, by stage; of the "
                   "engine for this GPU, else of the graphs where TensorRT for RTX is installed.")
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
    arguments.check_words(source, options)
    assert source is not None
    by_user = click.core.ParameterSource.COMMANDLINE
    given = {name for name in options if context.get_parameter_source(name) is by_user}
    arguments.check_unused(given, source, options)
    kinds = {bundle.SUFFIX: "a bundle", ".onnx": "an .onnx file", ".engine": "an .engine file"}
    kind = kinds.get(source.suffix)
    if kind is None:
        return _run_folder(source, options)
    arguments.check_kind(given, source, kind, options)
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
    if options["engine"] and not options["engine_out"]:
        _add_engine(source, options)
    if options["engine_out"]:
        _plain_engine(source, kind, options)
    elif options["layers"] and not options["engine"]:
        _show_layers(source, options)
    if options["triton"]:
        from ssn_export.serving import triton

        of_bundle = kind == "a bundle"
        how = options["precision"], options["calibration"]
        served = triton.of_bundle(source, *how) if of_bundle else triton.of_file(source)
        triton.write(served, options["triton"], click.echo)


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
                    f"{arguments.shown(name)}: for what is exported already; export {run} first, then give "
                    f"{out}"
                )
            raise InputError(f"{run}: --pack takes the .onnx file of a set")
    plain = out.suffix == ".onnx"
    targets = arguments.targets(options)
    if options["verdict"] and not plain:
        raise InputError(
            f"--verdict: the thresholds of a bundle are its calibrations'; give --out NAME.onnx, or export "
            f"{out} without, then: ssn-export {out} --out NAME.onnx --verdict [--calibration NAME]"
        )
    if options["engine"] and plain:
        raise InputError("--engine: adds to a bundle; give --out NAME.ssn")
    product = options["engine"] or ENGINES[0]
    problem = _problem(product) if not plain and (options["engine"] or options["fp16"]) else None
    if options["engine"] and problem:
        raise BackendError(
            f"--engine: {problem}; export without it, then {_where(product)}: ssn-export {out} "
            f"{_engine_words(product)}"
        )
    if options["engine"]:
        if options["precision"] == "float16" and not options["fp16"]:
            raise InputError("--precision float16: of an export with --fp16; give that too")
        _builder("--engine", product).check(_engine_options(options))
    _export(run, out, targets, options)
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


def _export(run: Path, out: Path, targets: Tuple[Target, ...], options: Any) -> None:
    with needs("export"):
        import torch  # noqa: F401, I001  (first, so that it is the one that is named)
        import onnxscript  # noqa: F401  (torch asks for it only when it exports)

        from ssn_export.graph import export_run
    frame = size_hw("--frame", options["frame"]) if options["frame"] else None
    request = export_run.ExportRequest(
        options["fp16"], options["data"], options["plan"], options["backend"], frame, targets
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
        from ssn_export.tensorrt import compiled
    precision, out = options["precision"] or PRECISIONS[0], options["out"]
    name, inside = options["calibration"], options["verdict"]
    _wrote(plain.write(path, out, precision, name, inside, click.echo, compiled.judged))


def _add_engine(path: Path, options: Any) -> None:
    builder = _builder(f"{path}: no engine built", options["engine"] or ENGINES[0])
    precision = options["precision"] or ("float16" if options["fp16"] else None)
    _wrote(builder.add(path, precision, _engine_options(options), click.echo))


def _plain_engine(source: Path, kind: str, options: Any) -> None:
    out, reference = options["engine_out"], options["reference"]
    builder = _builder(f"{out}: not built", options["engine"] or ENGINES[0])
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
    same = {name: options[name] for name in arguments.OF_ENGINES if name != "sm"}
    return {
        **same, "capabilities": options["sm"], "product": options["engine"] or ENGINES[0],
        "show_layers": options["layers"],
    }


def _show_layers(source: Path, options: Any) -> None:
    from ssn_export.tensorrt import layers

    for line in layers.show(source, options["precision"], options["sm"], options["batch"]):
        click.echo(line)


def _pack(source: Path, options: Any) -> None:
    from ssn_export.bundles import pack

    if not options["out"]:
        raise InputError(f"--pack: give --out NAME{bundle.SUFFIX} too")
    pack.pack(source, options["out"], click.echo)
    click.echo(f"wrote {options['out']}")


def _problem(product: str) -> Optional[str]:
    """Why no engine of this product can be built here; None if one can. Only TensorRT needs the GPU."""
    if product == ENGINES[0]:
        return backends.engine_problem(product)
    try:
        backends.engine_library(product)
    except BackendError as error:
        return str(error)
    return None


def _where(product: str) -> str:
    return "on the device" if product == ENGINES[0] else "where it is installed"


def _engine_words(product: str) -> str:
    return "--engine" if product == ENGINES[0] else f"--engine {product}"


def _builder(what: str, product: str) -> ModuleType:
    """The module that builds engines; BackendError says ``what`` it is missing for."""
    problem = _problem(product)
    if problem:
        raise BackendError(f"{what}: {problem}; run this {_where(product)}")
    from ssn_export.tensorrt import engine

    return engine


def _wrote(paths: List[Path]) -> None:
    for path in paths:
        click.echo(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
