"""What ``ssn-run`` says: of the files before the first frame, of frames, and of all of them at the end."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Dict, List

import click

from ssn_edge import inventory
from ssn_edge.errors import InputError
from ssn_edge.frames.decoding import EXTRA
from ssn_edge.frames.formats import kind_of
from ssn_edge.frames.structure import inspect
from ssn_edge.line.results import Result, Summary
from ssn_edge.sources import Account, Source

HEAD = 1 << 10
"""Bytes that tell a picture from a video."""

STATUS_S = 10.0
"""How often a live stream says how it is."""

UNTOLD: Dict[str, str] = {
    "JPEG": f'JPEG without pip install "ssn-edge[{EXTRA}]"',
    "video": "video and camera, whose decoder fills gaps",
    "TIFF": "TIFF without deflate",
}
"""Why a format cannot tell that a picture is whole, where it is not that it has no checksum."""


def say_accounts(source: Source, strict: bool) -> None:
    """Which files of folders and patterns are judged, one line where all of them are; InputError where
    ``strict`` and something that looks like data is not."""
    for account in source.accounts:
        alarm = inventory.alarm(account.root, account.rows)
        if alarm and strict:
            raise InputError(f"{alarm}; move them, or leave --strict out")
        if alarm:
            click.echo(f"warning: {alarm}", err=True)
        for line in _account(account):
            click.echo(line)


def check_several(source: Source) -> None:
    """InputError where a file holds several pictures, of which only the first would be judged."""
    found = [path for path in source.files if _holds_several(path)]
    if found:
        raise several(len(found), f" ({found[0]}{', ...' * (len(found) > 1)})")


def several(count: int, which: str = "") -> InputError:
    """What ``--strict`` says of files with more pictures than are judged."""
    what = "1 file holds" if count == 1 else f"{count} files hold"
    them = "it" if count == 1 else "them"
    return InputError(f"{what} several pictures{which}; split {them}, or leave --strict out")


def _holds_several(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
            return kind_of(head) is not None and inspect(head + file.read()).several
    except OSError:  # a broken frame, when its turn comes
        return False


def _account(account: Account) -> List[str]:
    if all(row.used or row.text == inventory.HIDDEN for row in account.rows):
        count = sum(len(row.files) for row in account.rows if row.used)
        return [f"{account.root}: {count} file{'s' * (count != 1)}, all judged"]
    return [f"{account.root}:", *inventory.table(account.root, account.rows)]


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


def _counts(summary: Summary) -> str:
    counts = {
        "OK": summary.judged - summary.defects, "NG": summary.defects, "unreadable": summary.broken,
        "dropped": summary.dropped, "gaps": summary.gap_count, "doubtful": summary.doubted,
    }
    counts["of several pictures in their file, only the first judged"] = summary.several
    for name in summary.late:
        counts[f"too late for {name}"] = summary.late[name]
        counts[f"not written by {name}"] = summary.failed[name]
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name in ("OK", "NG"))


def summarise(summary: Summary, stopped: bool, live: bool = False) -> None:
    """The last lines; InputError where not one frame was judged, unless a ``live`` source was stopped."""
    median, p99 = summary.detect_ms.at(50), summary.detect_ms.at(99)
    if median is None or p99 is None:
        if summary.broken and stopped and live:
            click.echo(f"0 frames: {_counts(summary)}; the last: {summary.problem}")
            return
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
    if summary.untold:
        frames = sum(summary.untold.values())
        kinds = ", ".join(UNTOLD.get(kind, f"{kind} has no checksum") for kind in sorted(summary.untold))
        click.echo(f"{frames} frame{'s' * (frames != 1)} cannot be told to be whole: {kinds}")
