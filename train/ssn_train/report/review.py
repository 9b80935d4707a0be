"""``report.html``: a run's test images, scores and curves in one self-contained page.

The page asks nothing from outside (its content policy forbids it), so it can be mailed and opened
on any desk.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

import cv2
import numpy as np

from ssn_edge.files import PathLike, finite, replacing
from ssn_edge.frames.image_files import read_image
from ssn_edge.frames.pixels import resize, resize_mask
from ssn_edge.frames.placement import Placement
from ssn_edge.model.schema import Verdict
from ssn_edge.verdict.drawing import heatmap
from ssn_edge.verdict.judge import Judge
from ssn_train.report import line_figures
from ssn_train.report.results import Predictions

START_QUANTILE = 0.99
"""Of good test images: where the slider of a source without a threshold stands at first. It promises
nothing."""

THUMBNAIL = 144
"""Longer side of the pictures, in pixels."""

MAX_PICTURES = 1500
"""About 20 MB of page; further images keep their scores alone, rightly judged ones first."""

PATH_PARTS = 3
"""Of each file's path: what tells photos apart, and not whose computer it was."""

MAX_POINTS = 400
"""Of the training curves."""

RIM = (47, 69, 200)


def write(path: PathLike, data: Mapping[str, Any]) -> None:
    """The page for what :func:`content` returned."""
    here = Path(__file__)
    page, script = (here.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".html", ".js"))
    # a "<" could end the script element that the data stands in
    text = json.dumps(finite(data), allow_nan=False).replace("<", "\\u003c")
    with replacing(path) as temporary:
        whole = page.replace("__SCRIPT__", script).replace("__DATA__", text)
        Path(temporary).write_text(whole, encoding="utf-8")


def content(
    title: str,
    document: Mapping[str, Any],
    predictions: Predictions,
    masks: np.ndarray,
    verdict: Verdict,
    history: np.ndarray,
    terms: Sequence[str],
) -> Dict[str, Any]:
    """What the page shows of a run: ``document`` is metrics.json's content, ``history`` [steps, terms] the
    loss ``terms``, ``masks`` bool [N, H, W] the truth at the map's size."""
    images = _images(predictions, masks, verdict)
    line = document.get("line")
    good = [image for image in images if not image["label"]]
    thresholds = dict(verdict.thresholds)
    for source in ("score", "map_max"):  # the other one has none of its own: a place to start from
        values = [image[source] for image in good or images] or [0.0]
        thresholds.setdefault(source, float(np.quantile(values, START_QUANTILE)))
    return {
        "title": title,
        "about": _about(images),
        "verdict": {"source": verdict.source, "rule": verdict.rule, "method": verdict.method},
        "line": line and {**line, "about": line_figures.lines(line)[0]},
        "thresholds": thresholds,
        "metrics": document["metrics"],
        "per_defect": document.get("per_defect", {}),
        "images": images,
        "terms": [name.replace("_", " ") for name in terms],
        "history": _thinned(history),
        "environment": {name: text for name, text in _flat(document["run"])},
    }


def _about(images: List[Dict[str, Any]]) -> str:
    bad = sum(image["label"] for image in images)
    kept = sum("photo" in image for image in images)
    note = "" if kept == len(images) else f"; pictures of {kept} of them"
    return (
        f"{len(images) - bad} good and {bad} defective test images{note}. An image at a threshold is NG. "
        "Moving it here changes nothing in the model."
    )


def _pictured(wrong: np.ndarray) -> Set[int]:
    """Places of the images that keep their pictures: ``wrong`` bool [N] ones before others."""
    first, rest = np.flatnonzero(wrong), np.flatnonzero(~wrong)
    return {*_spread(first, MAX_PICTURES), *_spread(rest, max(MAX_PICTURES - len(first), 0))}


def _spread(places: np.ndarray, count: int) -> List[int]:
    """At most ``count`` of them at even distances."""
    return places[np.linspace(0, len(places) - 1, min(count, len(places))).astype(int)].tolist()


def _images(predictions: Predictions, masks: np.ndarray, verdict: Verdict) -> List[Dict[str, Any]]:
    if not len(predictions.samples):
        return []
    low, high = np.quantile(predictions.maps, (0.01, 0.999))
    called = Judge(verdict).are_defects(predictions.scores, predictions.map_max)
    pictured = _pictured(called != (predictions.labels == 1))
    peaks = predictions.map_max
    rows = []
    for i, sample in enumerate(predictions.samples):
        row: Dict[str, Any] = {
            "file": "/".join(sample.path.parts[-PATH_PARTS:]),
            "label": sample.label,
            "defect": sample.defect,
            "part": sample.part,
            "score": float(predictions.scores[i]),
            "map_max": float(peaks[i]),
        }
        if i in pictured:
            photo = read_image(sample.path, predictions.reading)
            x0, y0, x1, y1 = Placement(
                photo.shape[:2], masks.shape[1:], geometry=predictions.geometry
            ).map_content
            anomaly_map, mask = (array[i, y0:y1, x0:x1] for array in (predictions.maps, masks))
            row["photo"], row["map"] = _pictures(photo, anomaly_map, mask, float(low), float(high))
        rows.append(row)
    return rows


def _pictures(
    photo: np.ndarray, anomaly_map: np.ndarray, mask: np.ndarray, low: float, high: float
) -> Tuple[str, str]:
    """Photo, and photo under its map with the truth's rim: data URLs, in the photo's proportions."""
    scale = THUMBNAIL / max(photo.shape[:2])
    size = tuple(max(round(n * scale), 1) for n in photo.shape[:2])
    small = resize(photo, size)
    colours = cv2.resize(heatmap(anomaly_map, low, high), size[::-1])
    over = cv2.addWeighted(small, 0.45, colours, 0.55, 0)
    shape = resize_mask(mask, size).astype(np.uint8)
    contours, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(over, contours, -1, RIM, 1)
    return _url(small), _url(over)


def _url(image: np.ndarray) -> str:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _thinned(history: np.ndarray) -> List[Dict[str, Any]]:
    """Means of equal stretches of the curves, at most MAX_POINTS."""
    if not len(history):
        return []
    stretches = np.array_split(np.arange(len(history)), min(len(history), MAX_POINTS) or 1)
    return [
        {"step": int(part[-1]) + 1, "loss": [float(x) for x in history[part].mean(axis=0)]}
        for part in stretches
        if len(part)
    ]


def _flat(document: Mapping[str, Any], prefix: str = "") -> List[Tuple[str, str]]:
    rows: List[Tuple[str, str]] = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            rows.append((prefix + key, str(value)))
    return rows
