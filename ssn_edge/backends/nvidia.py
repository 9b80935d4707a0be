"""What TensorRT and TensorRT for RTX have in common: one API under two module names, passed on as ``trt``."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Deque

from ssn_edge.errors import BackendError
from ssn_edge.text import one_line

LAYERS = "Layers:"
"""How the message begins in which a builder that logs everything lists the kernels that it made."""


@dataclass
class Said:
    """What the library logged since it was cleared: the last warnings and errors, and ``layers``, the lists
    of kernels."""

    errors: Deque[str] = field(default_factory=lambda: deque(maxlen=100))
    warnings: Deque[str] = field(default_factory=lambda: deque(maxlen=100))
    layers: Deque[str] = field(default_factory=lambda: deque(maxlen=4))

    def clear(self) -> None:
        """Forget it."""
        for part in (self.errors, self.warnings, self.layers):
            part.clear()

    def first(self) -> str:
        """The first error in one line: those behind it mostly say that there was one."""
        return one_line(self.errors[0] if self.errors else "no reason given", 240)

    def last(self) -> str:
        """The last error in one line."""
        return one_line(self.errors[-1] if self.errors else "no reason given", 240)


@dataclass(frozen=True)
class Product:
    """One of the two: its bindings ``trt``, the back end's ``name``, what people call it, and its log.

    ``said`` is filled by ``log``, the one of the process: the library keeps the first that it is given.
    """

    name: str
    title: str
    trt: Any
    log: Any
    said: Said

    def version(self) -> str:
        """The installed library's."""
        return str(self.trt.__version__)

    def words(self) -> str:
        """Title and version."""
        return f"{self.title} {self.version()}"

    def created(self, kind: Any, *arguments: Any) -> Any:
        """A builder or runtime; BackendError where the library cannot make one (no usable driver)."""
        try:
            return kind(*arguments)
        except TypeError as error:  # what the bindings make of a null pointer
            reason = self.said.last() if self.said.errors else str(error)
            raise BackendError(f"{self.words()} does not start ({reason}); check its driver") from None


def product(name: str, title: str, trt: Any) -> Product:
    """The product of the bindings ``trt``."""
    said = Said()

    class Log(trt.ILogger):
        """Keeps what is worth a message of ours; prints nothing."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            """Called by the library."""
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                said.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                said.warnings.append(message)
            elif message.startswith(LAYERS):
                said.layers.append(message)

    return Product(name, title, trt, Log(), said)
