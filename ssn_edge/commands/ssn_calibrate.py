"""``ssn-calibrate``: thresholds with a stated false-alarm rate, set where the camera stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Sequence

import click

from ssn_edge.backends.selection import PRECISIONS
from ssn_edge.commands import backend_option, console, site_calibration, view_options
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.commands.site_calibration import WATCHED
from ssn_edge.errors import InputError
from ssn_edge.line import stream
from ssn_edge.model import bundle
from ssn_edge.text import printable
from ssn_edge.verdict import in_bundle


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
@backend_option.option(
    default="auto", show_default=True, help="Library to run on; calibrate on the one that the line uses."
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="Which of the bundle's files.")
@one_line_errors
def main(model: Path, source: Sequence[str], **options: Any) -> None:
    """Watch sound parts from SOURCE, and set MODEL's thresholds so that at most a stated share of such parts
    is called NG. MODEL is a bundle (.ssn); the calibration is written into it, used from then on by ssn-run,
    by Detector and by C, and all earlier ones stay.

    SOURCE is what ssn-run takes: folders, patterns, videos, a camera, watch:FOLDER. Every part of it must be
    sound: look at the sheet, which shows the most suspicious ones. The promise holds for parts like these,
    under the same lamp and lens, on the file that was calibrated (--precision, --backend): calibrate each by
    itself. Choose --false-alarms before you look at the numbers; who chooses it by them watches other parts
    with it.
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
    site_calibration.calibrate(model, source, options)


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
            f"{mark} {one.name}  {one.date}  {printable(one.source)}{where}",
            f"    {one.verdict.rule}; {one.verdict.method}",
        ]
    if not lines:
        lines = [f"none; the export's thresholds: {found.model.verdict.rule} ({found.model.verdict.method})"]
    return lines
