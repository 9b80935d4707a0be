"""ssn-edge's runtime: a model file and frames in, verdicts out. NumPy and OpenCV only."""

from ssn_edge import telemetry  # noqa: F401  (first)
from ssn_edge.detector import Detection, Detector, Latency
from ssn_edge.errors import BackendError, InputError, ModelError, SsnEdgeError
from ssn_edge.judge import Judge
from ssn_edge.regions import Region
from ssn_edge.schema import ModelInfo, Verdict

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "Detection",
    "Detector",
    "InputError",
    "Judge",
    "Latency",
    "ModelError",
    "ModelInfo",
    "Region",
    "SsnEdgeError",
    "Verdict",
]
