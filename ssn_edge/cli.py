"""``ssn-run``, and the one way in which every command of ssn-edge reports errors."""

from __future__ import annotations

import functools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, TypeVar

import click
import cv2

from ssn_edge import draw, sources
from ssn_edge.backends import BACKENDS
from ssn_edge.detector import Detection, Detector
from ssn_edge.errors import InputError, SsnEdgeError
from ssn_edge.images import write_image

Command = TypeVar("Command", bound=Callable[..., Any])


def one_line_errors(command: Command) -> Command:
    """Report expected errors as one line on stderr with exit code 2, never as a traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        quiet_opencv()
        try:
            return command(*args, **kwargs)
        except SsnEdgeError as error:
            message = " ".join(str(error).split())
        except OSError as error:
            message = f"{error.filename or 'file'}: {error.strerror or error}"
        except MemoryError:
            message = "out of memory; try a smaller --batch or --size"
        click.echo(f"error: {message}", err=True)
        sys.exit(2)

    return wrapped  # type: ignore[return-value]


def quiet_opencv() -> None:
    """OpenCV's own warnings would double our one line."""
    log = getattr(getattr(cv2, "utils", None), "logging", None)
    if log is not None:
        log.setLogLevel(log.LOG_LEVEL_SILENT)


@click.command(
    epilog="""\b
Examples:
  ssn-run model.onnx photo.png
  ssn-run model.engine photos/ --sha256 4eae4e3c...  # on an NVIDIA GPU
  ssn-run model.onnx photos/ --save overlays/ --json results.jsonl
  ssn-run model.onnx line.mp4 --max-frames 300
  ssn-run model.onnx 0 --show                        # first camera
  ssn-run model.onnx rtsp://camera.local/stream"""
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("source")
@click.option("--save", type=click.Path(path_type=Path), help="Folder for pictures with the map and boxes.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for one JSON line a frame.")
@click.option("--show", is_flag=True, help="Show the frames in a window; q ends.")
@click.option("--threshold", type=float, help="Image threshold in place of the model's.")
@click.option("--max-frames", type=click.IntRange(min=1), help="Stop after so many frames.")
@click.option("--backend", default="auto", show_default=True, type=click.Choice(["auto", *BACKENDS]),
              help="Library to run on; auto takes TensorRT if it is there with a GPU and an engine.")
@click.option("--sha256", help="What the model file must hash to. An engine can run code of whoever made it.")
@one_line_errors
def main(
    model: Path,
    source: str,
    save: Optional[Path],
    json_path: Optional[Path],
    show: bool,
    threshold: Optional[float],
    max_frames: Optional[int],
    backend: str,
    sha256: Optional[str],
) -> None:
    """Judge every frame of SOURCE with MODEL, an .onnx or .engine file written by ssn-export.

    SOURCE is an image, a folder, a glob, a video file, a camera's number, or an RTSP or GStreamer
    URL. A frame that cannot be read is reported and counted; a single image that cannot be read
    is an error.
    """
    with Detector.open(model, backend, threshold, sha256=sha256) as detector:
        verdict = detector.info.verdict
        click.echo(
            f"{model.name}: {detector.info.backbone} {detector.info.precision}, "
            f"{detector.info.height}x{detector.info.width}, on {detector.backend_name} "
            f"({detector.choice}); "
            f"NG from {verdict.source} >= {verdict.image_threshold:.4g} ({verdict.method})"
        )
        frames = sources.open_source(source)
        results = _judge(detector, frames, save, json_path, show, max_frames)
    _summarise(results)


def _judge(
    detector: Detector,
    frames: Iterable[sources.Frame],
    save: Optional[Path],
    json_path: Optional[Path],
    show: bool,
    max_frames: Optional[int],
) -> Dict[str, Any]:
    times: List[float] = []
    counts = {"OK": 0, "NG": 0, "unreadable": 0}
    lines = _open_lines(json_path)
    start = time.perf_counter()
    try:
        for number, frame in enumerate(frames):
            if frame.image is None:
                counts["unreadable"] += 1
                click.echo(f"skipped: {frame.problem}", err=True)
            else:
                detection = detector.detect(frame.image)
                word = "NG" if detection.is_defect else "OK"
                counts[word] += 1
                times.append(detection.latency.total_ms)
                click.echo(f"{frame.name}  {detection.score:.4f}  {word}  {times[-1]:.1f} ms")
                if lines:
                    lines.write(json.dumps(_record(frame, detection)) + "\n")
                if save or show:
                    _picture(detector, frame, detection, save, show)
            if max_frames and number + 1 >= max_frames or show and cv2.waitKey(1) == ord("q"):
                break
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    finally:
        if lines:
            lines.close()
    return {"counts": counts, "times": times, "seconds": time.perf_counter() - start}


def _open_lines(path: Optional[Path]) -> Any:
    """The JSON lines file, written line by line, so that others can follow it."""
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "w", buffering=1, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose another --json"
        ) from None


def _record(frame: sources.Frame, detection: Detection) -> Dict[str, Any]:
    return {
        "frame": frame.name,
        "time": frame.time,
        "score": detection.score,
        "map_max": detection.map_max,
        "is_defect": detection.is_defect,
        "regions": [vars(region) for region in detection.regions],
        "ms": round(detection.latency.total_ms, 3),
    }


def _picture(
    detector: Detector,
    frame: sources.Frame,
    detection: Detection,
    save: Optional[Path],
    show: bool,
) -> None:
    picture = draw.overlay(frame.image, detection, detector.info.verdict.pixel_threshold)
    if save:
        write_image(save / f"{Path(frame.name).stem}.jpg", picture)
    if show:
        try:
            cv2.imshow("ssn-run", picture)
        except cv2.error:
            raise InputError(
                "--show: this OpenCV has no windows (headless build, or no display); use --save"
            ) from None


def _summarise(results: Dict[str, Any]) -> None:
    times, counts = results["times"], results["counts"]
    if not times:
        raise InputError("no frame could be read from the source; check it with another program")
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    skipped = f", {counts['unreadable']} unreadable" if counts["unreadable"] else ""
    click.echo(
        f"{len(times)} frame{'s' * (len(times) != 1)}: {counts['OK']} OK, {counts['NG']} NG{skipped}; "
        f"{statistics.median(times):.1f} ms median, {p99:.1f} ms p99 a frame, "
        f"{len(times) / results['seconds']:.1f} frames/s with reading and writing"
    )
