"""What a TensorRT engine says of itself: in its name the core, in the ``.json`` beside it all.

An engine is a plain serialized plan. The one text that TensorRT carries inside is the network's
name, at most 4095 bytes (a longer one is refused, and the network keeps the name that it had); on
conflict it wins over the file beside it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from ssn_edge.errors import ModelError
from ssn_edge.files import PathLike, sha256
from ssn_edge.onnx_metadata import read_info
from ssn_edge.schema import SCHEMA, ModelInfo, parse

NAME_BYTES = 4095
"""Longest name that TensorRT takes, without the final zero."""

JSON_BYTES = 4 << 20
"""Most that is read of the ``.json``."""


@dataclass(frozen=True)
class EngineInfo:
    """The core. ``model`` has the engine's own precision and none of the export's tables.

    ``source`` and ``onnx_sha256`` name the ONNX file it was built from, ``tensorrt``,
    ``compute_capability`` ("8.7") and ``device`` what it was built on; ``batch`` is the largest.
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
    schema: int = SCHEMA

    def to_name(self) -> str:
        """The document as a network's name; ModelError if TensorRT would refuse it."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        if len(text.encode()) > NAME_BYTES:
            raise ModelError(
                f"{self.source}: its description has {len(text.encode())} bytes, an engine's name "
                f"holds {NAME_BYTES}; shorten the verdict's method and export again"
            )
        return text

    @classmethod
    def from_text(cls, text: str, name: str) -> EngineInfo:
        """Read a name or the core of a ``.json``; ModelError names the file ``name``."""
        if not text.startswith("{"):
            raise ModelError(f"{name}: not built by ssn-edge; use an engine written by ssn-export")
        document = parse(text, name)
        try:
            document["model"] = ModelInfo.from_json(json.dumps(document["model"]), name)
            return cls(**document)
        except (KeyError, TypeError) as error:
            raise ModelError(
                f"{name}: its description does not fit ({error}); {rebuild_advice(name)}"
            ) from None

    def rebuild_command(self, name: str) -> str:
        """The command that builds this engine again."""
        options = [
            ("--fp16", self.fp16_flag),
            (f"--batch {self.batch}", self.batch > 1),
            ("--version-compatible", self.version_compatible),
            ("--hardware-compatible", self.hardware_compatible),
        ]
        words = ["ssn-export", self.source, "--engine", Path(name).name]
        return " ".join(words + [option for option, given in options if given])

    def check_host(self, name: str, tensorrt: str, compute_capability: str, device: str) -> None:
        """ModelError, with the command that helps, unless an engine of this kind runs here."""
        ours, built = tensorrt.split("."), self.tensorrt.split(".")
        same = ours[:4] == built[:4]
        later = [int(n) for n in ours[:2]] >= [int(n) for n in built[:2]]
        if not (same or self.version_compatible and later):
            raise ModelError(
                f"{name}: built with TensorRT {self.tensorrt}, here is {tensorrt}; "
                f"{rebuild_advice(name, self)}"
            )
        newer = float(compute_capability) >= max(8.0, float(self.compute_capability))
        if not (compute_capability == self.compute_capability or self.hardware_compatible and newer):
            raise ModelError(
                f"{name}: built on {self.device} (compute capability {self.compute_capability}), here "
                f"is {device} ({compute_capability}); {rebuild_advice(name, self)}"
            )

    def check_source(self, path: Path) -> None:
        """ModelError if the ONNX file that lies beside the engine is not the one it was built from."""
        source = path.with_name(self.source)
        if source.is_file() and sha256(source) != self.onnx_sha256:
            raise ModelError(
                f"{path}: built from another {source.name} than the one beside it; "
                f"{rebuild_advice(path.name, self)}"
            )


def rebuild_advice(name: str, info: Optional[EngineInfo] = None) -> str:
    """How to get the engine ``name`` again, exactly where its description is known."""
    known = f"ssn-export MODEL.onnx --engine {Path(name).name}"
    return f"build it again: {info.rebuild_command(name) if info else known}"


def check_checkpoint(engine: Path, model: Path, found: ModelInfo) -> None:
    """ModelError unless the engine that would run in place of the ONNX file ``model`` comes from the same
    training; ``found`` is what the engine says of itself.

    An engine built from another file of its name (``NAME.fp16.onnx``) outlives the next export of NAME.onnx.
    """
    given = read_info(model).checkpoint_sha256
    if found.checkpoint_sha256 != given:
        raise ModelError(
            f"{engine}: made from another training than {model.name} (checkpoint "
            f"{found.checkpoint_sha256[:12]}..., not {given[:12]}...); build it again: ssn-export {model} "
            f"--engine {engine}, or give --backend onnxruntime"
        )


def description_path(engine: PathLike) -> Path:
    """The ``.json`` beside an engine."""
    return Path(engine).with_suffix(".json")


def read_description(engine: PathLike) -> Dict[str, Any]:
    """The ``.json`` beside an engine; empty where there is none. Raises ModelError if damaged."""
    path = description_path(engine)
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", errors="replace") as file:
        return parse(file.read(JSON_BYTES), str(path))


def check_described(engine: Path, model: Path) -> None:
    """:func:`check_checkpoint` by the ``.json`` beside the engine, where there is one."""
    description = read_description(engine)
    if description:
        check_checkpoint(engine, model, core_of(description, str(engine)).model)


def core_of(description: Mapping[str, Any], name: str) -> EngineInfo:
    """The core within a ``.json``."""
    return EngineInfo.from_text(json.dumps(description.get("engine", {})), name)
