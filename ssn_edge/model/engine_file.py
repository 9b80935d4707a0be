"""What a TensorRT engine says of itself, in its name.

An engine is a plain serialized plan. The one text that TensorRT carries inside is the network's
name, at most 4095 bytes (a longer one is refused, and the network keeps the name that it had).
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, Optional

from ssn_edge.errors import ModelError
from ssn_edge.files import PathLike
from ssn_edge.model.schema import SCHEMA, ModelInfo, known, parse
from ssn_edge.text import one_line

NAME_BYTES = 4095
"""Longest name that TensorRT takes, without the final zero."""

MOST_BATCH = 1 << 16

VERSION = r"[0-9]{1,6}\.[0-9]{1,6}(\.[0-9A-Za-z]{1,9})*"

BUILD = "build it again: ssn-export MODEL.ssn --engine, or ssn-export MODEL.onnx --engine-out FILE"


@dataclass(frozen=True)
class EngineInfo:
    """``model`` has the engine's own precision and none of the export's tables.

    ``source`` and ``onnx_sha256`` name the ONNX file it was built from, ``tensorrt``,
    ``compute_capability`` ("8.7") and ``device`` what it was built on; ``batch`` is the largest.
    ``unverified`` says that its builder asked for no comparison with the trained model.
    """

    model: ModelInfo
    source: str
    onnx_sha256: str
    tensorrt: str
    compute_capability: str
    device: str
    batch: int = 1
    fp16_flag: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    unverified: bool = False
    schema: int = SCHEMA

    def to_name(self) -> str:
        """The document as a network's name; ModelError if TensorRT would refuse it. ``unverified`` is left
        out where it does not hold, so that runtimes from before there was one read the engine."""
        document = dataclasses.asdict(self)
        if not self.unverified:
            del document["unverified"]
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
        if len(text.encode()) > NAME_BYTES:
            raise ModelError(
                f"{self.source}: its description has {len(text.encode())} bytes, an engine's name "
                f"holds {NAME_BYTES}; shorten the verdict's method and export again"
            )
        return text

    @classmethod
    def from_name(cls, text: str, name: str) -> EngineInfo:
        """Read a network's name; ModelError names the file ``name``."""
        if not text.startswith("{"):
            raise ModelError(f"{name}: not built by ssn-edge; use an engine written by ssn-export")
        return cls.from_document(parse(text, name), name)

    @classmethod
    def from_document(cls, document: Dict[str, Any], name: str) -> EngineInfo:
        """The same of a document that is parsed. Fields that are not known are ignored."""
        try:
            found = known(cls, document)
            found["model"] = ModelInfo.from_document(found["model"], name)
            info = cls(**found)
            versions = ((VERSION, info.tensorrt), (r"[0-9]{1,3}\.[0-9]{1,3}", info.compute_capability))
            for pattern, version in versions:
                if not re.fullmatch(pattern, version):
                    raise ValueError(f"version {version}")
            if type(info.batch) is not int or not 1 <= info.batch <= MOST_BATCH:
                raise ValueError(f"batch {info.batch}")
            for text in (info.source, info.onnx_sha256, info.device):
                if not isinstance(text, str):
                    raise ValueError(f"{text}: no text")
            return info
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{name}: its description does not fit ({one_line(error)}); {BUILD}") from None

    def misfit(self, tensorrt: str, compute_capability: str, device: str) -> Optional[str]:
        """Why an engine of this kind does not run here, in a few words; None if it does."""
        ours, built = tensorrt.split("."), self.tensorrt.split(".")
        same = ours[:4] == built[:4]
        later = [int(n) for n in ours[:2]] >= [int(n) for n in built[:2]]
        if not (same or self.version_compatible and later):
            return f"built with TensorRT {self.tensorrt}, here is {tensorrt}"
        newer = float(compute_capability) >= max(8.0, float(self.compute_capability))
        if not (compute_capability == self.compute_capability or self.hardware_compatible and newer):
            return (
                f"built on {self.device} (compute capability {self.compute_capability}), here "
                f"is {device} ({compute_capability})"
            )
        return None


def check_trust(path: PathLike, info: EngineInfo, trusted: bool) -> None:
    """ModelError for a version-compatible engine whose user gave no sha256."""
    if info.version_compatible and not trusted:
        raise ModelError(
            f"{path}: a version-compatible engine brings host code of its own; give the sha256 that "
            "ssn-export prints (of a bundle --info does, the manifest's), with --sha256, to allow it"
        )
