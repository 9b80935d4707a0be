"""A detector without an inference library: everything but the network is the real thing."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, Optional, Tuple, Union

import numpy as np

from ssn_edge.backends.selection import Choice
from ssn_edge.backends.session import Session
from ssn_edge.detector import Detector
from ssn_edge.frames.placement import View
from ssn_edge.model.schema import METADATA_KEY, ModelInfo
from ssn_edge.testing.tiny import tiny_info

Answer = Callable[[np.ndarray], Tuple[float, Union[float, np.ndarray]]]
"""From the model's image uint8 [H, W, 3] to a score and a map: float32 [H, W], or one value for all of it."""


def fake_detector(
    answer: Optional[Answer] = None, info: Optional[ModelInfo] = None, view: Optional[View] = None,
    batch: int = 1,
) -> Detector:
    """A :class:`ssn_edge.Detector` whose network is your function; frames, verdict and regions are its own.

    ``answer(image)`` gives score and map, or raises, as a library that fails does (BackendError); without it
    every frame is OK. ``info``: size and verdict (:func:`tiny_info`'s if None); ``view`` and ``batch`` as of
    :meth:`ssn_edge.Detector.open`.

    >>> from ssn_edge import stream
    >>> detector = fake_detector(lambda image: (0.9, 200.0))
    >>> stream.run([np.zeros((32, 48), np.uint8)] * 3, detector).defects
    3
    """
    info = info or tiny_info()
    library = FakeLibrary(answer or _sound, info)
    choice = Choice(library, Path("fake"), "a fake")
    return Detector(info, choice, library.open_session(Path("fake"), batch), batch, view or View())


def _sound(image: np.ndarray) -> Tuple[float, float]:
    return 0.0, 0.0


class FakeLibrary:
    """Fits :class:`ssn_edge.backends.session.Library`."""

    NAME = "fake"

    def __init__(self, answer: Answer, info: ModelInfo):
        self._answer, self._info = answer, info

    def version(self) -> str:
        """As of :class:`ssn_edge.backends.session.Library`."""
        return "1"

    def open_session(
        self, path: Path, batch: int, digest: Optional[str] = None, host_code: bool = False,
        threads: Optional[int] = None,
    ) -> Session:
        """As of :class:`ssn_edge.backends.session.Library`; the path is not looked at."""
        return FakeSession(self._answer, batch, {METADATA_KEY: self._info.to_json()})


class FakeSession:
    """Fits :class:`ssn_edge.backends.session.Session`."""

    max_batch: Optional[int] = None

    def __init__(self, answer: Answer, batch: int, metadata: Dict[str, str]):
        self.metadata = metadata
        self._answer, self._batch = answer, batch

    def prepare(self, input_hw: Tuple[int, int]) -> np.ndarray:
        """As of :class:`ssn_edge.backends.session.Session`."""
        self._images = np.empty((self._batch, *input_hw, 3), np.uint8)
        return self._images

    def infer(self, maps: np.ndarray, scores: np.ndarray) -> None:
        """Asks the answer for one image after the other."""
        for number in range(len(scores)):
            scores[number], maps[number] = self._answer(self._images[number])

    def close(self) -> None:
        """Nothing is held."""
