"""How fast the work could be at best: by what this device was measured to do, or by a data sheet."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np

from ssn_bench.measure import environment
from ssn_edge.errors import InputError
from ssn_export.work import cards
from ssn_export.work.stages import Graph, Work

SIDE = 1536
"""Of the measured matrix product."""

COPY_BYTES = 128 << 20

REPEATS = 7

HALF_BYTES = 2


class Peak(NamedTuple):
    """Multiply-accumulates and bytes a second."""

    macs: float
    bytes: float


def measured(backend: str) -> Dict[str, Any]:
    """This CPU's peak: a float32 matrix product by NumPy and by the back end itself, the faster of
    the two, and a copy by all CPUs. Best of several; read and written bytes both count."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(SIDE, SIDE)).astype(np.float32) for _ in range(2))
    by = {"numpy": _best(lambda: a @ b)}
    library = _library_product(backend, a, b)
    if library is not None:
        by[backend] = _best(library)
    source, copy = np.ones(COPY_BYTES, np.uint8), np.empty(COPY_BYTES, np.uint8)
    parts = len(environment.affinity())
    pairs = list(zip(np.array_split(copy, parts), np.array_split(source, parts)))
    with ThreadPoolExecutor(parts) as pool:
        copied = _best(lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs)))
    return {
        "gmacs_per_second": {name: SIDE**3 / 1e9 / seconds for name, seconds in by.items()},
        "gigabytes_per_second": 2 * COPY_BYTES / 1e9 / copied,
        "how": f"float32 product of {SIDE} x {SIDE} matrices; copy of {COPY_BYTES >> 20} MiB",
    }


def better(first: Dict[str, Any], second: Dict[str, Any]) -> Dict[str, Any]:
    """The higher figures of two measurements: a shared machine is slower at some moments."""
    rates = {
        name: max(first["gmacs_per_second"][name], second["gmacs_per_second"][name])
        for name in first["gmacs_per_second"]
    }
    key = "gigabytes_per_second"
    return {**first, "gmacs_per_second": rates, key: max(first[key], second[key])}


def peak_of(found: Dict[str, Any]) -> Peak:
    return Peak(1e9 * max(found["gmacs_per_second"].values()), 1e9 * found["gigabytes_per_second"])


def bound_ms(works: List[Work], peak: Peak, element_bytes: int) -> float:
    """The roofline: each node at the slower of its arithmetic and its traffic, none overlapping."""
    return 1e3 * sum(
        max(work.macs / peak.macs, element_bytes * work.elements / peak.bytes) for work in works
    )


def predict(graph: Graph, names: List[str]) -> Dict[str, float]:
    """Lower bounds in ms, float16, batch 1, for devices by name (``all``: every one in devices.json).

    Bounds, not predictions of what will be measured: real kernels reach half of it at best, and each adds 3
    to 5 microseconds.
    """
    known = cards.read()
    wanted = list(known) if "all" in names else names
    for name in wanted:
        if name not in known:
            raise InputError(f"--predict {name}: choose from {', '.join(known)}, all")
    return {
        name: bound_ms(
            list(graph.work.values()), Peak(known[name].half / 2, known[name].bandwidth), HALF_BYTES
        )
        for name in wanted
    }


def _best(call: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def _library_product(backend: str, a: np.ndarray, b: np.ndarray) -> Optional[Callable[[], object]]:
    """The same product as a graph of one node in the inference library."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])], "product",
        [value("a", TensorProto.FLOAT, list(a.shape))], [value("c", TensorProto.FLOAT, list(a.shape))],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    if backend == "onnxruntime":
        from ssn_edge.backends.onnxruntime_backend import inference_session

        session = inference_session(model.SerializeToString())
        return lambda: session.run(None, {"a": a})
    if backend == "openvino":
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(model.SerializeToString(), b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        request = compiled.create_infer_request()
        return lambda: request.infer({"a": a})
    return None
