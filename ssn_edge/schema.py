"""The one JSON document that travels inside every model file, and its checks."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from ssn_edge.errors import ModelError

SCHEMA = 1
"""Version of the document; raised when a field changes its meaning."""

METADATA_KEY = "ssn_edge"
"""Key of the document in an ONNX file's ``metadata_props``."""

VERDICT_SOURCES = ("score", "map_max", "either")
GEOMETRIES = ("stretch", "letterbox")


@dataclass(frozen=True)
class Verdict:
    """How a frame is judged (:class:`ssn_edge.judge.Judge` does it): NG where ``source`` reaches its
    threshold. A value equal to a threshold reaches it.

    ``score`` is the classification head's sigmoid, ``map_max`` the maximum of the anomaly map's logits:
    ``image_threshold`` is that source's. With ``either`` it is the score's, and ``map_threshold`` the
    map's: one of the two is enough. Map pixels that reach ``pixel_threshold`` (a logit) form the mask.
    ``method`` says how the thresholds were found, ``n`` from how many normal images.
    """

    source: str
    image_threshold: float
    pixel_threshold: float
    method: str
    n: int
    map_threshold: Optional[float] = None

    def __post_init__(self) -> None:
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
class ModelInfo:
    """What a deployed model file says of itself.

    ``height`` and ``width`` are the input's in pixels; frames are stretched to them, or letterboxed
    (``geometry``), and given as uint8 [N, height, width, 3] in ``colour`` order; with ``frame``
    (height, width) the file takes camera frames of that size and stretches them itself. ``plan``
    is how the heads are computed, ``plan_table`` the timings it was chosen by; ``verdict_inside``
    says that the outputs ``mask`` and ``is_defect`` exist. ``parity`` holds
    the errors against the trained model that were measured at export. ``float32_nodes`` names the
    graph's nodes that must stay in float32 where the rest is computed in half; None: not measured.
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
    parity: Mapping[str, Any] = field(default_factory=dict)
    float32_nodes: Optional[Tuple[str, ...]] = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
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

    def to_json(self) -> str:
        """The document; :meth:`from_json` reads it back unchanged. A ``map_threshold`` that there is
        none of is left out, so that runtimes from before there was one read the file."""
        document = dataclasses.asdict(self)
        if self.verdict.map_threshold is None:
            del document["verdict"]["map_threshold"]
        return json.dumps(document, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, name: str) -> ModelInfo:
        """Read and check a document; ModelError names ``name`` and what does not fit."""
        document = parse(text, name)
        try:
            document["verdict"] = Verdict(**document["verdict"])
            for name_of in ("frame", "float32_nodes"):
                if document.get(name_of) is not None:
                    document[name_of] = tuple(document[name_of])
            return cls(**document)
        except (KeyError, TypeError) as error:
            raise ModelError(
                f"{name}: metadata does not follow schema {SCHEMA} ({error}); export again"
            ) from None


def parse(text: str, name: str) -> Dict[str, Any]:
    """A JSON object of this schema version, or ModelError naming the version found."""
    try:
        document = json.loads(text)
    except ValueError:
        raise ModelError(f"{name}: metadata is not JSON; the file is damaged, make it again") from None
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMA:
        raise ModelError(
            f"{name}: schema version {found}, this ssn-edge reads {SCHEMA}; "
            "train or export again with this version, or install the one that made it"
        )
    return document


def from_metadata(metadata: Mapping[str, str], name: str) -> ModelInfo:
    """The document out of a model file's metadata."""
    text: Optional[str] = metadata.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{name}: no ssn-edge metadata inside; use a model written by ssn-export"
        )
    return ModelInfo.from_json(text, name)
