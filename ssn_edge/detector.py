"""The detector: a model file opened once, frames in, verdicts out."""

from __future__ import annotations

import dataclasses
import threading
import time
import weakref
from pathlib import Path
from typing import Callable, Dict, Optional, Tuple

import numpy as np

from ssn_edge.backends import has_provider, selection
from ssn_edge.backends.session import Session
from ssn_edge.errors import BackendError, InputError, ModelError
from ssn_edge.files import PathLike
from ssn_edge.frames.decoding import Reading
from ssn_edge.frames.pixels import Scratch, check_frame
from ssn_edge.frames.placement import Placement, Tile, View
from ssn_edge.model import bundle, schema
from ssn_edge.model.schema import ModelInfo, Verdict
from ssn_edge.verdict import in_bundle, parity
from ssn_edge.verdict.calibration import Calibration, shown
from ssn_edge.verdict.detection import Detection, Latency
from ssn_edge.verdict.in_bundle import InUse
from ssn_edge.verdict.judge import Judge

BY_HAND = "set by the caller: no promise holds"
MOST_THREADS = 1024


class Detector:
    """An opened model. Use :meth:`open`. Threads may share it, also while one closes it: frames then
    wait for each other.

    ``path`` is the file that runs, ``library`` the back end's name, ``choice`` says in one line why;
    ``sha256`` is the file's by its bundle's manifest (of a plain file ""); ``max_batch`` is the largest batch
    that the file allows, None for any; ``device_ms()`` tells how long the last frame took by the GPU's own
    clock (None without a GPU); ``judge`` is what makes a verdict of a score and a map; ``calibration`` is
    what its thresholds were opened with, and why the promise does not hold for this file, if so (None for a
    plain file, and a bundle that has none).

    >>> import tempfile
    >>> from ssn_edge.testing import write_tiny_model
    >>> model = write_tiny_model(tempfile.mkdtemp() + "/model.onnx")       # yours: model.ssn
    >>> with Detector.open(model) as detector:
    ...     detection = detector.detect(np.full((480, 640, 3), 255, np.uint8))   # BGR, any size
    >>> detection.is_defect, detection.score
    (True, 1.0)
    >>> [(region.x, region.y, region.width, region.height) for region in detection.regions]
    [(0, 0, 640, 480)]
    """

    def __init__(
        self, info: ModelInfo, choice: selection.Choice, session: Session, batch: int, view: View,
        calibration: Optional[InUse] = None,
    ):
        self.info, self.judge = info, Judge(info.verdict)
        self.view, self.calibration = view, calibration
        self.backend_name = f"{choice.library.NAME} {choice.library.version()}"
        self.choice, self.path = choice.why, choice.path
        self.library, self.sha256 = choice.library.NAME, choice.sha256
        self.max_batch: Optional[int] = session.max_batch
        self.device_ms: Optional[Callable[[], float]] = getattr(session, "device_ms", None)
        self._session, self._batch = session, batch
        self._images: np.ndarray = session.prepare(info.input_hw)
        self._score = np.empty(1, np.float32)
        self._scratch = Scratch()
        self._tile_map, self._tile_scratch = np.empty(info.size_hw, np.float32), Scratch()
        self._placements: Dict[Tuple[int, int], Placement] = {}
        # Held while a frame is in the session. A with statement on a lock gives it back whatever
        # happens, Ctrl-C and a lack of memory included.
        self._lock, self._closed = threading.Lock(), False
        self._release = weakref.finalize(self, session.close)  # also when dropped, and at exit

    @classmethod
    def open(
        cls,
        model: PathLike,
        backend: str = "auto",
        threshold: Optional[float] = None,
        batch: int = 1,
        sha256: Optional[str] = None,
        view: Optional[View] = None,
        precision: Optional[str] = None,
        verify: bool = False,
        calibration: Optional[str] = None,
        threads: Optional[int] = None,
    ) -> Detector:
        """Open a bundle (``NAME.ssn``) with the entry that suits this machine best, or a plain ``.onnx`` or
        ``.engine`` file of ssn-export's (OpenVINO's ``.xml`` of one, too), which is then what runs.

        ``backend`` and ``precision`` ("float32", "float16") narrow the choice; ``onnxruntime:PROVIDER`` is
        ONNX Runtime with that provider, which is held against the reference frames first; ``threads`` of the
        CPU compute a frame, in place of the library's own number. ``threshold`` replaces the
        model's image threshold (:meth:`set_threshold`); ``batch`` is the most images that
        :meth:`infer_batch` takes at once. ``sha256`` is what the file must hash to, of a bundle its
        ``manifest.json``, which stands for all of it: an engine can run code of whoever made it. ``verify``
        reads a bundle's file whole even if it looks unchanged since that was last done. ``view``: the part
        of each frame to judge, turned, mirrored or in tiles. ``calibration``: which of a bundle's to judge
        by, in place of the one in use. Raises InputError for a missing file, ModelError for a damaged or
        foreign one, BackendError where no library is installed or a provider's answers are others.
        """
        path = Path(model)
        choice = selection.choose(path, backend, precision, batch, sha256, verify)
        session = _session(choice, batch, threads)
        try:
            info = schema.from_metadata(session.metadata, str(choice.path))
            selection.check_core(choice, info)
            if precision not in (None, info.precision):
                raise InputError(
                    f"{path}: is {info.precision}, not {precision}; give another file, or a bundle"
                )
            if view is not None and view.tile and info.frame:
                raise InputError(f"{path}: made with --frame, which stretches in the graph; no tiles with it")
            found = _calibration(choice, info, view or View(), calibration)
            info = in_bundle.judged_by(info, found) if found else _plain(info, choice, view or View())
            detector = cls(info, choice, session, batch, view or View(), found)
            unverified = getattr(getattr(session, "info", None), "unverified", False)
            frames = choice.bundle is not None and bool(choice.bundle.of_role("reference"))
            if has_provider(choice.library) or choice.uncompared or unverified and frames:
                detector.choice += f"; {_compared(detector, choice, batch, verify)}"
            elif unverified:
                detector.choice += "; never compared with the trained model"
            if threshold is not None:
                detector.set_threshold(threshold)
            return detector
        except BaseException:
            session.close()
            raise

    @property
    def reading(self) -> Reading:
        """How image files become frames for this model, as its training photos did."""
        return Reading(self.info.bits, self.info.orientation)

    def set_threshold(self, value: float, source: Optional[str] = None) -> None:
        """Judge by another threshold from the next frame on: a value that reaches it, or equals it, is NG.

        ``source``: "score" or "map_max"; default what the model judges by, the score where it judges by
        either. InputError for a source that does not count and for a score's threshold outside 0..1,
        which no score can reach or miss; ModelError unless it is finite.
        """
        verdict = self.info.verdict
        source = source or next(iter(verdict.thresholds))
        if source not in verdict.thresholds:
            raise InputError(f"threshold on {source}: this model judges by {verdict.source}; give that one")
        if source == "score" and (value < 0 or value > 1):
            raise InputError(f"threshold {value:g}: this model judges by its score; give 0 to 1")
        if (verdict.source, source) == ("either", "map_max"):
            verdict = dataclasses.replace(verdict, map_threshold=value, method=BY_HAND)
        else:
            verdict = dataclasses.replace(verdict, image_threshold=value, method=BY_HAND)
        self.judge_by(verdict)

    def judge_by(self, verdict: Verdict, calibration: Optional[Calibration] = None) -> None:
        """Judge by another verdict from the next frame on. ``calibration``: what it is from, if that is not
        the one as before, and fits the file that runs. InputError for a verdict of another source.
        """
        if verdict.source != self.info.verdict.source:
            raise InputError(f"a verdict by {verdict.source}: the model's is by {self.info.verdict.source}")
        if calibration is not None:
            self.calibration = InUse(calibration, "")
        opened = self.calibration
        name = opened.calibration.name if opened is not None and verdict == opened.verdict else ""
        self.info = dataclasses.replace(self.info, verdict=verdict, calibration=name)
        self.judge = Judge(verdict)

    def placement(self, frame_hw: Tuple[int, int]) -> Placement:
        """Where the pixels of frames of (height, width) go; its ``map_hw`` is the map's size."""
        found = self._placements.get(frame_hw)
        if found is None:
            found = Placement(frame_hw, self.info.size_hw, self.view, self.info.geometry, self.info.bits)
            if self.info.frame and found.canvas_hw != self.info.frame:
                (height, width), (h, w) = found.canvas_hw, self.info.frame
                raise InputError(
                    f"frame of {height}x{width}: this model takes {h}x{w} camera frames alone; export "
                    f"it with --frame {height}x{width}, or without --frame for any size"
                )
            self._placements = {frame_hw: found}  # a camera changes its size seldom
        return found

    def detect(
        self, frame: np.ndarray, map_out: Optional[np.ndarray] = None, mask_out: Optional[np.ndarray] = None
    ) -> Detection:
        """Judge one frame: grey, BGR or BGRA, uint8 or uint16, any size (the camera's, for a model
        exported with ``--frame``). ``map_out`` and ``mask_out`` as in :meth:`infer_into`; new ones if None.

        Raises InputError for anything else, BackendError where the network's answer is not finite: such a
        frame has no verdict.
        """
        start = time.perf_counter()
        placement = self._check(frame, map_out, mask_out)
        anomaly_map = np.empty(placement.map_hw, np.float32) if map_out is None else map_out
        score, preparing = self._infer(frame, placement, anomaly_map)
        inferred = time.perf_counter()
        is_defect, map_max, mask, regions = self.judge.judge(score, anomaly_map, placement, mask_out)
        done = time.perf_counter()
        latency = Latency(*(1e3 * t for t in (preparing, inferred - start - preparing, done - inferred)))
        return Detection(
            score, map_max, is_defect, anomaly_map, mask, regions.highest, regions.count, latency, placement
        )

    def infer_into(
        self, frame: np.ndarray, map_out: np.ndarray, mask_out: Optional[np.ndarray] = None
    ) -> float:
        """Judge one frame into the caller's arrays and return the score; no array is allocated.

        ``map_out`` float32 and ``mask_out`` uint8 (0/1), C-contiguous, of ``placement(frame.shape[:2])
        .map_hw``: [H, W] at the model's size, or with tiles at the canvas's; InputError otherwise.
        BackendError where the answer is not finite; what is in the arrays then means nothing.
        """
        placement = self._check(frame, map_out, mask_out)
        score, _ = self._infer(frame, placement, map_out)
        self.judge.peak(score, map_out)
        if mask_out is not None:
            self.judge.mask(map_out, mask_out)
        return score

    def infer_batch(self, images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Maps float32 [n, H, W] and scores float32 [n] of images at the file's input size, as the network
        gives them: not judged, and not looked at whether they are finite (``judge`` does both).

        ``images`` uint8 [n, H, W, 3] BGR, 1 to as many as the ``batch`` given to :meth:`open`.
        """
        shape, batch = (*self.info.input_hw, 3), self._batch
        if images.shape[1:] != shape or images.dtype != np.uint8 or not 1 <= len(images) <= batch:
            raise InputError(
                f"images: {images.dtype} {images.shape}; expected uint8 (n, {', '.join(map(str, shape))}) "
                f"with n up to {batch}, the batch that the detector was opened for"
            )
        maps = np.empty((len(images), *self.info.size_hw), np.float32)
        scores = np.empty(len(images), np.float32)
        with self._lock:
            self._check_open()
            np.copyto(self._images[: len(images)], images)
            self._session.infer(maps, scores)
        return maps, scores

    def close(self) -> None:
        """Wait for the frame under way and free everything. May be called twice; using the detector
        afterwards is a ModelError. Not from a signal handler that may have interrupted a frame."""
        with self._lock:
            self._closed, self._images = True, np.empty(0, np.uint8)
            self._release()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ModelError("the detector is closed; open it again")

    def _check(
        self, frame: np.ndarray, map_out: Optional[np.ndarray], mask_out: Optional[np.ndarray]
    ) -> Placement:
        """Where a sound frame's pixels go; InputError for a frame or an output that does not fit."""
        check_frame(frame)
        placement = self.placement((frame.shape[0], frame.shape[1]))
        for name, out, dtype in (("map_out", map_out, np.float32), ("mask_out", mask_out, np.uint8)):
            if out is not None:
                check_out(name, out, dtype, placement.map_hw)
        return placement

    def _infer(self, frame: np.ndarray, placement: Placement, map_out: np.ndarray) -> Tuple[float, float]:
        """The frame's map into ``map_out``; its score, of several tiles the highest, and the seconds that
        preparing the images took."""
        with self._lock:
            self._check_open()
            if not self.view.tile:
                return self._infer_tile(frame, placement, placement.tiles[0], map_out)
            map_out.fill(-np.inf)
            highest, preparing = -np.inf, 0.0
            for tile in placement.tiles:
                score, seconds = self._infer_tile(frame, placement, tile, self._tile_map)
                self.judge.peak(score, self._tile_map)  # max() below would pass over a NaN
                highest, preparing = max(highest, score), preparing + seconds
                placement.stitch(self._tile_map, tile, map_out, self._tile_scratch)
            return highest, preparing

    def _infer_tile(
        self, frame: np.ndarray, placement: Placement, tile: Tile, map_out: np.ndarray
    ) -> Tuple[float, float]:
        start = time.perf_counter()
        placement.load(frame, tile, self._images[0], self._scratch)
        preparing = time.perf_counter() - start
        self._session.infer(map_out[None], self._score)
        return float(self._score[0]), preparing


def _session(choice: selection.Choice, batch: int, threads: Optional[int]) -> Session:
    if threads is None:
        return choice.library.open_session(choice.path, batch, choice.digest, choice.host_code)
    if not 1 <= threads <= MOST_THREADS:
        raise InputError(
            f"threads {threads}: give 1 to {MOST_THREADS}, or leave it out for the library's own number"
        )
    if choice.path.suffix == ".engine":
        raise InputError(
            f"{choice.path}: an engine runs on the GPU, where threads {threads} has no use; leave it out, or "
            "give another --backend"
        )
    return choice.library.open_session(choice.path, batch, choice.digest, choice.host_code, threads)


def _compared(detector: Detector, choice: selection.Choice, batch: int, verify: bool) -> str:
    """What a provider's answers, or those of an engine that was built and not run, were held against, in
    words; BackendError where they are others. ``verify``: the frames' file is read whole.

    A bundle's reference frames have the trained model's own answers. Without them ONNX Runtime on the CPU,
    which the export compared with the trained model, answers for frames that are made up.
    """
    info = detector.info
    frames = choice.bundle.of_role("reference") if choice.bundle is not None else []
    if choice.bundle is not None and frames:
        path = bundle.check(choice.bundle, frames[0], verify or choice.host_code)
        truth, slack = parity.read_reference(path), 1.0
        if truth.images.shape[1:3] != info.input_hw or truth.maps.shape[1:] != info.size_hw:
            raise ModelError(f"{path}: images of another model; copy the bundle again")
        what = f"{len(truth.images)} reference frames"
    else:
        images = parity.made_up_frames(info.input_hw)
        with Detector.open(choice.path, "onnxruntime", batch=batch) as other:
            truth, slack = parity.Reference(images, *_answers(other, images, batch)), parity.MADE_UP_SLACK
        what = "made-up frames on the CPU, not compared with the trained model"
    found = parity.compare(truth, *_answers(detector, truth.images, batch), info.verdict, info.precision)
    reason = parity.refusal(found, info.precision, slack)
    if reason is None and found.score_max > slack * found.margin:
        reason = f"score {found.score_max:.1e} off, limit {slack * found.margin:.0e}"
    if reason is not None:
        raise BackendError(
            f"{choice.path}: {detector.library} is not used: {reason}, against {what}; give --backend "
            "onnxruntime, or another engine or provider"
        )
    return f"agrees with {what}, map error {found.map_rms:.1e} rms"


def _answers(detector: Detector, images: np.ndarray, batch: int) -> Tuple[np.ndarray, np.ndarray]:
    parts = [detector.infer_batch(images[i : i + batch]) for i in range(0, len(images), batch)]
    maps, scores = zip(*parts)
    return np.concatenate(maps), np.concatenate(scores)


def _calibration(
    choice: selection.Choice, info: ModelInfo, view: View, name: Optional[str]
) -> Optional[InUse]:
    """What the thresholds of a bundle's file are from."""
    if choice.bundle is None:
        if name is not None:
            raise InputError(f"{choice.path}: a plain file has no calibrations; give the bundle")
        return None
    return in_bundle.in_use(choice.bundle, info.precision, choice.library.NAME, choice.sha256, view, name)


def _plain(info: ModelInfo, choice: selection.Choice, view: View) -> ModelInfo:
    """A plain file's thresholds are from whole frames, in half precision by ONNX Runtime: what runs otherwise
    has no promise."""
    misfit = ""
    if view != View():
        misfit = f"calibrated with whole frames, this is {shown(view)}"
    elif info.precision != "float32" and info.calibration and choice.library.NAME != "onnxruntime":
        misfit = f"calibrated for onnxruntime, this is {choice.library.NAME}"
    if not misfit:
        return info
    verdict = dataclasses.replace(info.verdict, method=f"no promise: {misfit}; calibrate a bundle on it")
    return dataclasses.replace(info, verdict=verdict)


def check_out(name: str, array: np.ndarray, dtype: type, shape: Tuple[int, int]) -> None:
    """InputError unless results can be written there."""
    if not (array.shape == shape and array.dtype == dtype and array.flags.c_contiguous):
        raise InputError(
            f"{name}: {array.dtype} {array.shape}; expected C-contiguous {np.dtype(dtype)} {shape}"
        )
