"""Options of which part of a frame is judged: the same on the line as when it was calibrated."""

from __future__ import annotations

from typing import Any, Callable, Optional, Tuple, TypeVar

import click

from ssn_edge.errors import InputError
from ssn_edge.frames.placement import FLIPS, View
from ssn_edge.values import size_hw, whole_numbers

Command = TypeVar("Command", bound=Callable[..., Any])

OVERLAP = 32

OPTIONS = (
    click.option("--roi", help="X,Y,WIDTH,HEIGHT: judge this part of each frame."),
    click.option("--rotate", type=click.Choice(["0", "90", "180", "270"]), default="0", help="Clockwise."),
    click.option("--flip", type=click.Choice([name for name in FLIPS if name]), help="After the rotation."),
    click.option("--tile", help="HxW: judge each frame in tiles of that size."),
    click.option("--overlap", type=click.IntRange(min=0),
                 help=f"Of --tile, in pixels.  [default: {OVERLAP}]"),
)


def added(command: Command) -> Command:
    """The command with these options, in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def view_of(options: Any) -> View:
    """What they say; InputError for numbers that are none, and an overlap without tiles."""
    if options["overlap"] is not None and options["tile"] is None:
        raise InputError("--overlap: only with --tile")
    roi: Optional[Tuple[int, int, int, int]] = None
    if options["roi"] is not None:
        x, y, width, height = whole_numbers("--roi", options["roi"], ",", 4)
        roi = x, y, width, height
    tile = size_hw("--tile", options["tile"]) if options["tile"] is not None else None
    overlap = OVERLAP if options["overlap"] is None else options["overlap"]
    return View(roi, int(options["rotate"]), options["flip"] or "", tile, overlap if tile else 0)
