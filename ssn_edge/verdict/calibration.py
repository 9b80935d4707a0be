"""A calibration: thresholds, what they promise, and of what, as a file of a bundle. docs/files.md has the
fields."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from ssn_edge.errors import InputError, ModelError
from ssn_edge.frames.placement import View
from ssn_edge.model.bundle import LABEL
from ssn_edge.model.schema import SCHEMA, Verdict, known, parse
from ssn_edge.text import one_line
from ssn_edge.verdict import promise
from ssn_edge.verdict.calibrating import Calibrated, verdict_above
from ssn_edge.verdict.promise import Promise

TRAINING = "training"
"""Name of the one that ssn-train made, of held-back photos."""

KINDS = ("promise", "estimate", "by hand", "none")
"""Split-conformal; from other heads than the shipped ones; a threshold that was chosen; from photos that were
trained on."""

NO_PROMISE = "no promise: the model was trained on these photos"

MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Calibration:
    """``promise`` says how many sound parts there were and which order statistic is the limit; ``values``
    are their numbers, ascending (:func:`ssn_edge.verdict.calibrating.numbers`), ``most_shots`` as many photos
    as a part had at most.

    ``source`` says what was photographed, ``view`` how it was cut; ``precision``, ``library`` and ``sha256``
    what judged: the scores of half precision are others than those of float32, and another library's.
    ``defects``: what became of known ones, where there were any.
    """

    name: str
    verdict: Verdict
    promise: Promise
    values: Tuple[float, ...]
    kind: str = "promise"
    date: str = ""
    most_shots: int = 1
    source: str = ""
    view: View = View()
    precision: str = "float32"
    library: str = ""
    sha256: str = ""
    defects: Optional[Mapping[str, Any]] = None

    def __post_init__(self) -> None:
        if not LABEL.fullmatch(self.name):
            raise InputError(
                f"name {one_line(self.name, 40)!r}: give up to 64 letters, digits and . _ -, no blanks"
            )
        complete = len(self.values) == self.promise.n or self.kind == "none" and not self.values
        if self.kind not in KINDS or not complete or self.most_shots < 1:
            raise ModelError(
                f"calibration {self.name}: {self.kind} of {len(self.values)} values; make it again"
            )

    def misfit(self, precision: str, library: str, sha256: str, view: View) -> str:
        """Why its promise does not hold for a file that is run, or ""; files in float32 agree."""
        if precision != self.precision:
            return f"calibrated on {self.precision}, this is {precision}"
        if precision != "float32" and library != self.library:
            return f"calibrated on {self.library}, this is {library}"
        if precision != "float32" and sha256 != self.sha256:
            return f"calibrated on another {precision} file"
        if view != self.view:
            return f"calibrated with {shown(self.view)}, this is {shown(view)}"
        return ""

    def at(self, limit: float, method: str) -> Verdict:
        """The verdict with another limit."""
        one = self.verdict
        pixel = one.pixel_threshold if one.source == "score" else None
        return verdict_above(limit, one.source, one.scales, pixel, method, one.n)

    def estimate(self, limit: float) -> float:
        """At most that share of sound parts is above ``limit``, wherever it is put
        (:func:`ssn_edge.verdict.promise.estimate_at`)."""
        return promise.estimate_at(np.array(self.values), limit, self.promise.confidence)


def made_of(
    found: Calibrated, name: str, kind: str = "promise", **fields: Any
) -> Calibration:
    """A calibration of now; ``fields`` as of :class:`Calibration`."""
    method = {
        "promise": found.verdict.method, "none": NO_PROMISE,
        "estimate": _estimate(found.promise),
    }[kind]
    if kind != "none" and found.most_shots > 1:
        method = f"{method}; parts of up to {found.most_shots} photos"
    return Calibration(
        name, dataclasses.replace(found.verdict, method=method), found.promise,
        tuple(map(float, found.values)), kind, time.strftime("%Y-%m-%dT%H:%M:%S%z"), found.most_shots,
        **fields,
    )


def _estimate(promised: Promise) -> str:
    about, wanted = float(promise.rounded_up(promised.on_average)), promise.LEVELS[0]
    return (
        "an estimate by cross-fitting and no promise, since the shipped heads are others: about "
        f"{about:g} of 100 sound {promised.unit}; {promised.n} {promised.unit}; run ssn-calibrate with "
        f"{promise.parts_for(wanted)} parts for a promise of {100 * wanted:g} %"
    )


def shown(view: View) -> str:
    """A view as ssn-run's options."""
    words = []
    if view.roi:
        words.append(f"--roi {','.join(map(str, view.roi))}")
    if view.rotate:
        words.append(f"--rotate {view.rotate}")
    if view.flip:
        words.append(f"--flip {view.flip}")
    if view.tile:
        words.append(f"--tile {view.tile[0]}x{view.tile[1]} --overlap {view.overlap}")
    return " ".join(words) or "whole frames"


def to_document(one: Calibration) -> Dict[str, Any]:
    """As JSON; :func:`from_text` reads it back unchanged. A promise with both bounds, for readers that do not
    compute them; what is none has no figure that looks like one."""
    document = dataclasses.asdict(one)
    promised = document.pop("promise")
    for name in ("map_threshold", "scales"):
        if document["verdict"][name] is None:
            del document["verdict"][name]
    figures: Dict[str, Any] = {}
    if one.kind == "promise":
        figures = {
            "on_average": one.promise.on_average, "at_most": one.promise.at_most,
            "guarantee": promise.GUARANTEE,
        }
    elif one.kind == "estimate":
        figures = {"estimated_on_average": one.promise.on_average}
    return {"schema": SCHEMA, **document, **promised, **figures}


def to_text(one: Calibration) -> str:
    """Its file's content."""
    return json.dumps(to_document(one), ensure_ascii=False, allow_nan=False) + "\n"


def from_text(text: str, name: str) -> Calibration:
    """A file's content, checked; ModelError names ``name``."""
    return from_document(parse(text, name), name)


def from_document(document: Mapping[str, Any], name: str) -> Calibration:
    """The same of a document that is parsed. Fields that are not known are ignored."""
    try:
        found = known(Calibration, {**document, "promise": None})
        found["verdict"] = Verdict(**known(Verdict, document["verdict"]))
        found["promise"] = Promise(**known(Promise, document))
        view = known(View, document.get("view", {}))
        lists: Dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in view.items()}
        found["view"] = View(**lists)
        for key in ("name", "kind", "date", "source", "precision", "library", "sha256"):
            if not isinstance(found.get(key, ""), str):
                raise ValueError(f"{key} is no text")
        if type(found.get("most_shots", 1)) is not int or not isinstance(document["values"], list):
            raise ValueError("most_shots or values")
        found["values"] = tuple(float(value) for value in document["values"])
        if not np.isfinite(found["values"]).all() or list(found["values"]) != sorted(found["values"]):
            raise ValueError("values that are not sorted and finite")
        return Calibration(**found)
    except (KeyError, TypeError, ValueError, OverflowError, InputError, ModelError) as error:
        raise ModelError(
            f"{name}: does not follow the schema of calibrations ({one_line(error, 80)}); calibrate again"
        ) from None
