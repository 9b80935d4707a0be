"""The tiny model: real ONNX with known answers, for the back ends that are installed.

Its anomaly map is the image's mean over colours, its score the map's maximum over 255.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

from ssn_edge.files import PathLike
from ssn_edge.model.onnx_metadata import appended
from ssn_edge.model.schema import METADATA_KEY, ModelInfo, Verdict

HEIGHT, WIDTH = 32, 48

GRAPH = Path(__file__).with_name("tiny.onnx")
"""Without a description: ``Cast``, ``ReduceMean``, ``ReduceMax``, ``Div``."""


def tiny_info(**changes: Any) -> ModelInfo:
    """What the tiny model says of itself: NG from a score of 0.5, mask from 100; ``changes`` are fields of
    :class:`ssn_edge.ModelInfo`.

    >>> tiny_info().size_hw
    (32, 48)
    """
    fields: Dict[str, Any] = dict(
        height=HEIGHT, width=WIDTH, verdict=Verdict("score", 0.5, 100.0, "chosen for the test", 0),
        backbone="none", precision="float32", checkpoint_sha256="0" * 64,
    )
    return ModelInfo(**{**fields, **changes})


def tiny_model(info: Optional[ModelInfo] = None) -> bytes:
    """The ONNX file's bytes, with a description inside (:func:`tiny_info`'s if None).

    >>> len(tiny_model()) < 1000
    True
    """
    return appended(GRAPH.read_bytes(), {METADATA_KEY: (info or tiny_info()).to_json()})


def write_tiny_model(path: PathLike, info: Optional[ModelInfo] = None) -> Path:
    """:func:`tiny_model` as a file; returns its path.

    >>> import tempfile, numpy, ssn_edge
    >>> folder = tempfile.mkdtemp()
    >>> with ssn_edge.Detector.open(write_tiny_model(folder + "/tiny.onnx")) as detector:
    ...     detector.detect(numpy.full((32, 48, 3), 51, numpy.uint8)).score.__round__(6)
    0.2
    """
    path = Path(path)
    path.write_bytes(tiny_model(info))
    return path
