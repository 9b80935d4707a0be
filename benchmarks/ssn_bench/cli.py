"""``ssn-bench``: how fast, how accurate, where the time goes, and whether anything got slower."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import click

from ssn_bench.measure import contenders, protocol, timing_run
from ssn_bench.report import compare, console, plots
from ssn_edge.backends.selection import PRECISIONS
from ssn_edge.commands import backend_option
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.errors import InputError, needs
from ssn_edge.files import check_writable, write_json
from ssn_edge.values import size_hw
from ssn_train.data.datasets import LAYOUTS

path = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  ssn-bench model.ssn                            # EfficientAD's protocol: 1000 + 1000 calls
  ssn-bench model.ssn --budget 30                # shortened to half a minute, and says so
  ssn-bench model.ssn runs/first                 # beside the eager PyTorch model, alternating
  ssn-bench a.ssn b.ssn --backend all           # every library that is installed
  ssn-bench ssn efficientad-s simplenet           # other methods, random weights ([bench-peers])
  ssn-bench model.ssn --protocol supersimplenet --claim paper
  ssn-bench model.ssn --protocol camera --fps 30
  ssn-bench model.ssn --overhead --c build/c/c_camera_loop
  ssn-bench model.ssn --profile --predict AGX-Orin-64GB
  ssn-bench model.ssn --data photos/ --run runs/first
  ssn-bench --compare old.json new.json           # exit code 1 if anything got slower
  ssn-bench --pareto photos/ --part '^([^_]+)_'   # which settings are worth their time, on your photos
  ssn-bench wide_resnet50_2 --plans               # the fusion's plans, random weights
  ssn-bench --self-test                           # the harness on sleeps of known length"""
)
@click.argument("models", nargs=-1)
@backend_option.option("--backend", "backends", multiple=True, others=contenders.OTHERS,
                       help="May be repeated.  [default: auto]")
@backend_option.threads
@click.option("--precision", type=click.Choice(PRECISIONS), help="Which of a bundle's files.")
@click.option("--protocol", "name", type=click.Choice([*protocol.PROTOCOLS, "camera"]),
              help="[default: efficientad]")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), help="Seconds of timing.")
@click.option("--seed", default=0, show_default=True, help="Of the random order.")
@click.option("--keep", type=path, help="Folder for the model files made of methods; reused.")
@click.option("--claim", type=click.Choice(["paper"]), help="A verdict on each figure of Table 6.")
@click.option("--fail-if-worse", is_flag=True, help="With --claim: exit code 1 if any figure is worse.")
@click.option("--fps", default=30.0, show_default=True, type=click.FloatRange(min=0, min_open=True),
              help="With --protocol camera.")
@click.option("--frame", default="1080x1920", show_default=True, help="HxW, with --protocol camera.")
@click.option("--profile", is_flag=True, help="Where the time goes, by stage, with roofline.")
@click.option("--predict", multiple=True, metavar="DEVICE", help="Roofline bound of a GPU, or all.")
@click.option("--data", type=path, help="Labelled photos: accuracy of the file as deployed.")
@click.option("--run", "trained", type=path, help="With --data: the run folder, to compare with training.")
@click.option("--category", help="With --data.")
@click.option("--fold", default=0, show_default=True, type=click.IntRange(0), help="With --data.")
@click.option("--layout", type=click.Choice(sorted(LAYOUTS)), help="With --data: as ssn-train's.")
@click.option("--part", metavar="REGEX|TABLE", help="With --data: as ssn-train's.  [default: with --run, its "
                                                   "parts.csv, if there]")
@click.option("--overhead", is_flag=True, help="What our own code costs above the inference library's call.")
@click.option("--c", "program", type=path, help="With --overhead: build/c/c_camera_loop, beside Python.")
@click.option("--compare", "comparing", is_flag=True, help="MODELS are two bench.json: old and new.")
@click.option("--self-test", is_flag=True, help="Is the harness right on this machine?")
@click.option("--pareto", type=path, metavar="DATA",
              help="Train and time candidates on labelled photos: an hour, taken up where it stopped. "
                   "ssn-train --target takes the result.")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=2), help="With --pareto.")
@click.option("--weights", help="With --pareto: as ssn-train's.")
@click.option("--device", default="auto", show_default=True, help="With --pareto: what trains.")
@click.option("--plans", is_flag=True, help="Compare the fusion's plans; a run folder, or a backbone.")
@click.option("--size", default="256x256", show_default=True, help="With --plans BACKBONE.")
@click.option("--step", is_flag=True, help="With --plans: time the training step too.")
@click.option("--half-seeds", default=0, show_default=True, type=click.IntRange(0),
              help="With --plans: FP16 errors over so many random weights, or of the run.")
@click.option("--out", type=path, help="[default: bench.json; another name for other reports]")
@one_line_errors
def main(models: Tuple[str, ...], backends: Tuple[str, ...], **options: Any) -> None:
    """Time MODELS: bundles, plain model files, run folders (eager PyTorch) or methods by name, several
    of them alternating.

    Latency from images in host memory and back; the result is printed and written to bench.json
    with everything it depends on, a picture beside it.
    """
    _check_threads(options)
    if options["self_test"]:
        _self_test()
        return
    if options["pareto"] is not None:
        _pareto(options)
        return
    if not models:
        raise InputError("give a model file, a run folder or a method; ssn-bench --help has examples")
    reports = {
        "comparing": _compare, "plans": _plans, "data": _accuracy, "profile": _profile, "predict": _profile,
        "overhead": _overhead,
    }
    for option, report_of in reports.items():
        if options[option]:
            report_of(models, backends or ("auto",), options)
            return
    (_camera if options["name"] == "camera" else _time)(models, backends or ("auto",), options)


def _check_threads(options: Dict[str, Any]) -> None:
    """InputError where nobody would be told the number."""
    for name in ("self_test", "pareto", "plans", "profile", "predict", "comparing", "program"):
        if options["threads"] is not None and options[name]:
            option = {"self_test": "self-test", "comparing": "compare", "program": "c"}.get(name, name)
            raise InputError(f"--threads: not with --{option}")


def _time(models: Tuple[str, ...], backends: Tuple[str, ...], options: Dict[str, Any]) -> None:
    out = options["out"] or Path("bench.json")
    check_writable(out)
    chosen = protocol.PROTOCOLS[options["name"] or "efficientad"]
    document = timing_run.bench(timing_run.TimingRequest(
        models, backends, chosen, options["budget"], options["keep"], options["claim"] is not None,
        options["seed"], options["precision"], options["threads"],
    ))
    write_json(out, document)
    click.echo(console.text(document))
    written = [out, *_pictures(document, out)]
    click.echo(f"wrote {', '.join(map(str, written))}")
    verdicts = [row["verdict"] for rows in document.get("claim", {}).values() for row in rows]
    if options["fail_if_worse"] and "worse" in verdicts:
        raise SystemExit(1)


def _pictures(document: Dict[str, Any], out: Path) -> Tuple[Path, ...]:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        click.echo('no pictures: matplotlib is not installed; run: pip install "ssn-edge[bench]"', err=True)
        return ()
    plots.latency(document, out.with_suffix(".png"))
    figure1 = out.with_name(f"{out.stem}-methods.png")
    drawn = plots.scatter(document, figure1)
    return (out.with_suffix(".png"), *([figure1] if drawn else []))


def _one(models: Tuple[str, ...], backends: Tuple[str, ...], what: str) -> Tuple[Path, str]:
    """The one model file and back end that a report is about."""
    if len(models) != 1 or len(backends) != 1 or backends[0] in ("all", contenders.TORCH):
        raise InputError(f"{what} takes one model file and one back end of the runtime")
    return Path(models[0]), backends[0]


def _camera(models: Tuple[str, ...], backends: Tuple[str, ...], options: Dict[str, Any]) -> None:
    from ssn_bench.measure import camera

    model, backend = _one(models, backends, "--protocol camera")
    frame_hw = size_hw("--frame", options["frame"])
    settings = camera.CameraSettings(options["fps"], frame_hw, options["budget"] or 60.0)
    with timing_run.progress("frames") as on_progress:
        document = camera.bench(
            model, backend, settings, on_progress, options["precision"], options["threads"]
        )
    _finish(document, camera.text(document), options["out"] or Path("camera.json"))


def _overhead(models: Tuple[str, ...], backends: Tuple[str, ...], options: Dict[str, Any]) -> None:
    from ssn_bench.measure import overhead

    model, backend = _one(models, backends, "--overhead")
    frame_hw = size_hw("--frame", options["frame"])
    settings = overhead.OverheadSettings(frame_hw, options["budget"] or 30.0, options["program"])
    with timing_run.progress("frames") as on_progress:
        document = overhead.bench(
            model, backend, settings, on_progress, options["precision"], options["threads"]
        )
    _finish(document, overhead.text(document), options["out"] or Path("overhead.json"))


def _accuracy(models: Tuple[str, ...], backends: Tuple[str, ...], options: Dict[str, Any]) -> None:
    model, backend = _one(models, backends, "--data")
    with needs("bench", "--data"):
        from ssn_bench.measure import accuracy
        from ssn_train.data.samples import Selection
    select = Selection(
        options["category"], options["fold"], layout=options["layout"],
        part=options["part"] or _parts_of(options["trained"]),
    )
    with timing_run.progress("photos") as on_progress:
        document = accuracy.bench(
            model, backend, options["data"], select, options["trained"], on_progress, options["precision"],
            options["threads"],
        )
    _finish(document, accuracy.text(document), options["out"] or Path("accuracy.json"))
    if document.get("training", {}).get("failed"):
        raise SystemExit(1)


def _parts_of(run: Optional[Path]) -> Optional[str]:
    """The table of parts that a run found and was split by."""
    table = run / "parts.csv" if run is not None else None
    return str(table) if table is not None and table.is_file() else None


def _profile(models: Tuple[str, ...], backends: Tuple[str, ...], options: Dict[str, Any]) -> None:
    with needs("bench", "--profile" if options["profile"] else "--predict"):
        import onnx  # noqa: F401

        from ssn_bench.profile import layer_times
        if options["profile"]:  # the picture comes last, after minutes
            import matplotlib  # noqa: F401
    contestants = contenders.parse(models, backends, options["precision"])
    document = layer_times.bench(
        contestants, options["keep"], options["profile"], options["predict"], partial(click.echo, err=True)
    )
    out = options["out"] or Path("profile.json")
    if options["profile"]:
        plots.stages(document, out.with_suffix(".png"))
    _finish(document, layer_times.document_text(document), out)


def _compare(models: Tuple[str, ...], backends: Tuple[str, ...], options: Dict[str, Any]) -> None:
    if len(models) != 2:
        raise InputError(f"--compare takes two files, old.json new.json; got {len(models)}")
    old, new = (compare.load(Path(name)) for name in models)
    rows = compare.compare(old, new)
    click.echo(compare.text(rows, old, new))
    if any(row["verdict"] == "slower" for row in rows):
        raise SystemExit(1)


def _self_test() -> None:
    found = protocol.self_test()
    for length, ratio in found.items():
        click.echo(f"a sleep of {length}: measured {ratio:.4f} times as long")
    if max(abs(ratio - 1) for ratio in found.values()) > protocol.SELF_TEST_LIMIT:
        click.echo("off by more than 2 %: this machine is too busy to measure on, or its clock is wrong")
        raise SystemExit(1)
    click.echo("right within 2 %")


def _pareto(options: Dict[str, Any]) -> None:
    out: Path = options["out"] or Path("pareto")
    check_writable(out / "pareto.json")
    with needs("demo", "--pareto"):
        import matplotlib  # noqa: F401  (for the picture at the end)

        from ssn_bench.measure import environment
        from ssn_bench.pareto import candidates, report, speed, study
        from ssn_train.data.samples import Selection
        from ssn_train.training.devices import chosen
    settings = study.Options(options["seeds"], chosen(options["device"]), weights=options["weights"])
    log = partial(click.echo, err=True)
    data = options["pareto"]
    select = Selection(layout=options["layout"], part=options["part"])
    document = study.run(data, select, out, settings, log)
    log("times of all candidates on this device")
    document["latency"] = speed.measure(candidates.CANDIDATES, options["budget"] or 60.0, log)
    document["environment"] = environment.describe()
    write_json(out / "pareto.json", document)
    report.write_csv(document, out / "pareto.csv")
    report.picture(document, out / "pareto.png")
    click.echo(report.text(document))
    click.echo(f"wrote {out / 'pareto.json'}, {out / 'pareto.csv'}, {out / 'pareto.png'}")


def _plans(models: Tuple[str, ...], backends: Tuple[str, ...], options: Dict[str, Any]) -> None:
    if len(models) != 1:
        raise InputError("--plans takes one run folder or backbone")
    with needs("demo", "--plans"):
        import matplotlib  # noqa: F401  (for the picture at the end)

        from ssn_bench.methods import plan_comparison
    size = size_hw("--size", options["size"])
    document = plan_comparison.bench(models[0], size, options["step"], options["half_seeds"])
    out: Path = options["out"] or Path("plans.json")
    plan_comparison.plot(document, out.with_suffix(".png"))
    _finish(document, plan_comparison.text(document), out)


def _finish(document: Dict[str, Any], text: str, out: Path) -> None:
    write_json(out, document)
    click.echo(text)
    click.echo(f"wrote {out}")
