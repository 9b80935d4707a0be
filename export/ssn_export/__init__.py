"""A run folder to a deployable model file. Submodules import torch where they need it."""

import ssn_edge  # noqa: F401  (before ONNX Runtime: it switches its reports off)
