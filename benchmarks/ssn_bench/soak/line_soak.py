"""``python -m ssn_bench.soak``: a made-up camera for minutes or weeks, with everything going wrong on it.

A 30 fps camera of 1080p frames runs through ``stream.run`` as a live line; at its appointed time each
fault of :mod:`.faults` happens. Then programs are ended in the middle of a frame. What the policy
promises is counted on both sides, and memory and latency are drawn.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import click
import numpy as np

from ssn_bench.measure import environment
from ssn_bench.measure.ready import file_of
from ssn_bench.soak import faults
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.detector import Detector
from ssn_edge.files import write_json
from ssn_edge.line import sinks, stream
from ssn_edge.line.queues import KEPT
from ssn_edge.sources import Source

FLAT_BYTES = 2 << 20
"""Memory is flat where a line through the second half of the run rises by no more."""

POINTS = 2000
"""Of the run's curves: arrays of fixed size, so that the soak itself does not grow."""

TERMINATIONS = 5


class Check(NamedTuple):
    """A promise, what was seen, and whether it held."""

    what: str
    expected: str
    seen: str
    held: bool


class Line:
    """The whole soak: the stream, its faults and what is seen of it."""

    def __init__(self, detector: Detector, folder: Path, fps: float, seconds: float):
        self.camera = faults.FaultyCamera(fps, seconds, (1080, 1920))
        self.summary = stream.Summary()
        self.disk = faults.Disk(folder / "soak.jsonl", self.camera)
        self.received, self.last_received, self.in_order = 0, -1, True
        self.resident, self.longest = np.full(POINTS, np.nan), np.full(POINTS, np.nan)
        self.least_ms = np.inf
        self._detector, self._detect = detector, detector.detect
        self._time = time.time
        self._stop = threading.Event()

    def run(self, on_progress: Callable[[float], object]) -> None:
        self._detector.detect = self._perhaps_hang  # type: ignore[method-assign, assignment]
        watcher = threading.Thread(target=self._watch, args=(on_progress,), daemon=True)
        slow = sinks.Callback(self._slowly, name="slow")
        fast = sinks.Callback(self._receive, name="fast")
        source = Source("camera", self.camera.open, live=True, policy="latest")
        try:
            watcher.start()
            stream.run(
                source, self._detector, [self.disk, slow, fast], stall_s=faults.STALL_S,
                retry_s=faults.RETRY_S, on_result=self._note, stop=self._stop, summary=self.summary,
            )
        finally:
            time.time = self._time
            self._stop.set()
            watcher.join()

    def _point(self) -> int:
        return min(POINTS - 1, int(POINTS * self.camera.elapsed() / self.camera.seconds))

    def _note(self, result: stream.Result) -> None:
        self.longest[self._point()] = np.fmax(self.longest[self._point()], result.latency_ms)
        self.least_ms = min(self.least_ms, result.latency_ms)

    def _receive(self, result: stream.Result) -> None:
        self.received += 1
        self.in_order &= result.number > self.last_received
        self.last_received = result.number

    def _slowly(self, result: stream.Result) -> None:
        if self.camera.within("slow sink for 5 s", faults.SLOW_S):
            time.sleep(0.5)

    def _perhaps_hang(self, frame: np.ndarray) -> Any:
        if self.camera.due("inference hangs for 3 s"):
            time.sleep(faults.HANG_S)
        return self._detect(frame)

    def _watch(self, on_progress: Callable[[float], object]) -> None:
        """Samples memory, moves the clock, and ends the stream."""
        while not self._stop.wait(0.5):
            self.resident[self._point()] = resident_bytes()
            if self.camera.due("clock jumps an hour"):
                time.time = lambda: self._time() + 3600
            if self.camera.due("clock jumps back"):
                time.time = lambda: self._time() - 3600
            on_progress(min(1.0, self.camera.elapsed() / self.camera.seconds))
            if self.camera.elapsed() >= self.camera.seconds:
                self._stop.set()


def resident_bytes() -> float:
    with open("/proc/self/statm") as file:
        return float(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def checks(line: Line, folder: Path) -> List[Check]:
    """What the policy promises, counted on both sides."""
    camera, summary = line.camera, line.summary
    written, ordered = count_lines(folder)
    accounted = summary.judged + summary.dropped + summary.broken
    gaps = [round(gap.seconds, 1) for gap in summary.gaps]
    longest = faults.DEAD_S + faults.RETRY_S[1] + 1
    kept = summary.judged - summary.late["json"] - summary.failed["json"]
    grown, frames = growth(line.resident), max(1, summary.judged // 2)
    most_ms, limit_ms = float(np.nanmax(line.longest)), 1e3 * (faults.HANG_S + 1)
    return [
        Check("every fault happened", str(len(faults.FAULTS)), str(len(camera.happened)),
              len(camera.happened) == len(faults.FAULTS)),
        Check("frames given = captured, but for one at the end", str(camera.given), str(summary.captured),
              summary.captured <= camera.given <= summary.captured + 1),
        Check("captured = judged + dropped + broken", str(summary.captured), str(accounted),
              summary.captured == accounted),
        Check("broken frames counted, unless a newer one came first", f"1 to {camera.broken}",
              str(summary.broken), 0 < summary.broken <= camera.broken),
        Check("dead source: one gap, and back", f"{faults.DEAD_S:g} to {longest:g} s", f"{gaps}",
              len(gaps) == 1 and faults.DEAD_S <= gaps[0] <= longest),
        Check("full disk: refused lines counted", str(line.disk.refused), str(summary.failed["json"]),
              0 < line.disk.refused == summary.failed["json"]),
        Check("all other lines whole and in order", str(kept), str(written), written == kept and ordered),
        Check("slow sink: its late results counted, no other's", "more than 0; 0",
              f"{summary.late['slow']}; {summary.late['fast']}",
              summary.late["slow"] > 0 and summary.late["fast"] == 0),
        Check("fast sink got every verdict in order", str(summary.judged), str(line.received),
              line.in_order and line.received == summary.judged),
        Check("hanging inference noticed", "1", str(summary.stalls), summary.stalls == 1),
        Check("clock jumps show in no latency", f"0 to {limit_ms:g} ms",
              f"{line.least_ms:.1f} to {most_ms:.0f} ms", 0 < line.least_ms and most_ms < limit_ms),
        Check("memory flat in the second half", f"at most {FLAT_BYTES / 2**20:g} MiB more",
              f"{grown / 2**20:+.2f} MiB, {grown / frames:+.0f} bytes a frame", grown <= FLAT_BYTES),
    ]


def count_lines(folder: Path) -> Tuple[int, bool]:
    """How many lines there are, and whether their numbers rise."""
    count, last, ordered = 0, -1, True
    for path in rotated(folder):
        with open(path, encoding="utf-8") as file:
            for row in file:
                number = json.loads(row)["number"]
                ordered &= number > last
                count, last = count + 1, number
    return count, ordered


def growth(resident: np.ndarray) -> float:
    """Bytes by which a straight line through the second half rises."""
    half = resident[POINTS // 2 :]
    known = np.flatnonzero(~np.isnan(half))
    slope = np.polyfit(known, half[known], 1)[0] if len(known) > 1 else 0.0
    return float(slope * len(half))


def rotated(folder: Path) -> List[Path]:
    """The JSON lines' files, oldest first."""
    numbered = sorted(folder.glob("soak.jsonl.*"), key=lambda path: -int(path.suffix[1:]))
    return [*numbered, folder / "soak.jsonl"]


def terminate(model: Path, folder: Path, backend: str) -> List[Check]:
    """``ssn-run`` on a pipe, ended by SIGTERM at some moment of a frame, some times over; and once on a file,
    every frame of which must be there."""
    height, width, count = 240, 320, 300
    frames = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    raw, pipe, lines = folder / "frames.raw", folder / "pipe", folder / "terminated.jsonl"
    raw.write_bytes(frames.tobytes())
    if not pipe.exists():
        os.mkfifo(pipe)
    start = [sys.executable, "-c", "from ssn_edge.commands.ssn_run import main; main()", str(model)]
    options = ["--json", str(lines), "--backend", backend, "--policy", "every"]
    found = []
    for number in range(TERMINATIONS):
        lines.unlink(missing_ok=True)
        arguments = [*start, f"raw:{height}x{width}xBGR:{pipe}", *options]
        found.append(_terminated(arguments, pipe, frames, lines, 0.1 + 0.0137 * number))
    arguments = [*start, f"raw:{height}x{width}xBGR:{raw}", *options]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    there = len(lines.read_text().splitlines())
    what = "every: all frames of a file judged and written"
    found.append(Check(what, str(count), str(there), there == count))
    raw.unlink()
    pipe.unlink()
    return found


def _terminated(arguments: List[str], pipe: Path, frames: np.ndarray, lines: Path, after_s: float) -> Check:
    """SIGTERM so long after the first lines: the program must write what it judged, and say how many."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True
    )
    threading.Thread(target=_feed, args=(pipe, frames), daemon=True).start()
    while not lines.exists() or lines.stat().st_size < 500:
        if process.poll() is not None:
            code = process.returncode
            return Check("SIGTERM in the middle of a frame", "lines", f"exit code {code}", False)
        time.sleep(0.01)
    time.sleep(after_s)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    reported = next((row.split()[0] for row in out.splitlines() if " frames: " in row), "?")
    written = lines.read_text()
    there = len([json.loads(row) for row in written.splitlines()])
    return Check(
        "SIGTERM in the middle of a frame", f"exit code 0, {reported} whole lines",
        f"{process.returncode}, {there}",
        process.returncode == 0 and written.endswith("\n") and str(there) == reported,
    )


def _feed(pipe: Path, frames: np.ndarray) -> None:
    try:
        with open(pipe, "wb", buffering=0) as file:
            for frame in frames:
                file.write(frame.tobytes())
    except BrokenPipeError:
        pass  # the reader was ended, as intended


def plot(line: Line, path: Path) -> None:
    """Memory and latency over time, with the faults."""
    from ssn_bench.report import plots

    figure = plots._figure(10, 5.5)
    upper, lower = figure.subplots(2, 1, sharex=True)
    seconds = (np.arange(POINTS) + 0.5) / POINTS * line.camera.seconds
    known = ~np.isnan(line.resident)
    upper.plot(seconds[known], line.resident[known] / 2**20, color="black")
    upper.set_ylabel("resident, MiB")
    upper.set_ylim(0, 1.2 * float(np.nanmax(line.resident)) / 2**20)
    lower.semilogy(seconds, line.longest, ".", markersize=3)
    lower.set_ylabel("arrival to verdict, ms (longest)")
    lower.set_xlabel("seconds")
    for name, at in line.camera.happened.items():
        for axis in (upper, lower):
            axis.axvline(at, color="tab:orange", linewidth=0.8)
        upper.annotate(name, (at, 0), xytext=(3, 4), textcoords="offset points", rotation=90, fontsize=7)
    plots.save(figure, path)


def text(document: Dict[str, Any]) -> str:
    latency = ", ".join(f"{name} {ms:.1f}" for name, ms in document["latency_ms"].items())
    counts = ", ".join(f"{count} {name}" for name, count in document["frames"].items())
    rows = [
        f"{'ok  ' if row['held'] else 'LOST'} {row['what']}: {row['seen']} (expected {row['expected']})"
        for row in document["checks"]
    ]
    return "\n".join([
        f"{document['model']['file']} on {document['model']['backend']}: {document['seconds']:.0f} s of "
        f"1080x1920 at {document['fps']:g} fps, newest frame first",
        f"frames: {counts}",
        f"arrival to verdict, ms: {latency} (of the last {document['latency_window']} frames)", *rows,
    ])


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(min=0.5))
@click.option("--fps", default=30.0, show_default=True, type=click.FloatRange(min=1))
@click.option("--backend", default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("soak"), help="Folder.")
@one_line_errors
def main(model: Path, minutes: float, fps: float, backend: str, out: Path) -> None:
    """Run MODEL as a line with faults; exit code 1 if anything was lost that the policy promises."""
    from ssn_bench.measure.timing_run import progress

    out.mkdir(parents=True, exist_ok=True)
    for path in rotated(out):
        path.unlink(missing_ok=True)
    with Detector.open(model, backend) as detector:
        about = {**file_of(model, detector), "backend": detector.backend_name}
        line = Line(detector, out, fps, 60 * minutes)
        with progress("soaking") as on_progress:
            line.run(on_progress)
    found = [*checks(line, out), *terminate(model, out, backend)]
    summary = line.summary
    document = {
        "schema": 2, "kind": "soak", "model": about, "environment": environment.describe(), "fps": fps,
        "seconds": 60 * minutes, "faults": line.camera.happened,
        "frames": {n: getattr(summary, n) for n in ("captured", "judged", "dropped", "broken")},
        "latency_ms": {f"p{share:g}": summary.latency_ms.at(share) for share in (50, 99, 99.9)},
        "checks": [row._asdict() for row in found],
        "latency_window": min(summary.judged, KEPT),
        "resident": [None if np.isnan(size) else size for size in line.resident],
        "longest_ms": [None if np.isnan(ms) else round(float(ms), 2) for ms in line.longest],
    }
    write_json(out / "soak.json", document)
    plot(line, out / "soak.png")
    click.echo(text(document))
    click.echo(f"wrote {out / 'soak.json'}, {out / 'soak.png'}")
    if not all(row.held for row in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
