"""One graph of a bundle as a plain file that judges by one of its calibrations. Needs onnx, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, Optional

import onnx

from ssn_edge.backends import selection
from ssn_edge.errors import InputError
from ssn_edge.files import check_writable, replacing
from ssn_edge.model import bundle
from ssn_edge.model.bundle import Bundle
from ssn_edge.model.bundle_writer import Log
from ssn_edge.model.onnx_metadata import read_info
from ssn_export.bundles import baking, calibrations


def write(
    path: Path, out: Path, precision: str = "float32", name: Optional[str] = None, inside: bool = False,
    log: Log = print, judge: Callable[[onnx.ModelProto, str, Log], object] = lambda graph, called, log: None,
) -> List[Path]:
    """The graph of the bundle ``path`` in ``precision`` as the file ``out``, described with the thresholds of
    the calibration ``name`` (None: the one in use); with them ``inside`` it has the outputs ``mask`` uint8
    [N, H, W] and ``is_defect`` uint8 [N], and ``judge`` is asked about it, which may raise.

    Raises InputError for a bundle whose graphs have thresholds inside already, for a precision or a name that
    there is none of, and where nothing can be written; ModelError for a damaged bundle.
    """
    found = bundle.read(path)
    _check(found, out)
    entry = selection.graph_of(found, precision)
    place = bundle.check(found, entry, force=True)
    info = read_info(place)
    selection.check_same(place, info, found)
    info = calibrations.judged(found, entry, info, name)
    graph = onnx.load(str(place))
    if inside:
        graph = baking.baked(graph, info)
        judge(graph, f"{precision} with thresholds", log)
    else:
        baking.describe(graph, info)
    with replacing(out) as temporary:
        onnx.save(graph, str(temporary))
    log(f"{precision}: {calibrations.words(info)}")
    return [out]


def _check(found: Bundle, out: Path) -> None:
    """InputError for what cannot be done, before anything is."""
    if found.model.verdict_inside:
        raise InputError(
            f"{found.path}: its graphs have thresholds inside already; --unpack DIR writes them as they are, "
            "an export without --verdict makes graphs for other thresholds"
        )
    if out.resolve().parent == found.path.resolve():
        raise InputError(f"--out {out}: a bundle's folder holds what its manifest names; give another place")
    check_writable(out)
