"""NVIDIA's compiler for RTX cards over our graphs: ``make test-rtx``. Elsewhere nothing here is collected."""

import importlib.util

if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
    collect_ignore_glob = ["test_*.py"]
