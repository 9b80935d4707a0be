"""``ssn-calibrate``: thresholds with a stated false-alarm rate, set where the camera stands."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, List, Optional, Pattern, Sequence, Tuple

import click
import numpy as np

from ssn_edge import part_names, sources
from ssn_edge.backends import BACKENDS
from ssn_edge.backends.selection import PRECISIONS
from ssn_edge.commands import calibration_sheet, console, credentials, view_options
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.detector import Detector
from ssn_edge.errors import InputError
from ssn_edge.files import check_writable
from ssn_edge.frames.image_files import write_image
from ssn_edge.line import sound_parts, stream
from ssn_edge.line.results import Summary
from ssn_edge.line.sound_parts import Observed
from ssn_edge.model import bundle
from ssn_edge.sources import Source
from ssn_edge.sources.addresses import local_path
from ssn_edge.text import without_password
from ssn_edge.values import share
from ssn_edge.verdict import calibrating, calibration, in_bundle, promise
from ssn_edge.verdict.calibration import Calibration
from ssn_edge.verdict.trade import Trade, trade

WATCHED = 300
"""Parts of a source that does not end by itself: 1 % with 95 % confidence takes 299."""


@click.command(
    epilog="""\b
Examples:
  ssn-calibrate model.ssn sound/                         # a folder of photos of sound parts
  ssn-calibrate model.ssn sound/ --part '(.*)_shot'      # several photos a part: its name is in theirs
  ssn-calibrate model.ssn 0 --parts 300                  # the first camera: watch 300 sound frames
  ssn-calibrate model.ssn watch:incoming/ --false-alarms 0.5% --name lamp-b
  ssn-calibrate model.ssn sound/ --ng defective/         # what that rate costs and catches
  ssn-calibrate model.ssn sound/ --dry-run               # only show
  ssn-calibrate model.ssn --list
  ssn-calibrate model.ssn --use lamp-b
  ssn-calibrate model.ssn --undo                         # back to the one before"""
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("source", nargs=-1)
@click.option("--false-alarms", default="auto", show_default=True,
              help="Share of sound parts that may be called NG, such as 0.5%; auto: 1 % where the parts can "
                   "promise it, else the smallest that they can.")
@click.option("--confidence", type=click.FloatRange(0.5, 1, max_open=True),
              help="Hold --false-alarms with this confidence, 0.95 for example.  [default: on average]")
@click.option("--ng", help="Folder (or another source) of defective parts: shows what is caught.")
@click.option("--part", help="Regular expression that finds the part in a frame's name, of its groups; "
              "without it each photo is one.")
@click.option("--parts", type=click.IntRange(min=1),
              help=f"End after so many.  [default: all; {WATCHED} of a camera]")
@click.option("--name", help="The calibration's.  [default: site- and the time]")
@click.option("--sheet", type=click.Path(path_type=Path),
              help="Picture of the numbers and of the parts to look at.  [default: beside the bundle]")
@click.option("--dry-run", is_flag=True, help="Show what it would be; the bundle stays as it is.")
@click.option("--list", "listed", is_flag=True, help="The bundle's calibrations.")
@click.option("--use", help="Use an earlier calibration again.")
@click.option("--undo", is_flag=True, help="Use the one that was used before.")
@view_options.added
@click.option("--backend", default="auto", show_default=True, type=click.Choice(["auto", *BACKENDS]),
              help="Library to run on; calibrate on the one that the line uses.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Which of the bundle's files.")
@one_line_errors
def main(model: Path, source: Sequence[str], **options: Any) -> None:
    """Watch sound parts from SOURCE, and set MODEL's thresholds so that at most a stated share of such parts
    is called NG. MODEL is a bundle (.ssn); the calibration is written into it, used from then on by ssn-run,
    by Detector and by C, and all earlier ones stay.

    SOURCE is what ssn-run takes: folders, patterns, videos, a camera, watch:FOLDER. Every part of it must be
    sound: look at the sheet, which shows the most suspicious ones. The promise holds for parts like these,
    under the same lamp and lens, on the file that was calibrated (--precision, --backend): calibrate each by
    itself.
    """
    stream.log.handlers = [console.Echo()]
    if not bundle.is_bundle(model):
        raise InputError(
            f"{model}: calibrations are kept in a bundle (.ssn); ssn-export --pack makes one of a plain file"
        )
    manage = [name for name in ("listed", "use", "undo") if options[name]]
    if manage:
        if len(manage) > 1 or source:
            raise InputError("--list, --use and --undo: one of them, without a source")
        return _manage(model, options)
    if not source:
        raise InputError("give a SOURCE of sound parts, or --list, --use or --undo")
    _calibrate(model, source, options)


def _manage(model: Path, options: Any) -> None:
    if options["listed"]:
        for line in listing(model):
            click.echo(line)
        return
    if options["undo"]:
        one = in_bundle.undo(model, click.echo)
    else:
        one = in_bundle.use(model, options["use"], click.echo)
    click.echo(f"{model} judges by {one.name} now: {one.verdict.rule} ({one.verdict.method})")


def listing(model: Path) -> List[str]:
    """The bundle's calibrations, oldest first; the one in use is marked."""
    found = bundle.read(model)
    lines = []
    for one in in_bundle.read_all(found):
        mark = "*" if found.history[-1:] == (one.name,) else " "
        where = "" if one.precision == "float32" else f", {one.precision} on {one.library}"
        lines += [
            f"{mark} {one.name}  {one.date}  {one.source}{where}",
            f"    {one.verdict.rule}; {one.verdict.method}",
        ]
    if not lines:
        lines = [f"none; the export's thresholds: {found.model.verdict.rule} ({found.model.verdict.method})"]
    return lines


def _calibrate(model: Path, given: Sequence[str], options: Any) -> None:
    name = options["name"] or time.strftime("site-%Y%m%d-%H%M%S")
    level = None
    if options["false_alarms"] != "auto":
        level = share("--false-alarms", options["false_alarms"])
    expression = part_names.pattern(options["part"]) if options["part"] else None
    place = options["sheet"] or model.with_name(f"{model.stem}.{name}.png")
    view = view_options.view_of(options)
    with Detector.open(model, options["backend"], view=view, precision=options["precision"]) as detector:
        verdict = detector.info.verdict
        if verdict.source == "either":
            calibrating.needed(verdict.scales)
        precision, library, digest = detector.info.precision, detector.library, detector.sha256
        in_bundle.check_free(bundle.read(model), name, precision, library, digest)
        check_writable(place)
        found = sources.find_all([_address(one) for one in given], detector.reading)
        defective = sources.find(_address(options["ng"]), detector.reading) if options["ng"] else None
        console.say_accounts(found, strict=False)
        most = options["parts"] or (_enough(level, options["confidence"]) if found.live else None)
        click.echo(f"{model}: {detector.info.precision} on {detector.backend_name} ({detector.choice})")
        sound = _watched(found, detector, expression, most, "sound")
        bad = _watched(defective, detector, expression, None, "defective", True) if defective else None
        about = without_password(", ".join(given))[:300]
        one, caught = _made(sound, bad, detector, name, level, options["confidence"], about)
        _report(one, caught, sound, bad, detector, place)
    if options["dry_run"]:
        click.echo(f"dry run: {model} is as it was")
        return
    in_bundle.add(model, one, click.echo)
    click.echo(f"{model} judges by {name} now; ssn-calibrate {model} --undo goes back")


def _address(given: str) -> str:
    found = credentials.address("SOURCE", given, lambda line: click.echo(line, err=True))
    return local_path(found) or found


def _enough(level: Optional[float], confidence: Optional[float]) -> int:
    """Parts to watch of a source that does not end by itself."""
    return max(WATCHED, promise.parts_for(level, confidence) if level else 0)


def _watched(
    source: Source, detector: Detector, expression: Optional[Pattern[str]], most: Optional[int], kind: str,
    lowest: bool = False,
) -> Observed:
    """The source's parts, with progress. Ends the command where it was interrupted, or showed none."""
    summary, length = Summary(), most or len(source.files) or None
    with click.progressbar(length=length or 1, label=f"watching {kind} parts", file=sys.stderr) as bar:

        def on_shot(parts: int, shots: int) -> None:
            done = parts if most else shots
            bar.length = max(bar.length or 1, done + (not length))
            bar.update(done - bar.pos)

        seen, whole = sound_parts.watch(source, detector, expression, most, on_shot, lowest, summary)
    if not whole:
        click.echo(f"stopped after {len(seen.names)} photos; the bundle is as it was", err=True)
        sys.exit(130)
    if not seen.names:
        problem = summary.problem or "no frame came from the source"
        raise InputError(
            f"{source.name}: none of {summary.captured} frames could be judged; the last: {problem}"
        )
    if summary.broken:
        count = f"{summary.broken} of {summary.captured} frames"
        click.echo(f"warning: {count} could not be judged and are not counted: {summary.problem}", err=True)
    return seen


def _made(
    sound: Observed, bad: Optional[Observed], detector: Detector, name: str, level: Optional[float],
    confidence: Optional[float], about: str,
) -> Tuple[Calibration, Optional[Trade]]:
    """The calibration, and what it catches of known defects. InputError where nothing could be NG by it."""
    verdict = detector.info.verdict
    found = calibrating.calibrate(
        *sound.arrays(), sound.parts, verdict.source, verdict.scales, level, confidence, sound.unit,
    )
    if found.blind:
        raise InputError(
            f"{found.promise.k} of {found.promise.n} sound {sound.unit} have a score of 1, the largest there "
            "is, so that nothing could be NG; look at them, or train with --verdict-source map_max"
        )
    caught = None
    if bad is not None:
        caught = trade(found.values[-found.promise.k], found.values, bad.numbers(detector.info.verdict))
    one = calibration.made_of(
        found, name, source=about, view=detector.view, precision=detector.info.precision,
        library=detector.library, sha256=detector.sha256,
        defects=None if caught is None else dataclasses.asdict(caught),
    )
    return one, caught


def _report(
    one: Calibration, caught: Optional[Trade], sound: Observed, bad: Optional[Observed], detector: Detector,
    place: Path,
) -> None:
    """What was found, in words and as a picture."""
    unit = one.promise.unit
    shots = f", {len(sound.names)} photos" if one.most_shots > 1 else ""
    click.echo(f"{one.promise.n} sound {unit}{shots}. {one.verdict.rule}; mask from "
               f"{one.verdict.pixel_threshold:.4g}")
    click.echo(f"  {one.verdict.method}")
    more = one.promise.more()
    if more:
        click.echo(f"  for less: {more} {unit}")
    before = int(calibrating.by_part(detector.judge.reaches(*sound.arrays()), sound.parts).sum())
    click.echo(f"  the thresholds until now ({detector.info.verdict.rule}) call {before} of these NG")
    for line in caught.lines(unit) if caught is not None else ():
        click.echo(f"  {line}")
    limit = one.values[-one.promise.k]
    named = ", ".join(f"{name} ({number:.4g})" for number, name, _ in sound.pictures[:5])
    click.echo(f"  the highest, are they sound? {named}")
    rows = [("the highest sound ones: is each of them sound?", sound.pictures, False)]
    if bad is not None:
        rows.append(("the lowest defective ones", bad.pictures, True))
    numbers = None if bad is None else bad.numbers(detector.info.verdict)
    title = f"{one.name}: {one.promise.words}"
    write_image(place, calibration_sheet.sheet(title, np.array(one.values), limit, numbers, rows))
    click.echo(f"  picture: {place}")
