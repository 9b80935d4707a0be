"""ssn-edge's runtime: a model file and frames in, verdicts out. NumPy and OpenCV only.

Public is what this package exports (``__all__``), the public names of the modules among it, and
:mod:`ssn_edge.testing`. Everything else may change with any version.
"""

from ssn_edge import telemetry  # noqa: F401  (first)
from ssn_edge.detector import Detector
from ssn_edge.errors import BackendError, InputError, ModelError, SsnEdgeError
from ssn_edge.frames.placement import View
from ssn_edge.line import sinks, stream
from ssn_edge.line.results import Result, Sink, Summary
from ssn_edge.model.schema import ModelInfo, Verdict
from ssn_edge.sources import Frame, Source, shared_memory
from ssn_edge.verdict.detection import Detection, Latency
from ssn_edge.verdict.judge import Judge
from ssn_edge.verdict.regions import Region

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "Detection",
    "Detector",
    "Frame",
    "InputError",
    "Judge",
    "Latency",
    "ModelError",
    "ModelInfo",
    "Region",
    "Result",
    "Sink",
    "Source",
    "SsnEdgeError",
    "Summary",
    "Verdict",
    "View",
    "shared_memory",
    "sinks",
    "sources",
    "stream",
]
