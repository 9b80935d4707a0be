"""``ssn-run``: frames from anywhere, verdicts to anywhere."""

from __future__ import annotations

import math
import sys
import threading
from pathlib import Path
from typing import Any, List, Sequence

import click

from ssn_edge import sources
from ssn_edge.backends.selection import PRECISIONS
from ssn_edge.commands import backend_option, console, credentials, outputs, view_options, window
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.detector import Detector
from ssn_edge.errors import InputError
from ssn_edge.line import stream
from ssn_edge.line.results import Result, Summary
from ssn_edge.sources.addresses import local_path
from ssn_edge.text import one_line

STALL_EXIT = 3


@click.command(
    epilog="""\b
Examples:
  ssn-run model.ssn photo.png
  ssn-run model.ssn photos/*.jpg more/ line.mp4       # one behind the other
  ssn-run model.ssn 'photos/**/*.jpg' --strict        # subfolders too; what is left out is an error
  ssn-run model.ssn photos/ --backend openvino --precision float32 --threads 2
  ssn-run model.ssn photos/ --backend onnxruntime:cuda
  ssn-run model.onnx photo.png                       # a plain file: just that one
  ssn-run model.ssn photos/ --save overlays/ --json results.jsonl
  ssn-run model.ssn line.mp4 --max-frames 300 --video judged.mp4
  ssn-run model.ssn 0 --show                        # first camera, in a window
  ssn-run model.ssn 0 --serve                       # in a browser: http://127.0.0.1:8080/
  ssn-run model.ssn rtsp://camera.local/stream --ng ng/ --json line.jsonl --metrics 9108
  ssn-run model.ssn watch:incoming/ --mqtt mqtt://broker/line1/verdicts
  ssn-run model.ssn 0 --roi 400,200,1024,1024 --rotate 90 --tile 512x512 --overlap 64
  ssn-run model.ssn env:CAMERA --mqtt @mqtt.address   # passwords: not in the process list
  sdk-dump | ssn-run model.ssn raw:1080x1920xGRAY8:-"""
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("source", nargs=-1, required=True)
@click.option("--save", type=click.Path(path_type=Path), help="Folder for pictures with the map and boxes.")
@click.option("--ng", type=click.Path(path_type=Path), help="Folder for PNGs of NG parts; the last 10,000.")
@click.option("--video", type=click.Path(path_type=Path), help="Video of frames with the map; .mp4, .avi.")
@click.option("--json", "json_path", type=click.Path(path_type=Path),
              help="File for one JSON line a frame; a camera's is added to, and rotated at 100 MB.")
@click.option("--mqtt", help="mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC for one message a frame ([mqtt]); "
              "env:NAME or @FILE has it.")
@click.option("--metrics", help="[HOST:]PORT of a page for Prometheus; loopback by default ([metrics]).")
@click.option("--serve", is_flag=False, flag_value="8080",
              help="[HOST:]PORT of a live view for a browser; loopback by default, a token elsewhere.")
@click.option("--token", help="With --serve: who has it sees the page, and may save a threshold; env:NAME or "
              "@FILE has it. Made up where the address is not loopback.")
@click.option("--show", is_flag=True, help="Show the frames in a window; q ends.")
@click.option("--threshold", type=float, help="Image threshold in place of the model's; NG at or above it.")
@click.option("--map-threshold", type=float,
              help="The same for the map's maximum, of a model that judges by either it or the score.")
@view_options.added
@click.option("--policy", type=click.Choice(stream.POLICIES),
              help="latest drops frames that a newer one replaces, every waits.  [default: by the source]")
@click.option("--watchdog", type=click.FloatRange(min=0, min_open=True), default=30, show_default=True,
              help="Seconds; when a frame takes longer, write what there is and end with exit code 3.")
@click.option("--strict", is_flag=True,
              help="An error where a folder or pattern holds what looks like data and is not judged.")
@click.option("--settle", type=click.FloatRange(min=0), help="With watch:FOLDER, seconds that a file must "
              "not have changed where its format cannot tell that it is whole.  [default: 2]")
@click.option("--max-frames", type=click.IntRange(min=1), help="Stop after so many frames.")
@backend_option.option(
    default="auto", show_default=True,
    help="Library to run on; auto takes an engine for this GPU where a bundle has one. PROVIDER: cuda, "
         "openvino or another that this ONNX Runtime, or a plugin, has.",
)
@backend_option.threads
@click.option("--precision", type=click.Choice(PRECISIONS), help="Which of a bundle's files.")
@click.option("--calibration", help="Which of a bundle's, in place of the one in use (ssn-calibrate --list).")
@click.option("--verify", is_flag=True, help="Read the bundle's file whole, even if it looks unchanged.")
@click.option("--sha256", help="What the model file must hash to, of a bundle its manifest.json (ssn-export "
              "--info prints it). An engine can run code of whoever made it.")
@one_line_errors
def main(model: Path, source: Sequence[str], **options: Any) -> None:
    """Judge every frame of SOURCE with MODEL, a bundle (.ssn) written by ssn-export, or a plain .onnx or
    .engine file, which is then what runs.

    SOURCE is an image, a video, a folder or glob of both, watch:FOLDER for images still to come, a camera's
    number, an RTSP, HTTP or GStreamer address, file:///PATH, raw:HxWxFORMAT:PATH for a pipe (BGR, GRAY8,
    NV12, YUYV), or shm:NAME for shared memory; several, where each ends by itself. SOURCE, --mqtt and --token
    may be env:NAME, the value of that variable, or @FILE, the first line of that file (./@FILE is an image),
    so that passwords are not in the process list.

    A frame that cannot be read is reported and counted; a single image that cannot be read is an error. A
    camera that is lost is opened again. SIGINT or SIGTERM ends the stream with everything written. Exit code
    1: some frames of files could not be judged, or results not be written (not with --policy latest).
    """
    stream.log.handlers = [console.Echo()]
    _check(options)
    given = _resolve(source, options)
    view = view_options.view_of(options)
    opened = Detector.open(
        model, options["backend"], options["threshold"], sha256=options["sha256"], view=view,
        precision=options["precision"], verify=options["verify"], calibration=options["calibration"],
        threads=options["threads"],
    )
    with opened as detector:
        if options["map_threshold"] is not None:
            detector.set_threshold(options["map_threshold"], "map_max")
        found, summary = sources.find_all(given, detector.reading, options["settle"]), Summary()
        outputs.check(model, given, options)
        console.say_accounts(found, options["strict"])
        if options["strict"]:
            console.check_several(found)
        verdict, calibrated = detector.info.verdict, detector.calibration
        if calibrated is not None and calibrated.misfit:
            click.echo(f"warning: no promise: {calibrated.misfit}; run ssn-calibrate {model}", err=True)
        name = f"{detector.info.calibration}: " if detector.info.calibration else ""
        click.echo(
            f"{model.name}: {detector.info.backbone} {detector.info.precision}, "
            f"{detector.info.height}x{detector.info.width}, on {detector.backend_name} "
            f"({detector.choice}); "
            f"{verdict.rule} ({name}{verdict.method})"
        )
        if detector.info.design is not None:
            click.echo(one_line(detector.info.design.words))
        watched = found.live and found.policy == "latest"
        speak = console.Status(summary) if watched else console.each_frame
        stop = threading.Event()

        def on_result(result: Result) -> None:
            speak(result)
            if options["show"] and window.show(detector, result) == ord("q"):
                stop.set()

        stream.run(
            found, detector, outputs.opened(detector, found, summary, options), policy=options["policy"],
            stall_s=options["watchdog"], stall_exit=STALL_EXIT, on_result=on_result,
            max_frames=options["max_frames"], stop=stop, summary=summary,
        )
    console.summarise(summary, stop.is_set(), found.live)
    if options["strict"] and summary.several:
        raise console.several(summary.several)
    if (options["policy"] or found.policy) == "every" and _lost(summary, found.live):
        sys.exit(1)


def _lost(summary: Summary, live: bool) -> bool:
    """Whether results were not written, or frames of files not judged; a camera's next frame is as good."""
    unwritten = sum(summary.late.values()) + sum(summary.failed.values())
    return bool(unwritten or summary.broken and not live)


def _check(options: Any) -> None:
    """Options that only mean something together, and numbers that no range of click's excludes."""
    if options["token"] is not None and options["serve"] is None:
        raise InputError("--token: only with --serve")
    if not math.isfinite(options["watchdog"]):
        raise InputError(f"--watchdog {options['watchdog']}: give seconds")
    for name in ("threshold", "map_threshold"):
        if options[name] is not None and not math.isfinite(options[name]):
            raise InputError(f"--{name.replace('_', '-')} {options[name]}: give a finite number")
    if options["settle"] is not None and not math.isfinite(options["settle"]):
        raise InputError(f"--settle {options['settle']}: give seconds")
    if options["show"]:
        window.check()


def _resolve(given: Sequence[str], options: Any) -> List[str]:
    """The sources; they, the broker's address and the token are what env:NAME and @FILE hold."""

    def warn(line: str) -> None:
        click.echo(line, err=True)

    if options["mqtt"] is not None:
        options["mqtt"] = credentials.address("--mqtt", options["mqtt"], warn)
    if options["token"] is not None:
        options["token"], hidden = credentials.given("--token", options["token"], warn)
        if not hidden:
            warn(credentials.plain("--token"))
    found = [credentials.address("SOURCE", source, warn) for source in given]
    return [local_path(source) or source for source in found]


if __name__ == "__main__":
    main()
