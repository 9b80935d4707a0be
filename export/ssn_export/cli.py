"""``ssn-export``: a run folder to a model file, a model file to an engine or for a server."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any, List, Optional

import click

from ssn_edge.backends import BACKENDS, engine_path, tensorrt_problem
from ssn_edge.cli import one_line_errors
from ssn_edge.engine_file import check_described
from ssn_edge.errors import BackendError, InputError, is_number, needs

RUN_OPTIONS = ("out", "data", "plan", "backend", "frame", "verdict")
"""Options that only a run folder has a use for."""

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
    if kind not in ("", "gpu") or not is_number(number):
        raise click.BadParameter(f"{value!r}: give a GPU's number, as 0 or gpu:0")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name for name in visible.split(",") if name] or [str(n) for n in range(int(number) + 1)]
    if int(number) >= len(names):
        raise click.BadParameter(f"{value}: CUDA_VISIBLE_DEVICES lets {len(names)} be seen")
    os.environ["CUDA_VISIBLE_DEVICES"] = names[int(number)]


@click.command(
    epilog="""\b
Examples:
  ssn-export runs/first --out model.onnx
  ssn-export runs/first --out model.onnx --fp16        # model.fp16.onnx as well, and model.engine
  ssn-export runs/first --out model.onnx --plan none   # no fusion, for comparison
  ssn-export runs/first --out model.onnx --verdict     # outputs mask and is_defect as well
  ssn-export runs/first --out model.onnx --frame 1080x1920 --data frames/
\b
On the device, without PyTorch:
  ssn-export model.fp16.onnx --engine model.engine     # TensorRT 10 and later
  ssn-export model.onnx --engine model.engine --fp16   # TensorRT 8
  ssn-export model.engine --layers                     # what an engine is made of
  ssn-export model.onnx --triton repository/           # for Triton"""
)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Model file.  [default: RUN/model.onnx]")
@click.option("--fp16", is_flag=True,
              help="Also write a typed half-precision graph, NAME.fp16.onnx, and where TensorRT and a "
                   "GPU are there the engine.")
@click.option("--data", type=click.Path(path_type=Path),
              help="Images to compare on.  [default: RUN/reference]")
@click.option("--plan", default="auto", show_default=True,
              type=click.Choice(["auto", "none", "adaptor", "full", "row-first"]),
              help="How the heads are computed; auto times all and takes the fastest.")
@click.option("--backend", default="auto", show_default=True,
              type=click.Choice(["auto", *(name for name in BACKENDS if name != "tensorrt")]),
              help="Library that --plan auto times on.")
@click.option("--frame", help="Camera resolution HxW: frames go in as they are, the graph resizes.")
@click.option("--verdict", is_flag=True, help="Thresholds in the graph: outputs mask and is_defect, uint8.")
@click.option("--engine", type=click.Path(path_type=Path), help="TensorRT engine to build.")
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
              help="Write a Triton model repository of the ONNX file, and of the engine if it is there.")
@click.pass_context
@one_line_errors
def main(context: click.Context, source: Path, **options: Any) -> None:
    """Export SOURCE: a run folder to ONNX, once it agrees with PyTorch on real images; or an
    .onnx file to a TensorRT engine, once that agrees with the same images' stored answers.

    A file describes itself: input size, verdict and thresholds, backbone, and the errors measured
    against the trained model are inside. Beyond tolerance nothing is written.
    """
    if source.suffix == ".engine":
        return _show_layers(source)
    if source.suffix == ".onnx":
        for name in RUN_OPTIONS:
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                raise InputError(f"--{name}: for a run folder; {source} is exported already")
        if not (options["engine"] or options["triton"]):
            raise InputError(f"{source}: give --engine FILE to build, or --triton DIR")
        if options["engine"]:
            _build(source, options["engine"], options)
        return _triton(source, options)
    wanted = options["fp16"] or options["engine"]
    problem = tensorrt_problem() if wanted else None
    if options["engine"] and problem:
        raise BackendError(f"--engine {options['engine']}: {problem}; export without it, build on the device")
    paths = _export(source, options)
    if wanted:
        _engine_of(paths, problem, options)
    _triton(paths[0], options)
    click.echo(f"Next: ssn-run {paths[0]} SOURCE, or ssn-bench {paths[0]}")


def _export(run: Path, options: Any) -> List[Path]:
    with needs("export"):
        import torch  # noqa: F401, I001  (first, so that it is the one that is named)
        import onnxscript  # noqa: F401  (torch asks for it only when it exports)

        from ssn_export import run as export_run
        from ssn_train.settings import parse_size
    frame = parse_size(options["frame"], "--frame") if options["frame"] else None
    request = export_run.Request(
        options["out"] or run / "model.onnx", options["fp16"], options["data"], options["plan"],
        options["backend"], frame, options["verdict"],
    )
    paths = export_run.export(run, request, click.echo)
    _wrote(paths)
    return paths


def _engine_of(paths: List[Path], problem: Optional[str], options: Any) -> None:
    """The engine of what was just exported, or one line on why there is none and how to get it."""
    model = paths[0]
    engine = options["engine"] or engine_path(model)
    if problem is None:
        from ssn_export.trt_build import typed

        half = typed() and options["fp16"]
        _build(paths[1] if half else model, engine, {**options, "fp16": options["fp16"] and not half})
        return
    click.echo(
        f"no engine: {problem}; on the device: ssn-export {paths[1]} --engine {engine}"
        f" (TensorRT 8: ssn-export {model} --engine {engine} --fp16)"
    )


def _build(model: Path, engine: Path, options: Any) -> None:
    builder = _builder(f"{engine}: not built")
    names = ("fp16", "batch", "workspace", "timing_cache", "version_compatible", "hardware_compatible")
    chosen = {name: options[name] for name in names}
    request = builder.Request(model, engine, show_layers=options["layers"], **chosen)
    _wrote(builder.build(request, click.echo))


def _show_layers(engine: Path) -> None:
    for line in _builder(f"{engine}: cannot be opened").show_layers(engine):
        click.echo(line)


def _builder(what: str) -> ModuleType:
    """The module that builds and opens engines; BackendError says ``what`` it is missing for."""
    problem = tensorrt_problem()
    if problem:
        raise BackendError(f"{what}: {problem}; run this on the device")
    from ssn_export import engine

    return engine


def _triton(model: Path, options: Any) -> None:
    if options["triton"]:
        from ssn_export import triton

        engine = options["engine"] or engine_path(model)
        models = [model]
        if engine.is_file():
            check_described(engine, model)
            models.append(engine)
        triton.write(models, options["triton"], click.echo)


def _wrote(paths: List[Path]) -> None:
    for path in paths:
        click.echo(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
