"""The metadata of an ONNX file without the onnx package, which a Jetson does not need otherwise.

Only the outermost message is read; the graph, which is nearly all of the file, is skipped.
https://protobuf.dev/programming-guides/encoding/ describes the encoding, onnx.proto the fields.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, Mapping, Tuple

from ssn_edge.errors import InputError, ModelError
from ssn_edge.model.schema import ModelInfo, from_metadata

METADATA_PROPS = 14
"""Field of ModelProto: pairs of key (1) and value (2)."""

MOST_BYTES = 16 << 20
"""Of one pair; more is refused."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def read_info(path: Path) -> ModelInfo:
    """The description in an ONNX file. Raises InputError or ModelError, naming the file."""
    if not path.is_file():
        raise InputError(f"{path}: no such model file; write one with ssn-export RUN")
    try:
        metadata = read_metadata(path)
    except (EOFError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(
            f"{path}: not an ONNX file, or cut off ({error}); export or copy it again"
        ) from None
    return from_metadata(metadata, str(path))


def read_metadata(path: Path) -> Dict[str, str]:
    """All of ``metadata_props``. Raises EOFError or ValueError for anything but protobuf."""
    found = {}
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while file.tell() < size:
            number, kind = _tag(file)
            if kind == BYTES:
                length = _varint(file)
                if file.tell() + length > size:
                    raise EOFError(f"field {number} ends beyond the file")
                if number == METADATA_PROPS:
                    key, value = _pair(_exactly(file, min(length, MOST_BYTES)))
                    found[key] = value
                else:
                    file.seek(length, os.SEEK_CUR)
            elif kind == VARINT:
                _varint(file)
            else:
                _exactly(file, {FIXED64: 8, FIXED32: 4}[kind])
    return found


def appended(model: bytes, metadata: Mapping[str, str]) -> bytes:
    """An ONNX file's bytes with more ``metadata_props``: a repeated field may stand anywhere in a message."""
    pairs = (_field(1, key.encode()) + _field(2, value.encode()) for key, value in metadata.items())
    return model + b"".join(_field(METADATA_PROPS, pair) for pair in pairs)


def _field(number: int, content: bytes) -> bytes:
    return _number(number << 3 | BYTES) + _number(len(content)) + content


def _number(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def _pair(message: bytes) -> Tuple[str, str]:
    fields = dict(_strings(message))
    return fields.get(1, ""), fields.get(2, "")


def _strings(message: bytes) -> Iterator[Tuple[int, str]]:
    file = io.BytesIO(message)
    while file.tell() < len(message):
        number, kind = _tag(file)
        if kind != BYTES:
            raise ValueError("metadata is not text")
        yield number, _exactly(file, _varint(file)).decode()


def _tag(file: BinaryIO) -> Tuple[int, int]:
    tag = _varint(file)
    number, kind = tag >> 3, tag & 7
    if not number or kind not in (VARINT, FIXED64, BYTES, FIXED32):
        raise ValueError(f"byte {tag} at {file.tell() - 1}")
    return number, kind


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _exactly(file, 1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError(f"endless number at {file.tell()}")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise EOFError("it ends within a field")
    return data
