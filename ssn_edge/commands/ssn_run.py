"""``ssn-run``: frames from anywhere, verdicts to anywhere."""

from __future__ import annotations

import contextlib
import glob
import logging
import math
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any, List, Optional, Tuple, TypeVar

import click
import cv2

from ssn_edge import sources
from ssn_edge.backends import BACKENDS
from ssn_edge.backends.selection import PRECISIONS
from ssn_edge.commands import credentials
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.detector import Detector
from ssn_edge.errors import InputError, SsnEdgeError
from ssn_edge.frames.placement import FLIPS, View
from ssn_edge.line import sinks, stream
from ssn_edge.line.live import LiveView
from ssn_edge.line.results import Result, Sink, Summary
from ssn_edge.model.bundle import is_bundle
from ssn_edge.values import host_port, size_hw, whole_numbers

Added = TypeVar("Added", bound=Sink)

STATUS_S = 10.0
"""How often a live stream says how it is."""

STALL_EXIT, OVERLAP = 3, 32

NO_WINDOW = "--show: this OpenCV has no windows (headless build, or no display); use --serve or --save"


@click.command(
    epilog="""\b
Examples:
  ssn-run model.ssn photo.png
  ssn-run model.ssn photos/ --backend openvino --precision float32
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
@click.argument("source")
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
@click.option("--token", help="With --serve on another address than loopback; env:NAME or @FILE has it. "
              "Made up if not given.")
@click.option("--show", is_flag=True, help="Show the frames in a window; q ends.")
@click.option("--threshold", type=float, help="Image threshold in place of the model's; NG at or above it.")
@click.option("--map-threshold", type=float,
              help="The same for the map's maximum, of a model that judges by either it or the score.")
@click.option("--roi", help="X,Y,WIDTH,HEIGHT: judge this part of each frame.")
@click.option("--rotate", type=click.Choice(["0", "90", "180", "270"]), default="0", help="Clockwise.")
@click.option("--flip", type=click.Choice([name for name in FLIPS if name]), help="After the rotation.")
@click.option("--tile", help="HxW: judge each frame in tiles of that size.")
@click.option("--overlap", type=click.IntRange(min=0), help="Of --tile, in pixels.  [default: 32]")
@click.option("--policy", type=click.Choice(stream.POLICIES),
              help="latest drops frames that a newer one replaces, every waits.  [default: by the source]")
@click.option("--watchdog", type=click.FloatRange(min=0, min_open=True), default=30, show_default=True,
              help="Seconds; when a frame takes longer, write what there is and end with exit code 3.")
@click.option("--max-frames", type=click.IntRange(min=1), help="Stop after so many frames.")
@click.option("--backend", default="auto", show_default=True, type=click.Choice(["auto", *BACKENDS]),
              help="Library to run on; auto takes TensorRT where a bundle has an engine for this GPU.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Which of a bundle's files.")
@click.option("--verify", is_flag=True, help="Read the bundle's file whole, even if it looks unchanged.")
@click.option("--sha256", help="What the model file must hash to, of a bundle its manifest.json (ssn-export "
              "--info prints it). An engine can run code of whoever made it.")
@one_line_errors
def main(model: Path, source: str, **options: Any) -> None:
    """Judge every frame of SOURCE with MODEL, a bundle (.ssn) written by ssn-export, or a plain .onnx or
    .engine file, which is then what runs.

    SOURCE is an image, a folder, a glob, watch:FOLDER for images still to come, a video file, a camera's
    number, an RTSP, HTTP or GStreamer address, raw:HxWxFORMAT:PATH for a pipe (BGR, GRAY8, NV12, YUYV), or
    shm:NAME for shared memory. SOURCE, --mqtt and --token may be env:NAME, the value of that variable, or
    @FILE, the first line of that file (./@FILE is an image), so that passwords are not in the process list.

    A frame that cannot be read is reported and counted; a single image that cannot be read is an error. A
    camera that is lost is opened again. SIGINT or SIGTERM ends the stream with everything written. Exit code
    1: some results of files were not written.
    """
    stream.log.handlers = [Echo()]
    _check(options)
    source = _resolve(source, options)
    view = _view(options)
    opened = Detector.open(
        model, options["backend"], options["threshold"], sha256=options["sha256"], view=view,
        precision=options["precision"], verify=options["verify"],
    )
    with opened as detector:
        if options["map_threshold"] is not None:
            detector.set_threshold(options["map_threshold"], "map_max")
        found, summary = sources.find(source), Summary()
        _check_outputs(model, source, options)
        verdict = detector.info.verdict
        click.echo(
            f"{model.name}: {detector.info.backbone} {detector.info.precision}, "
            f"{detector.info.height}x{detector.info.width}, on {detector.backend_name} "
            f"({detector.choice}); "
            f"{verdict.rule} ({verdict.method})"
        )
        watched = found.live and found.policy == "latest"
        speak = Status(summary) if watched else each_frame
        stop = threading.Event()

        def on_result(result: Result) -> None:
            speak(result)
            if options["show"] and _show(detector, result) == ord("q"):
                stop.set()

        stream.run(
            found, detector, _sinks(detector, found, summary, options), policy=options["policy"],
            stall_s=options["watchdog"], stall_exit=STALL_EXIT, on_result=on_result,
            max_frames=options["max_frames"], stop=stop, summary=summary,
        )
    _summarise(summary, stop.is_set())
    unwritten = sum(summary.late.values()) + sum(summary.failed.values())
    if unwritten and (options["policy"] or found.policy) == "every":
        sys.exit(1)


def _view(options: Any) -> View:
    roi: Optional[Tuple[int, int, int, int]] = None
    if options["roi"] is not None:
        x, y, width, height = whole_numbers("--roi", options["roi"], ",", 4)
        roi = x, y, width, height
    tile = size_hw("--tile", options["tile"]) if options["tile"] is not None else None
    overlap = OVERLAP if options["overlap"] is None else options["overlap"]
    return View(roi, int(options["rotate"]), options["flip"] or "", tile, overlap if tile else 0)


def _check(options: Any) -> None:
    """Options that only mean something together, and numbers that no range of click's excludes."""
    for name, needed in (("overlap", "tile"), ("token", "serve")):
        if options[name] is not None and options[needed] is None:
            raise InputError(f"--{name}: only with --{needed}")
    if not math.isfinite(options["watchdog"]):
        raise InputError(f"--watchdog {options['watchdog']}: give seconds")
    for name in ("threshold", "map_threshold"):
        if options[name] is not None and not math.isfinite(options[name]):
            raise InputError(f"--{name.replace('_', '-')} {options[name]}: give a finite number")
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if options["show"] and sys.platform == "linux" and not any(map(os.environ.get, displays)):
        raise InputError(NO_WINDOW)  # Qt would end the process


def _resolve(source: str, options: Any) -> str:
    """The source; it, the broker's address and the token are what env:NAME and @FILE hold."""

    def warn(line: str) -> None:
        click.echo(line, err=True)

    if options["mqtt"] is not None:
        options["mqtt"] = credentials.address("--mqtt", options["mqtt"], warn)
    if options["token"] is not None:
        options["token"], hidden = credentials.given("--token", options["token"], warn)
        if not hidden:
            warn(credentials.plain("--token"))
    return credentials.address("SOURCE", source, warn)


def _check_outputs(model: Path, source: str, options: Any) -> None:
    """InputError for an output that would go over the model or the source."""
    inputs = {Path(source.partition("watch:")[2] or source).resolve(): "the source"}
    for path in map(Path, glob.glob(source, recursive=True)):
        inputs[path.resolve() if path.is_dir() else path.resolve().parent] = "the source's folder"
    inputs[model.resolve()] = "the model"
    for name in ("json_path", "video", "save", "ng"):
        path = options[name]
        if path is not None and is_bundle(model) and model.resolve() in path.resolve().parents:
            raise InputError(f"--{name.partition('_')[0]} {path}: lies in the model; choose another place")
        if path is not None and path.resolve() in inputs:
            option = name.partition("_")[0]
            raise InputError(f"--{option} {path}: is {inputs[path.resolve()]}; choose another place")


def _sinks(
    detector: Detector, source: sources.Source, summary: Summary, options: Any
) -> List[Sink]:
    """What the options ask for. Whatever opens a file or a port complains before the first frame, and closes
    what was opened before it: from there on the stream closes them."""
    pixel_threshold = detector.info.verdict.pixel_threshold
    found: List[Sink] = []
    with contextlib.ExitStack() as opened:

        def add(sink: Added) -> Added:
            found.append(sink)
            opened.callback(_give_up, sink)
            return sink

        if options["json_path"]:
            add(sinks.JsonLines(options["json_path"], append=source.live or source.policy == "latest"))
        if options["save"]:
            add(sinks.Pictures(options["save"], pixel_threshold))
        if options["ng"]:
            add(sinks.Pictures(options["ng"], pixel_threshold, defects_only=True, keep=10_000))
        if options["video"]:
            add(sinks.Video(options["video"], pixel_threshold))
        if options["mqtt"]:
            add(sinks.Mqtt(options["mqtt"]))
        if options["metrics"]:
            page = add(sinks.Metrics(summary, *host_port("--metrics", options["metrics"])))
            click.echo(f"metrics on port {page.port}")
        if options["serve"]:
            host, port = host_port("--serve", options["serve"])
            view = add(LiveView(detector, summary, host, port, options["token"]))
            # Who gave the token knows it; logs need not.
            shown = view.address if options["token"] is None else re.sub("=.*", "=...", view.address)
            click.echo(f"live view: {shown}")
        opened.pop_all()
    return found


def _give_up(sink: Sink) -> None:
    """Close a sink that got no result; the error that stopped the start is the one to tell."""
    with contextlib.suppress(SsnEdgeError, OSError):
        sink.close()


def each_frame(result: Result) -> None:
    """One line on stdout for a judged frame."""
    word = "NG" if result.detection.is_defect else "OK"
    ms = result.detection.latency.total_ms
    click.echo(f"{result.frame.name}  {result.detection.score:.4f}  {word}  {ms:.1f} ms")


class Echo(logging.Handler):
    """The stream's warnings on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        click.echo(f"{time.strftime('%H:%M:%S')} {record.getMessage()}", err=True)


class Status:
    """NG parts as they come, and every few seconds how the stream is."""

    def __init__(self, summary: Summary):
        self._summary, self._start = summary, time.monotonic()
        self._next = self._start + STATUS_S

    def __call__(self, result: Result) -> None:
        """After each result."""
        if result.detection.is_defect:
            each_frame(result)
        now, summary = time.monotonic(), self._summary
        if now >= self._next:
            self._next = now + STATUS_S
            median, p99 = summary.latency_ms.at(50), summary.latency_ms.at(99)
            click.echo(
                f"{summary.judged / (now - self._start):.1f} frames/s, from arrival to verdict "
                f"{median:.1f} ms median, {p99:.1f} ms p99; {_counts(summary)}"
            )


def _show(detector: Detector, result: Result) -> int:
    picture = sinks.picture_of(result, detector.info.verdict.pixel_threshold)
    try:
        cv2.imshow("ssn-run", picture)
        return cv2.waitKey(1)
    except cv2.error:
        raise InputError(NO_WINDOW) from None


def _counts(summary: Summary) -> str:
    counts = {
        "OK": summary.judged - summary.defects, "NG": summary.defects, "unreadable": summary.broken,
        "dropped": summary.dropped, "gaps": summary.gap_count,
    }
    for name in summary.late:
        counts[f"too late for {name}"] = summary.late[name]
        counts[f"not written by {name}"] = summary.failed[name]
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name in ("OK", "NG"))


def _summarise(summary: Summary, stopped: bool) -> None:
    median, p99 = summary.detect_ms.at(50), summary.detect_ms.at(99)
    if median is None or p99 is None:
        if summary.broken:
            captured = summary.captured
            raise InputError(f"none of {captured} frames could be judged; the last: {summary.problem}")
        if stopped:
            click.echo("stopped before the first frame")
            return
        raise InputError("no frame could be read from the source; check it with another program")
    click.echo(
        f"{summary.judged} frame{'s' * (summary.judged != 1)}: {_counts(summary)}; "
        f"{median:.1f} ms median, {p99:.1f} ms p99 a frame, "
        f"{summary.judged / summary.seconds:.1f} frames/s with reading and writing"
    )
