"""The one JSON document that travels inside every model file, and its checks."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ssn_edge.errors import ModelError, VersionError
from ssn_edge.text import one_line

SCHEMA = 1
"""Major version of every document: raised when a field changes its meaning, and older readers refuse it.
Fields may be added without, which readers that do not know them ignore (docs/files.md)."""

METADATA_KEY = "ssn_edge"
"""Key of the document in an ONNX file's ``metadata_props``."""

VERDICT_SOURCES = ("score", "map_max", "either")
GEOMETRIES = ("stretch", "letterbox")
ORIENTATIONS = ("ignored", "applied")

MOST_PIXELS = 1 << 16
"""Largest height or width."""

UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

MOST_DEPTH = 16
"""Of a document: deeper is none of ours."""


@dataclass(frozen=True)
class Verdict:
    """How a frame is judged (:class:`ssn_edge.verdict.judge.Judge` does it): NG where ``source`` reaches its
    threshold. A value equal to a threshold reaches it.

    ``score`` is the classification head's sigmoid (without one, that of the largest logit before the map is
    resized), ``map_max`` the maximum of the anomaly map's logits:
    ``image_threshold`` is that source's. With ``either`` it is the score's, and ``map_threshold`` the
    map's: one of the two is enough. Map pixels that reach ``pixel_threshold`` (a logit) form the mask.
    ``method`` says how the thresholds were found and what they promise, ``n`` from how many sound parts.
    ``scales``: middle and spread of the score's logits and of ``map_max`` on photos that were trained on, by
    which the two are brought to one scale before they are calibrated; None where only one source counts.
    ModelError for a source that there is none of, and for a threshold that is missing, too many or not
    finite.

    >>> Verdict("either", 0.5, 2.0, "0.995 quantiles", 40, map_threshold=3.25).rule
    'NG from score >= 0.5 or map_max >= 3.25'
    """

    source: str
    image_threshold: float
    pixel_threshold: float
    method: str
    n: int
    map_threshold: Optional[float] = None
    scales: Optional[Tuple[float, float, float, float]] = None

    def __post_init__(self) -> None:
        if self.scales is not None:  # JSON gives a list
            object.__setattr__(self, "scales", tuple(self.scales))
            if len(self.scales) != 4 or not all(map(math.isfinite, self.scales)) or self.scales[1] <= 0 \
                    or self.scales[3] <= 0:
                raise ModelError(f"verdict's scales are {one_line(self.scales, 60)}; calibrate again")
        if self.source not in VERDICT_SOURCES:
            raise ModelError(f"verdict source {self.source!r}; expected one of {VERDICT_SOURCES}")
        if (self.map_threshold is None) == (self.source == "either"):
            raise ModelError(
                f"verdict source {self.source} with a map_threshold of {self.map_threshold}: either has "
                "one, the others have none; calibrate again"
            )
        for name, value in {**self.thresholds, "pixel": self.pixel_threshold}.items():
            if not math.isfinite(value):
                raise ModelError(f"verdict's {name} threshold is {value}; calibrate again")

    @property
    def thresholds(self) -> Dict[str, float]:
        """Of the sources that count: ``score``, ``map_max`` or both."""
        if self.source == "either" and self.map_threshold is not None:
            return {"score": self.image_threshold, "map_max": self.map_threshold}
        return {self.source: self.image_threshold}

    @property
    def rule(self) -> str:
        """In a few words: ``NG from score >= 0.5 or map_max >= 3.2``."""
        found = (f"{name} >= {threshold:.4g}" for name, threshold in self.thresholds.items())
        return f"NG from {' or '.join(found)}"


@dataclass(frozen=True)
class Network:
    """What a model is built of around its backbone: feature ``levels``, the finest first; ``grid`` (height,
    width) of the map before it is resized; hidden channels of the segmentation head, and of the
    classification head (0: none) with the rows of its square kernel; whether there is an ``adaptor``, and
    whether the map is a ``distance`` in place of a trained head.

    >>> Network(("block5", "block6"), (32, 32), 1024, 0, 5, False).words
    'features block5, block6; map 32x32; segmentation head 1024, no classification head, no adaptor'
    """

    levels: Tuple[str, ...]
    grid: Tuple[int, int]
    seg_width: int
    cls_width: int
    cls_kernel: int
    adaptor: bool
    distance: bool = False

    def __post_init__(self) -> None:
        for name in ("levels", "grid"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        numbers = (*self.grid, self.seg_width, self.cls_width, self.cls_kernel)
        if (
            len(self.grid) != 2 or not all(type(n) is int and 0 <= n <= MOST_PIXELS for n in numbers)
            or not all(isinstance(level, str) for level in self.levels)
            or {type(self.adaptor), type(self.distance)} != {bool}
        ):
            raise ModelError(f"design {one_line(dataclasses.astuple(self), 80)} is none; export again")

    @property
    def words(self) -> str:
        """In one line."""
        where = f"features {', '.join(self.levels)}; map {self.grid[0]}x{self.grid[1]}"
        if self.distance:
            return f"{where}; distance of {self.seg_width} features from those of good photos"
        head = "no classification head"
        if self.cls_width:
            head = f"classification head {self.cls_width} ({self.cls_kernel}x{self.cls_kernel})"
        return (
            f"{where}; segmentation head {self.seg_width}, {head}{'' if self.adaptor else ', no adaptor'}"
        )


@dataclass(frozen=True)
class ModelInfo:
    """What a deployed model file says of itself.

    ``height`` and ``width`` are the input's in pixels; frames are stretched to them, or letterboxed
    (``geometry``), and given as uint8 [N, height, width, 3] in ``colour`` order; with ``frame``
    (height, width) the file takes camera frames of that size and stretches them itself. ``plan``
    is how the heads are computed, ``plan_table`` the timings it was chosen by; ``verdict_inside``
    says that the outputs ``mask`` and ``is_defect`` exist. ``bits`` are those in use of 16-bit frames and
    photos, and ``orientation`` says what became of photos' orientation tags
    (:class:`ssn_edge.frames.decoding.Reading`); files from before there was a choice ignore them.
    ``calibration`` is the name of the one that the thresholds are from, where they were put inside.
    ``parity`` holds the errors against the trained model that were measured at export. ``float32_nodes``
    names the graph's nodes that must stay in float32 where the rest is computed in half; None: not measured.
    ``design`` tells what the network is built of; files from before there was a choice have none.
    """

    height: int
    width: int
    verdict: Verdict
    backbone: str
    precision: str
    checkpoint_sha256: str
    variant: str = "icpr"
    plan: str = "none"
    plan_table: Mapping[str, Any] = field(default_factory=dict)
    frame: Optional[Tuple[int, int]] = None
    verdict_inside: bool = False
    colour: str = "BGR"
    geometry: str = "stretch"
    bits: int = 16
    orientation: str = "ignored"
    calibration: str = ""
    parity: Mapping[str, Any] = field(default_factory=dict)
    float32_nodes: Optional[Tuple[str, ...]] = None
    design: Optional[Network] = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for name, (height, width) in (("size", self.size_hw), ("frame", self.frame or (1, 1))):
            if not all(type(n) is int and 0 < n <= MOST_PIXELS for n in (height, width)):
                shown = one_line(f"{height}x{width}", 40)
                raise ModelError(f"{name} {shown}: expected 1 to {MOST_PIXELS} pixels; export again")
        for name in (
            "backbone", "precision", "checkpoint_sha256", "variant", "plan", "colour", "calibration",
        ):
            if not isinstance(getattr(self, name), str):
                raise ModelError(f"{name} is {one_line(getattr(self, name), 40)}, no text; export again")
        if type(self.bits) is not int or not 8 <= self.bits <= 16 or self.orientation not in ORIENTATIONS:
            raise ModelError(
                f"bits {one_line(self.bits, 40)} and orientation {one_line(self.orientation, 40)}: "
                f"expected 8 to 16, and one of {ORIENTATIONS}"
            )
        if self.geometry not in GEOMETRIES or self.geometry != "stretch" and self.frame:
            raise ModelError(
                f"geometry {self.geometry!r} with frame {self.frame}; expected one of {GEOMETRIES}, and "
                "with a camera's frame stretch"
            )

    @property
    def size_hw(self) -> Tuple[int, int]:
        """The model's height and width in pixels, the anomaly map's too."""
        return self.height, self.width

    @property
    def input_hw(self) -> Tuple[int, int]:
        """Height and width of the images that the file takes."""
        return self.frame or self.size_hw

    def core(self) -> ModelInfo:
        """What all files of one model have in common: without the precision, the plan and the tables."""
        return dataclasses.replace(
            self, precision="", plan="none", plan_table={}, parity={}, float32_nodes=None, calibration=""
        )

    def same_network(self, other: ModelInfo) -> bool:
        """Whether both compute the same from the same frames; thresholds are another matter, which in a
        bundle is the manifest's alone. The design is the checkpoint's, and not known to whoever wrote a file
        before there was one."""
        ours = dataclasses.replace(self.core(), design=None)
        return ours == dataclasses.replace(other.core(), verdict=self.verdict, design=None)

    def to_json(self) -> str:
        """The document; :meth:`from_json` reads it back unchanged. What there is none of is left out of the
        verdict, so that runtimes from before there was such a thing read the file."""
        document = dataclasses.asdict(self)
        for name in ("map_threshold", "scales"):
            if getattr(self.verdict, name) is None:
                del document["verdict"][name]
        if self.design is None:
            del document["design"]
        return json.dumps(document, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, name: str) -> ModelInfo:
        """Read and check a document; ModelError names ``name`` and what does not fit."""
        return cls.from_document(parse(text, name), name)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], name: str) -> ModelInfo:
        """The same of a document that is parsed. Fields that are not known are ignored."""
        try:
            found = known(cls, document)
            found["verdict"] = Verdict(**known(Verdict, found["verdict"]))
            if found.get("design") is not None:
                found["design"] = Network(**known(Network, found["design"]))
            for name_of in ("frame", "float32_nodes"):
                if found.get(name_of) is not None:
                    found[name_of] = tuple(found[name_of])
            return cls(**found)
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from None
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(
                f"{name}: metadata does not follow schema {SCHEMA} ({one_line(error)}); export again"
            ) from None


def known(kind: Any, document: Any) -> Dict[str, Any]:
    """The fields of a dataclass that are in a document: a later version may have added others."""
    if not isinstance(document, Mapping):
        raise TypeError(f"{kind.__name__} is no object")
    return {one.name: document[one.name] for one in dataclasses.fields(kind) if one.name in document}


def parse(text: str, name: str) -> Dict[str, Any]:
    """A JSON object of this major version, or ModelError naming the version found."""
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
        _check(document, MOST_DEPTH)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{name}: metadata is not JSON ({one_line(error, 80)}); the file is damaged, make it again"
        ) from None
    document = document if isinstance(document, dict) else {}
    found = document.get("schema")
    if type(found) is not int or found != SCHEMA:
        raise (VersionError if type(found) is int else ModelError)(
            f"{name}: schema version {one_line(found, 20)}, this ssn-edge reads {SCHEMA}; "
            "train or export again with this version, or install the one that made it"
        )
    return document


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands there twice")
    return document


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _check(value: Any, left: int) -> None:
    """ValueError for what is too deep, and for text that a terminal would obey or that cannot be written."""
    if not left:
        raise ValueError(f"more than {MOST_DEPTH} levels deep")
    if isinstance(value, str) and UNPRINTABLE.search(value):
        raise ValueError("text with control characters")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number beyond all")  # as 1e999 is read
    if isinstance(value, dict):
        for key in value:
            _check(key, left)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check(inner, left - 1)


def from_metadata(metadata: Mapping[str, str], name: str) -> ModelInfo:
    """The document out of a model file's metadata."""
    text: Optional[str] = metadata.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{name}: no ssn-edge metadata inside; use a model written by ssn-export"
        )
    return ModelInfo.from_json(text, name)
