"""ONNX Runtime on the CPU, or with another of its providers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict, Optional, Tuple, Union, cast

import numpy as np
import onnxruntime

from ssn_edge.backends import providers
from ssn_edge.backends.providers import Provider
from ssn_edge.backends.session import Library
from ssn_edge.errors import BackendError, ModelError
from ssn_edge.files import check_sha256, sha256
from ssn_edge.text import one_line

NAME = "onnxruntime"


def version() -> str:
    """The installed ONNX Runtime's."""
    return str(onnxruntime.__version__)


def open_session(
    path: Path, batch: int, digest: Optional[str] = None, host_code: bool = False,
    threads: Optional[int] = None,
) -> Session:
    """A session for any batch size (the graph's batch axis is free). ``host_code``: engines' alone."""
    if digest is not None:
        check_sha256(path, sha256(path), digest)
    try:
        session = inference_session(str(path), threads=threads)
    except Exception as error:  # its exceptions share no public base class
        reason = str(error).splitlines()[0][:160]
        raise ModelError(
            f"{path}: ONNX Runtime cannot load it ({reason}); export or copy the model again"
        ) from None
    return Session(session, batch)


def inference_session(
    model: Union[str, bytes], profile: Optional[str] = None, threads: Optional[int] = None
) -> onnxruntime.InferenceSession:
    """ONNX Runtime's own session on the CPU, of a path or an ONNX file's bytes, as all of ssn-edge sets it
    up. ``profile`` is how the name of its profiler's file begins. Raises what the library raises.
    """
    options = _session_options(threads)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _session_options(threads: Optional[int]) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors reach the caller as exceptions
    # Worker threads wait actively within a frame, not between frames: cores are the line's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def on_provider(asked: str) -> Library:
    """ONNX Runtime with one of its providers (:func:`.providers.find`)."""
    found = providers.find(asked)
    return cast(Library, sys.modules[__name__] if found.short == providers.CPU else WithProvider(found))


class WithProvider:
    """Fits :class:`.session.Library`: the whole graph runs on the provider, or the file is not opened."""

    def __init__(self, provider: Provider):
        self.NAME, self._provider = f"{NAME}:{provider.short}", provider

    def version(self) -> str:
        """ONNX Runtime's."""
        return version()

    def open_session(
        self, path: Path, batch: int, digest: Optional[str] = None, host_code: bool = False,
        threads: Optional[int] = None,
    ) -> Session:
        """As :func:`open_session`; BackendError where the provider does not take the file."""
        own = self._provider.options(threads)
        if digest is not None:
            check_sha256(path, sha256(path), digest)
        try:
            session = self._session(str(path), own)
        except Exception as error:
            reason = one_line(error, 200)
            if "assigned to the default CPU EP" in reason:
                reason = "it did not start, or leaves a part to the CPU"
            raise BackendError(f"{path}: not run by {self.NAME} ({reason})") from None
        session.disable_fallback()  # it would open another on the CPU when a call fails
        if session.get_providers()[0] != self._provider.name:
            raise BackendError(f"{path}: not run by {self.NAME} (it did not start)")
        return Session(session, batch, self.NAME)

    def _session(self, model: str, own: Dict[str, str]) -> onnxruntime.InferenceSession:
        options = _session_options(None)
        # Providers take what they like of a graph and the CPU runs the rest, which may be all of it: then it
        # is as slow as without one, and a part on either side copies to and fro within a frame.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        name, device = self._provider.name, self._provider.device
        if device is not None:
            options.add_provider_for_devices([device], own)
            return onnxruntime.InferenceSession(model, options, enable_fallback=0)
        return onnxruntime.InferenceSession(model, options, [(name, own)], enable_fallback=0)


class Session:
    """Fits :class:`.session.Session`."""

    max_batch: Optional[int] = None

    def __init__(self, session: onnxruntime.InferenceSession, batch: int, name: str = "ONNX Runtime"):
        self._session, self._batch, self._name = session, batch, name
        self.metadata: Dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def prepare(self, input_hw: Tuple[int, int]) -> np.ndarray:
        """As of :class:`.session.Session`."""
        self._images = np.empty((self._batch, *input_hw, 3), np.uint8)
        self._bound: Optional[Tuple[int, int, Tuple[int, ...]]] = None
        return self._images

    def infer(self, maps: np.ndarray, scores: np.ndarray) -> None:
        """As of :class:`.session.Session`."""
        try:
            binding = self._bind(maps, scores)
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()  # a device's copies to these arrays are done
        except Exception as error:
            reason = str(error).splitlines()[0][:160]
            raise BackendError(f"{self._name} failed: {reason}") from None

    def _bind(self, maps: np.ndarray, scores: np.ndarray) -> onnxruntime.IOBinding:
        """A camera loop gives the same arrays with every frame: they are bound once."""
        where = maps.ctypes.data, scores.ctypes.data, maps.shape
        if where != self._bound:
            images, binding = self._images[: len(maps)], self._session.io_binding()
            binding.bind_input("image", "cpu", 0, np.uint8, images.shape, images.ctypes.data)
            binding.bind_output("anomaly_map", "cpu", 0, np.float32, maps.shape, where[0])
            binding.bind_output("score", "cpu", 0, np.float32, scores.shape, where[1])
            self._bound, self._binding = where, binding
        return self._binding

    def close(self) -> None:
        """As of :class:`.session.Session`."""
        self._session = self._binding = None
