"""A Triton model repository from a bundle or an ONNX file: ``config.pbtxt``, the file, a label.

https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
describes the fields, ``model_config.proto`` their types; a test parses what is written with it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from string import Template
from typing import Callable, Dict, List, NamedTuple, Optional

from ssn_edge.backends import selection
from ssn_edge.errors import InputError
from ssn_edge.files import replacing
from ssn_edge.model import bundle
from ssn_edge.model.onnx_metadata import read_info
from ssn_edge.model.schema import ModelInfo
from ssn_export.bundles import calibrations

ONNX_BATCH = 16
"""Largest batch that the server may form for an ONNX file, whose batch axis is free."""

QUEUE_US = 1000
"""How long the server may wait for a batch to fill: little beside a frame's computation."""

LABELS = "labels.txt"

CONFIG = Template("""\
# Written by ssn-export from $source. Frames: uint8 BGR [$height, $width, 3].
name: "$name"
$backend
max_batch_size: $batch
input [
  { name: "image" data_type: TYPE_UINT8 dims: [ $height, $width, 3 ] }
]
output [
$outputs
]
instance_group [ { kind: $kind count: 1 } ]
dynamic_batching { $preferred max_queue_delay_microseconds: $queue }
model_warmup [
$warmup
]
$parameters
""")


class Kind(NamedTuple):
    """How Triton runs one kind of file."""

    backend: str
    file: str
    group: str


KINDS: Dict[str, Kind] = {
    "onnx": Kind('backend: "onnxruntime"', "model.onnx", "KIND_AUTO"),
    "tensorrt": Kind('platform: "tensorrt_plan"', "model.plan", "KIND_GPU"),
}


class Served(NamedTuple):
    """A file to be served: its ``kind`` of :data:`KINDS`, the name of the model that it becomes in the
    repository, and the largest batch that the server may form."""

    file: Path
    kind: str
    name: str
    info: ModelInfo
    batch: int


def of_file(model: Path) -> List[Served]:
    """A plain ONNX file."""
    return [Served(model, "onnx", _name(model.stem, "onnx"), read_info(model), ONNX_BATCH)]


def of_bundle(
    path: Path, precision: Optional[str] = None, calibration: Optional[str] = None
) -> List[Served]:
    """The bundle's graph in ``precision`` (float32 if None), and its engines; each with the thresholds that
    the ``calibration`` of this name (None: the one in use) has for it. InputError for one that there is none
    of."""
    found = bundle.read(path)
    graph = selection.graph_of(found, precision or "float32")
    file = bundle.check(found, graph)
    info = read_info(file)
    selection.check_same(file, info, found)
    info = calibrations.judged(found, graph, info, calibration)
    served = [Served(file, "onnx", _name(path.stem, "onnx"), info, ONNX_BATCH)]
    engines = [one for one in found.of_role("engine") if one.engine and one.engine.product == "tensorrt"]
    for entry in engines:  # those of TensorRT for RTX are for no server
        assert entry.engine is not None
        which = "tensorrt" if len(engines) == 1 else f"tensorrt_{entry.sha256[:8]}"
        file = bundle.check(found, entry, force=True)
        info = calibrations.judged(found, entry, entry.engine.model, calibration, "tensorrt")
        served.append(Served(file, "tensorrt", _name(path.stem, which), info, entry.engine.batch))
    return served


def _name(stem: str, what: str) -> str:
    return "{}_{}".format(re.sub(r"[^A-Za-z0-9_-]+", "_", stem), what)


def write(models: List[Served], folder: Path, log: Callable[[str], object] = print) -> List[Path]:
    """One model of the repository ``folder`` for every file; returns the files written.

    Raises InputError for an existing file instead of a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--triton {folder}: is a file; give a folder")
    written: List[Path] = []
    for model in models:
        place = folder / model.name
        copy = place / "1" / KINDS[model.kind].file
        with replacing(copy) as temporary:
            shutil.copyfile(model.file, temporary)
        for file, content in ((LABELS, "defect\n"), ("config.pbtxt", config(model))):
            with replacing(place / file) as temporary:
                temporary.write_text(content, encoding="utf-8")
        written += [copy, place / LABELS, place / "config.pbtxt"]
        log(f"wrote {place}: {calibrations.words(model.info)}")
    return written


def config(model: Served) -> str:
    """The text of its ``config.pbtxt``."""
    kind, info, batch = KINDS[model.kind], model.info, model.batch
    height, width = info.input_hw
    return CONFIG.substitute(
        source=model.file.name, name=model.name, backend=kind.backend, batch=batch, height=height,
        width=width, kind=kind.group, queue=QUEUE_US, outputs=_outputs(info), parameters=_parameters(info),
        preferred=f"preferred_batch_size: [ {batch} ]" if batch > 1 else "",
        warmup=",\n".join(_warmup(n, height, width) for n in sorted({1, batch})),
    )


def _outputs(info: ModelInfo) -> str:
    height, width = info.size_hw
    full = f"dims: [ {height}, {width} ]"
    single = "dims: [ 1 ] reshape { shape: [ ] }"  # the model's shape is the batch alone
    rows = [
        ("anomaly_map", "TYPE_FP32", full),
        ("score", "TYPE_FP32", f'{single} label_filename: "{LABELS}"'),
    ]
    if info.verdict_inside:
        rows += [("mask", "TYPE_UINT8", full), ("is_defect", "TYPE_UINT8", single)]
    return ",\n".join(f'  {{ name: "{n}" data_type: {t} {shape} }}' for n, t, shape in rows)


def _warmup(batch: int, height: int, width: int) -> str:
    """Dark frames at start, so that no camera's first frame pays for initialisation."""
    value = f"data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] zero_data: true"
    return (
        f'  {{ name: "dark_{batch}" batch_size: {batch} count: 3 '
        f'inputs {{ key: "image" value: {{ {value} }} }} }}'
    )


def _parameters(info: ModelInfo) -> str:
    """The verdict, for clients that judge themselves, and what is promised of it."""
    verdict = {
        "verdict_source": info.verdict.source,
        "image_threshold": repr(info.verdict.image_threshold),
        "pixel_threshold": repr(info.verdict.pixel_threshold),
        **({"map_threshold": repr(info.verdict.map_threshold)} if info.verdict.source == "either" else {}),
        **({"calibration": info.calibration} if info.calibration else {}),
        "promise": info.verdict.method,
        "backbone": info.backbone,
    }
    return "\n".join(
        f'parameters {{ key: "{key}" value: {{ string_value: {json.dumps(value, ensure_ascii=False)} }} }}'
        for key, value in verdict.items()
    )
