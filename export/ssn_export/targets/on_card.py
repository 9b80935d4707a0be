"""Graphs as engines of TensorRT for RTX, timed alternately on the card of this machine."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Mapping, Optional

from ssn_edge import backends
from ssn_edge.model.onnx_metadata import read_info
from ssn_export.targets import plan_timing
from ssn_export.targets.target import Target
from ssn_export.tensorrt import builder, engine

if TYPE_CHECKING:
    import onnx

Alternate = Callable[[Mapping[str, Callable[[], object]]], Dict[str, Dict[str, float]]]


def why_not(target: Target) -> Optional[str]:
    """Why the target's plans cannot be timed here, in a few words; None if they can: TensorRT for RTX runs
    on this machine's card, and it is the one that the target names, if it names one."""
    if target.name != "rtx":
        return f"nothing here times for {target.name}"
    problem = backends.engine_problem("rtx")
    if problem is not None:
        return problem
    library = backends.engine_library("rtx")
    problem = engine.why_not_run("rtx", tuple(builder.targets(library.PRODUCT)))
    name = library.open_device().name
    if problem is None and target.card and not is_named(name, target.card):
        return f"the card here is {name}, not {target.card}"
    return problem


def is_named(device: str, card: str) -> bool:
    """Whether "NVIDIA RTX 2000 Ada Generation" is RTX-2000-Ada."""
    words, wanted = (" ".join(re.split("[^A-Za-z0-9]+", name)) for name in (device, card))
    return f" {wanted} " in f" {words} "


def timed(
    models: Mapping[str, onnx.ModelProto], alternate: Alternate = plan_timing.alternate
) -> Dict[str, Any]:
    """Medians of all plans, the fastest, and what it was timed on. ``models`` carry their description."""
    import onnx

    library = backends.engine_library("rtx")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as sessions:
        calls = {}
        for number, (plan, model) in enumerate(models.items()):
            path = Path(folder) / f"{number}.onnx"
            onnx.save(model, str(path))
            calls[plan] = sessions.enter_context(running(path))
        rows = alternate(calls)
    return {
        "backend": f"{library.NAME} {library.version()}", "device": library.open_device().name, "batch": 1,
        "fastest": min(rows, key=lambda plan: rows[plan]["median_ms"]), "candidates": rows,
    }


@contextlib.contextmanager
def running(path: Path) -> Iterator[Callable[[], object]]:
    """The file's engine for this card alone, built and opened; a call runs it once on seeded noise."""
    library, info = backends.engine_library("rtx"), read_info(path)
    capability = library.open_device().compute_capability
    request = engine.EngineRequest(path, None, product="rtx", capabilities=(capability,))
    built = engine.build(request, lambda line: None)
    place = path.with_suffix(".engine")
    place.write_bytes(built.plan)
    session = library.open_session(place, 1, built.digest)
    try:
        yield plan_timing.call_of(session, info.input_hw, info.size_hw)
    finally:
        session.close()
