"""What ``ssn-calibrate`` does: parts watched, a calibration written, a sheet to look at."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, Optional, Pattern, Sequence, Tuple

import click
import numpy as np

from ssn_edge import part_names, sources
from ssn_edge.commands import calibration_sheet, console, credentials, view_options
from ssn_edge.detector import Detector
from ssn_edge.errors import InputError
from ssn_edge.files import check_writable, replacing
from ssn_edge.frames.image_files import write_image
from ssn_edge.line import sound_parts
from ssn_edge.line.results import Summary
from ssn_edge.line.sound_parts import Observed
from ssn_edge.model import bundle
from ssn_edge.sources import Source
from ssn_edge.sources.addresses import local_path
from ssn_edge.text import printable, without_password
from ssn_edge.values import share
from ssn_edge.verdict import calibrating, calibration, in_bundle, promise
from ssn_edge.verdict.calibration import Calibration
from ssn_edge.verdict.trade import Trade, trade

WATCHED = 300
"""Parts of a source that does not end by itself: 1 % with 95 % confidence takes 299."""


def calibrate(model: Path, given: Sequence[str], options: Any) -> None:
    """Watch the parts, and write what they make of the thresholds."""
    level, expression = _asked(options)
    in_bundle.check_room(model, written=not options["dry_run"])
    view = view_options.view_of(options)
    with Detector.open(model, options["backend"], view=view, precision=options["precision"]) as detector:
        name = _name(model, detector, options["name"])
        verdict = detector.info.verdict
        if verdict.source == "either":
            calibrating.needed(verdict.scales)
        found = sources.find_all([_address("SOURCE", one) for one in given], detector.reading)
        twice = len(found.files) - len({path.resolve() for path in found.files})
        if twice:
            raise InputError(f"{found.name}: {twice} files are given more than once; a part counts once")
        defective = None
        if options["ng"] is not None:
            defective = sources.find(_address("--ng", options["ng"]), detector.reading)
            if defective.live:
                raise InputError(f"--ng {defective.name}: does not end by itself; give a folder or a video")
        place = _sheet(model, name, found, options)
        console.say_accounts(found, strict=False)
        most = options["parts"] or (_enough(level, options["confidence"]) if found.live else None)
        if most is not None and level is not None:
            promise.choose(most, level, options["confidence"])  # now, not when they were watched
        click.echo(f"{model}: {detector.info.precision} on {detector.backend_name} ({detector.choice})")
        sound = _watched(found, detector, expression, most, "sound")
        bad = _watched(defective, detector, expression, None, "defective", True) if defective else None
        about = printable(", ".join(map(without_password, given)))[:300]
        one, caught = _made(sound, bad, detector, name, level, options["confidence"], about)
        picture = _report(one, caught, sound, bad, detector, options["confidence"])
        with replacing(place) as temporary:
            write_image(temporary, picture)
            if not options["dry_run"]:
                in_bundle.add(model, one, click.echo, detector.info)
    click.echo(f"  picture: {place}")
    if options["dry_run"]:
        click.echo(f"dry run: {model} is as it was")
    else:
        click.echo(f"{model} judges by {name} now; ssn-calibrate {model} --undo goes back")


def _asked(options: Any) -> Tuple[Optional[float], Optional[Pattern[str]]]:
    """The rate and the parts' expression; InputError for what is none."""
    if options["confidence"] is not None and not math.isfinite(options["confidence"]):
        raise InputError(f"--confidence {options['confidence']}: give a number such as 0.95")
    level = None
    if options["false_alarms"] != "auto":
        level = share("--false-alarms", options["false_alarms"])
    return level, None if options["part"] is None else part_names.pattern(options["part"])


def _name(model: Path, detector: Detector, asked: Optional[str]) -> str:
    """The calibration's: as asked for, or by the time; InputError where it is taken for this file."""
    found, entry = bundle.read(model), (detector.info.precision, detector.library, detector.sha256)
    if asked is not None:
        in_bundle.check_free(found, asked, *entry)
        return asked
    stem = time.strftime("site-%Y%m%d-%H%M%S")
    labels = {one.label for one in found.of_role("calibration")}
    return next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, 99))) if name not in labels)


def _sheet(model: Path, name: str, found: Source, options: Any) -> Path:
    """Where the picture goes. InputError for a file that is there, and for a place that is judged or is the
    model's."""
    stem = f"{model.stem}.{'dry-run' if options['dry_run'] else name}"
    free = (model.with_name(f"{stem}{number}.png") for number in ("", *(f"-{n}" for n in range(2, 999))))
    place: Path = options["sheet"] or next(one for one in free if not os.path.lexists(one))
    if place.suffix.lower() not in (".png", ".jpg"):
        raise InputError(f"--sheet {place}: give a name that ends in .png or .jpg")
    if os.path.lexists(place):
        raise InputError(f"--sheet {place}: is there already; give another name")
    folder = place.resolve().parent
    watched = {account.root.resolve() for account in found.accounts}
    if found.name.startswith("watch:"):
        watched.add(Path(found.name.partition("watch:")[2]).resolve())
    if folder in watched or model.resolve() in (folder, *folder.parents):
        raise InputError(f"{place}: lies among what is watched, or in the model; give another --sheet")
    check_writable(place)
    return place


def _address(option: str, given: str) -> str:
    found = credentials.address(option, given, lambda line: click.echo(line, err=True))
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
    if seen.incomplete:
        click.echo(f"warning: without {seen.incomplete} parts, not all of whose photos were judged", err=True)
    if not seen.names:
        raise InputError(f"{source.name}: of no part all photos could be judged; look at the camera")
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
        count = int((found.values >= 1).sum())
        raise InputError(
            f"{count} of {found.promise.n} sound {sound.unit} have a score of 1, the largest there is, so "
            "that nothing could be NG; look at them, or train with --verdict-source map_max"
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
    confidence: Optional[float],
) -> np.ndarray:
    """What was found, in words; the picture, BGR uint8 [H, W, 3]."""
    unit = one.promise.unit
    shots = f", {len(sound.names)} photos" if one.most_shots > 1 else ""
    click.echo(f"{one.promise.n} sound {unit}{shots}. {one.verdict.rule}; mask from "
               f"{one.verdict.pixel_threshold:.4g}")
    click.echo(f"  {one.verdict.method}")
    more = one.promise.more(confidence)
    if more:
        click.echo(f"  for less: {more} {unit}")
    before = int(calibrating.by_part(detector.judge.reaches(*sound.arrays()), sound.parts).sum())
    click.echo(f"  the thresholds until now ({detector.info.verdict.rule}) call {before} of these NG")
    for line in caught.lines(unit) if caught is not None else ():
        click.echo(f"  {line}")
    limit = one.values[-one.promise.k]
    named = ", ".join(f"{printable(name)} ({number:.4g})" for number, name, _ in sound.pictures[:5])
    click.echo(f"  the highest, are they sound? {named}")
    twins = len(sound.names) - len(set(zip(sound.scores, sound.map_max)))
    if twins:
        click.echo(
            f"warning: {twins} of {len(sound.names)} photos have exactly the numbers of another: is a photo "
            "there twice? It counts once", err=True,
        )
    rows = [("the highest sound ones: is each of them sound?", sound.pictures, False)]
    if bad is not None:
        rows.append(("the lowest defective ones", bad.pictures, True))
    numbers = None if bad is None else bad.numbers(detector.info.verdict)
    title = f"{one.name}: {one.promise.words}"
    return calibration_sheet.sheet(title, np.array(one.values), limit, numbers, rows)
