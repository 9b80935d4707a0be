"""What inference libraries report to their makers, off: a line sends nothing that nobody asked for.

Imported before anything else of ssn_edge, since the libraries look when they are loaded.

* ONNX Runtime from 1.29 on sends events from Linux, too, and keeps a device identifier and a database below
  the home folder (https://github.com/microsoft/onnxruntime/pull/27379). Who wants it sets the variable to 0.
* OpenVINO's converter, which ``import openvino`` brings along, reports through ``openvino_telemetry`` where
  that can be imported, and keeps an identifier; where it cannot, it uses a stub of its own.
"""

import os
import sys

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
