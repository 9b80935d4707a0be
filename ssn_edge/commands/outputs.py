"""What ``ssn-run`` writes: sinks by its options, and never over what it reads."""

from __future__ import annotations

import contextlib
import glob
import re
from pathlib import Path
from typing import Any, List, Sequence, TypeVar

import click

from ssn_edge.detector import Detector
from ssn_edge.errors import InputError, SsnEdgeError
from ssn_edge.line import sinks
from ssn_edge.line.live import LiveView
from ssn_edge.line.results import Sink, Summary
from ssn_edge.model.bundle import is_bundle
from ssn_edge.sources import Source
from ssn_edge.values import host_port

Added = TypeVar("Added", bound=Sink)


def check(model: Path, given: Sequence[str], options: Any) -> None:
    """InputError for an output that would go over the model or the source."""
    inputs = {}
    for source in given:
        inputs[_resolved(source.partition("watch:")[2] or source)] = "the source"
        for path in map(Path, [*glob.glob(source, recursive=True), *glob.glob(glob.escape(source))]):
            inputs[path.resolve() if path.is_dir() else path.resolve().parent] = "the source's folder"
    inputs[model.resolve()] = "the model"
    for name in ("json_path", "video", "save", "ng"):
        path = options[name]
        if path is not None and is_bundle(model) and model.resolve() in path.resolve().parents:
            raise InputError(f"--{name.partition('_')[0]} {path}: lies in the model; choose another place")
        if path is not None and path.resolve() in inputs:
            option = name.partition("_")[0]
            raise InputError(f"--{option} {path}: is {inputs[path.resolve()]}; choose another place")


def _resolved(source: str) -> Path:
    """A source's path. What is none, with a zero byte in it, is refused elsewhere."""
    return Path(source.replace("\0", "")).resolve()


def opened(detector: Detector, source: Source, summary: Summary, options: Any) -> List[Sink]:
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
