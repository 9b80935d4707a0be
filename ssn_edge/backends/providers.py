"""ONNX Runtime's execution providers by short names: those that it was built with, and plugins'."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import io
import json
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import onnxruntime

from ssn_edge.errors import BackendError, InputError
from ssn_edge.text import one_line

VERSION = str(onnxruntime.__version__)
CPU = "cpu"
SAME = {"directml": "dml"}
"""What people call it -> how ONNX Runtime does."""

PACKAGES = {
    "cuda": "onnxruntime-gpu in place of onnxruntime",
    "tensorrt": "onnxruntime-gpu in place of onnxruntime",
    "openvino": "onnxruntime-openvino in place of onnxruntime",
    "dml": "onnxruntime-directml in place of onnxruntime, on Windows",
    "coreml": "onnxruntime on a Mac",
    "nvtensorrtrtx": "onnxruntime-ep-nv-tensorrt-rtx beside onnxruntime",
}
"""What brings a provider. ONNX Runtimes that differ in their providers are packages that overwrite each
other's files; plugins lie beside any of them."""

PLUGIN = "onnxruntime_ep_"
"""How the modules of plugin packages begin; they tell where their library lies."""

OLDEST = (1, 16)
"""The first ONNX Runtime that can be forbidden to run part of a graph on the CPU."""


@dataclass(frozen=True)
class Provider:
    """``short``: in our names, as ``cuda``; ``name``: ONNX Runtime's; ``device``: the first that a plugin
    offers, None for a provider that is built in."""

    short: str
    name: str
    device: Optional[Any] = None

    def options(self, threads: Optional[int]) -> Dict[str, str]:
        """The provider's own, with which it computes in the file's precision and no other. InputError for
        ``threads`` that it has no use for."""
        if threads is not None and (self.device is not None or self.short != "openvino"):
            raise InputError(
                f"threads {threads}: onnxruntime:{self.short} computes on a device of its own, not in the "
                "CPU's threads; leave it out"
            )
        if self.short == "cuda":
            return {"use_tf32": "0"}  # else float32 is rounded to 10 bits
        if self.short == "openvino":
            settings = {"INFERENCE_PRECISION_HINT": "f32"}  # no bfloat16 on CPUs that have it
            if threads is not None:
                settings["INFERENCE_NUM_THREADS"] = str(threads)
            if self.device is not None:
                place = str(self.device.ep_metadata.get("ov_device", "CPU"))
                return {"load_config": json.dumps({place: settings})}
            return {"device_type": "CPU", "load_config": json.dumps({"CPU": settings})}
        return {}


def find(asked: str) -> Provider:
    """The provider of a short name in any case, or of ONNX Runtime's own name.

    Raises BackendError where it is not here, naming what is and what to install, does not load, or has no
    device.
    """
    short = short_name(asked)
    built_in = {short_name(name): name for name in onnxruntime.get_available_providers()}
    if short == CPU:
        return Provider(short, built_in[short])
    modules = _plugin_modules()
    device = _device(short)  # of a plugin that the caller has registered
    if device is None and short in built_in:
        _check_version(short)
        _check_library(short)
        return Provider(short, built_in[short])
    if device is None and short in modules:
        _register(modules[short])
        device = _device(short)
        if device is None:
            raise BackendError(f"onnxruntime:{short}: the plugin {modules[short]} finds no device here")
    if device is not None:
        return Provider(short, str(device.ep_name), device)
    there = ", ".join(dict.fromkeys([*built_in, *modules]))
    remedy = f"install {PACKAGES[short]}" if short in PACKAGES else "no package is known to bring it"
    name = one_line(asked, 40)
    raise BackendError(f"onnxruntime:{name}: ONNX Runtime {VERSION} here has {there}; {remedy}")


def short_name(name: str) -> str:
    """``NvTensorRTRTXExecutionProvider`` and ``nv_tensorrt_rtx`` are ``nvtensorrtrtx``."""
    plain = re.sub("executionprovider$", "", re.sub("[_-]", "", name).lower())
    return SAME.get(plain, plain)


def _check_version(short: str) -> None:
    found = tuple(int(part) for part in VERSION.split(".")[:2])
    if found < OLDEST:
        raise BackendError(
            f"onnxruntime:{short}: ONNX Runtime {VERSION} would run on the CPU what a provider leaves; "
            "install 1.16 or newer"
        )


def _check_library(short: str) -> None:
    """BackendError, naming what is missing, where a built-in provider's library does not load, which ONNX
    Runtime itself would write to its log, to go on with the CPU."""
    if short in ("cuda", "tensorrt") and hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            onnxruntime.preload_dlls()  # CUDA and cuDNN where pip has put them
    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{short}.so"
    if library.is_file():
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            raise BackendError(f"onnxruntime:{short}: does not load here ({one_line(error)})") from None


def _device(short: str) -> Optional[Any]:
    """The first that a registered plugin offers, whoever registered it."""
    found: Sequence[Any] = getattr(onnxruntime, "get_ep_devices", list)()
    return next((one for one in found if short_name(one.ep_name) == short), None)


def _plugin_modules() -> Dict[str, str]:
    """Installed plugin packages: short name -> module. None is imported: an import may load libraries."""
    names = (one.name for one in pkgutil.iter_modules() if one.name.startswith(PLUGIN))
    return {short_name(name[len(PLUGIN):]): name for name in names}


@functools.lru_cache(None)
def _register(module: str) -> None:
    """Load a plugin's library, once in a process."""
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise BackendError(f"{module}: ONNX Runtime {VERSION} takes no plugins; install 1.23 or newer")
    try:
        path = importlib.import_module(module).get_library_path()
        onnxruntime.register_execution_provider_library(module, path)
    except Exception as error:  # the package's own, and the library's, which share no base class
        reason = one_line(str(error).rpartition(" with error: ")[2])
        raise BackendError(f"{module}: the plugin's library does not load here ({reason})") from None
