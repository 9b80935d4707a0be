"""What an engine of TensorRT, or of TensorRT for RTX, says of itself, in its name.

An engine is a plain serialized plan. The one text that TensorRT carries inside is the network's
name, at most 4095 bytes (a longer one is refused, and the network keeps the name that it had).
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from ssn_edge.errors import ModelError
from ssn_edge.files import PathLike
from ssn_edge.model.schema import SCHEMA, ModelInfo, known, parse
from ssn_edge.text import one_line

NAME_BYTES = 4095
"""Longest name that TensorRT takes, without the final zero."""

MOST_BATCH = 1 << 16
MOST_CAPABILITIES = 16

CACHE_SUFFIX = ".rtxcache"
"""Of a file beside an engine: what TensorRT for RTX compiled of it for one card. Any may be deleted."""

CAPABILITY = r"[0-9]{1,3}\.[0-9]{1,3}"

VERSION = r"[0-9]{1,6}\.[0-9]{1,6}(\.[0-9A-Za-z]{1,9})*"

PRODUCTS = {"tensorrt": "TensorRT", "rtx": "TensorRT for RTX"}
"""Whose engine: the back end's name, and what people call it."""

HEAD_BYTES = 1 << 16
"""The description lies within the first bytes of a plan, as they are."""


def build_again(product: str = "tensorrt") -> str:
    """What to do about an engine that does not fit."""
    word = "" if product == "tensorrt" else f" {product}"
    return f"build it again: ssn-export MODEL.ssn --engine{word}, or ssn-export MODEL.onnx --engine-out FILE"


@dataclass(frozen=True)
class EngineInfo:
    """``model`` has the engine's own precision and none of the export's tables.

    ``source`` and ``onnx_sha256`` name the ONNX file it was built from, ``tensorrt``,
    ``compute_capability`` ("8.7") and ``device`` what it was built on; ``batch`` is the largest.
    ``product`` is one of :data:`PRODUCTS`: of one for RTX ``tensorrt`` is that product's release,
    ``compute_capabilities`` are all that it was built for, the first of them in ``compute_capability``, and
    ``device`` is empty, since no card was needed. ``unverified`` says that it was not compared with the
    trained model when it was built.
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
    product: str = "tensorrt"
    compute_capabilities: Tuple[str, ...] = ()
    schema: int = SCHEMA

    def to_name(self) -> str:
        """The document as a network's name; ModelError if TensorRT would refuse it. Fields that say nothing
        are left out, so that runtimes from before there were any read the engine."""
        document = self.document()
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
        if len(text.encode()) > NAME_BYTES:
            raise ModelError(
                f"{self.source}: its description has {len(text.encode())} bytes, an engine's name "
                f"holds {NAME_BYTES}; shorten the verdict's method and export again"
            )
        return text

    def document(self) -> Dict[str, Any]:
        """What :meth:`from_document` reads."""
        document = dataclasses.asdict(self)
        if not self.unverified:
            del document["unverified"]
        if self.product == "tensorrt":
            del document["product"], document["compute_capabilities"]
        return document

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
            if not isinstance(info.compute_capabilities, (list, tuple)):
                raise ValueError("compute capabilities")
            info = dataclasses.replace(info, compute_capabilities=tuple(info.compute_capabilities))
            capabilities = (info.compute_capability, *info.compute_capabilities)
            versions = ((VERSION, info.tensorrt), *((CAPABILITY, one) for one in capabilities))
            for pattern, version in versions:
                if not re.fullmatch(pattern, version):
                    raise ValueError(f"version {version}")
            if info.product not in PRODUCTS:
                raise ValueError(f"product {one_line(info.product, 40)}")
            if info.product == "rtx" and not 1 <= len(info.compute_capabilities) <= MOST_CAPABILITIES:
                raise ValueError(f"{len(info.compute_capabilities)} compute capabilities")
            if type(info.batch) is not int or not 1 <= info.batch <= MOST_BATCH:
                raise ValueError(f"batch {info.batch}")
            for text in (info.source, info.onnx_sha256, info.device):
                if not isinstance(text, str):
                    raise ValueError(f"{text}: no text")
            return info
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"{name}: its description does not fit ({one_line(error)}); {build_again()}"
            ) from None

    @property
    def made_with(self) -> str:
        """Product and release, as people say it."""
        return f"{PRODUCTS[self.product]} {self.tensorrt}"

    def misfit(
        self, product: str, version: str, compute_capability: str, device: str
    ) -> Optional[str]:
        """Why it does not run on this product and GPU, in a few words; None if it does."""
        if product != self.product:
            return f"built with {self.made_with}, not {PRODUCTS[product]}"
        if self.product == "rtx":
            return self._misfit_rtx(version, compute_capability, device)
        ours, built = version.split("."), self.tensorrt.split(".")
        same = ours[:4] == built[:4]
        later = [int(n) for n in ours[:2]] >= [int(n) for n in built[:2]]
        if not (same or self.version_compatible and later):
            return f"built with {self.made_with}, here is {version}"
        newer = float(compute_capability) >= max(8.0, float(self.compute_capability))
        if not (compute_capability == self.compute_capability or self.hardware_compatible and newer):
            return (
                f"built on {self.device} (compute capability {self.compute_capability}), here "
                f"is {device} ({compute_capability})"
            )
        return None

    def _misfit_rtx(self, version: str, compute_capability: str, device: str) -> Optional[str]:
        """Only where NVIDIA promises it and it was asked for: the same release, and a card of the list."""
        if version != self.tensorrt:
            return f"built with {self.made_with}, here is {version}"
        if compute_capability not in self.compute_capabilities:
            return (
                f"built for compute capability {', '.join(self.compute_capabilities)}, here is {device} "
                f"({compute_capability})"
            )
        return None


def product_of(head: bytes) -> str:
    """Whose plan this is, by the :data:`HEAD_BYTES` that it begins with; "tensorrt" where they do not say."""
    return "rtx" if head.startswith(b"vtrt") or b'"product":"rtx"' in head else "tensorrt"


def check_trust(path: PathLike, info: EngineInfo, trusted: bool) -> None:
    """ModelError for a version-compatible engine whose user gave no sha256."""
    if info.version_compatible and not trusted:
        raise ModelError(
            f"{path}: a version-compatible engine brings host code of its own; give the sha256 that "
            "ssn-export prints (of a bundle --info does, the manifest's), with --sha256, to allow it"
        )
