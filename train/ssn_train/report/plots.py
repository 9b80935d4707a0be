"""Pictures of a run: loss, score histogram, ROC and PR curves, a sheet of telling images."""

from __future__ import annotations

from pathlib import Path
from typing import List, Mapping, Sequence, Tuple

import cv2
import matplotlib
import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from ssn_edge.files import PathLike, replacing
from ssn_edge.frames.decoding import Reading
from ssn_edge.frames.image_files import read_image, write_image
from ssn_edge.frames.placement import fit_image
from ssn_edge.model.schema import Verdict
from ssn_edge.verdict.drawing import heatmap
from ssn_train.report.results import Predictions

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend comes first)

GOOD, BAD = "#2a7f9e", "#c8452f"
SHEET_ROWS, SHEET_COLUMNS, SHEET_SIDE, SHEET_GAP, SHEET_NAME = 20, 8, 128, 18, 22
"""Of the contact sheet: parts, photos of each, pixels of a photo and between two, last letters of a name."""


def _save(figure: plt.Figure, path: PathLike) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, bbox_inches="tight")
    plt.close(figure)


def loss_curve(path: PathLike, history: np.ndarray) -> None:
    """``history`` [steps, 4], smoothed over a fiftieth of the run."""
    figure, axes = plt.subplots(figsize=(7, 3.5))
    width = max(len(history) // 50, 1)
    names = ("truncated L1, normal", "truncated L1, anomalous", "focal, map", "focal, score")
    for name, terms in zip((*names, "total"), (*history.T, history.sum(1))):
        smooth = np.convolve(terms, np.ones(width) / width, "valid")
        axes.plot(np.arange(len(smooth)) + width, smooth, label=name)
    axes.set(xlabel="step", ylabel="loss", title=f"Training loss, mean of {width} steps")
    axes.legend(frameon=False)
    _save(figure, path)


AXES = {"score": "score", "map_max": "maximum of the anomaly map (logit)"}


def score_histogram(path: PathLike, predictions: Predictions, verdict: Verdict) -> None:
    """Good and defective images along what the verdict compares, with its threshold; two panels for two
    sources."""
    labels, count = predictions.labels, len(verdict.thresholds)
    figure, panels = plt.subplots(1, count, figsize=(7 * count, 3.5), squeeze=False)
    for axes, (source, threshold) in zip(panels[0], verdict.thresholds.items()):
        values = predictions.values(source)
        bins = np.linspace(values.min(), values.max() + 1e-6, 41)
        axes.hist(values[labels == 0], bins, alpha=0.7, color=GOOD, label=f"good ({(labels == 0).sum()})")
        if labels.any():
            axes.hist(values[labels == 1], bins, alpha=0.6, color=BAD, label=f"defective ({labels.sum()})")
        axes.axvline(threshold, color="black", linestyle="--", label="threshold")
        axes.set(xlabel=AXES[source], ylabel="images", title=f"NG from {threshold:.3g} on")
        axes.legend(frameon=False)
    _save(figure, path)


def roc_pr(path: PathLike, predictions: Predictions) -> None:
    """ROC and precision-recall curves of both image scores; needs both classes."""
    labels = predictions.labels
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    for name, values in (("score", predictions.scores), ("map maximum", predictions.map_max)):
        fpr, tpr, _ = roc_curve(labels, values)
        left.plot(fpr, tpr, label=f"{name}, area {roc_auc_score(labels, values):.3f}")
        precision, recall, _ = precision_recall_curve(labels, values)
        area = average_precision_score(labels, values)
        right.plot(recall, precision, label=f"{name}, AP {area:.3f}")
    left.plot([0, 1], [0, 1], color="grey", linewidth=0.7)
    left.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    right.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02), title="Precision-recall")
    for axes in (left, right):
        axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def telling_images(predictions: Predictions, verdict: Verdict, each: int) -> List[Tuple[str, int]]:
    """(caption, index) of the best, worst and borderline images, ``each`` of every kind."""
    margins, labels = predictions.margins(verdict), predictions.labels
    order = np.argsort(margins)
    good, bad = order[labels[order] == 0], order[labels[order] == 1]
    near = np.argsort(np.abs(margins))
    groups: Sequence[Tuple[str, np.ndarray]] = (
        ("defective, highest", bad[::-1]),
        ("defective, lowest", bad),
        ("good, highest", good[::-1]),
        ("nearest the threshold", near),
    )
    return [(caption, int(i)) for caption, members in groups for i in members[:each]]


def sheet(
    path: PathLike, predictions: Predictions, masks: np.ndarray, verdict: Verdict, each: int = 6
) -> None:
    """Photo with the truth's outline above its map, for the best, worst and borderline images."""
    chosen = telling_images(predictions, verdict, each)
    captions = list(dict.fromkeys(caption for caption, _ in chosen))
    low, high = np.quantile(predictions.maps, (0.01, 0.999))
    size = predictions.maps.shape[1:]
    figure, axes = plt.subplots(
        2 * len(captions), each, figsize=(2.1 * each, 4.4 * len(captions)), squeeze=False
    )
    for panel in axes.flat:
        panel.axis("off")
    columns = {caption: 0 for caption in captions}
    values = [predictions.values(source) for source in verdict.thresholds]
    for caption, index in chosen:
        row, column = 2 * captions.index(caption), columns[caption]
        columns[caption] += 1
        photo = read_image(predictions.samples[index].path, predictions.reading)
        image = fit_image(photo, size, predictions.geometry)
        top, bottom = axes[row, column], axes[row + 1, column]
        top.imshow(image[..., ::-1])
        if masks[index].any():
            top.contour(masks[index], [0.5], colors=BAD, linewidths=1)
        bottom.imshow(heatmap(predictions.maps[index], low, high)[..., ::-1])
        sample = predictions.samples[index]
        figures = ", ".join(f"{found[index]:.3g}" for found in values)
        top.set_title(f"{sample.defect}\n{figures}", fontsize=8)
    for row, caption in enumerate(captions):
        label = axes[2 * row, 0]
        label.text(-0.12, 0.5, caption, transform=label.transAxes, rotation=90, va="center", ha="right")
    _save(figure, path)


def parts_sheet(path: PathLike, parts: Mapping[str, Sequence[Path]], reading: Reading) -> None:
    """The first parts of ``parts`` (name -> photos), a row each with its photos side by side, named as the
    files are; what does not fit is counted."""
    shown = list(parts.items())[:SHEET_ROWS]
    columns = min(max(len(photos) for _, photos in shown), SHEET_COLUMNS)
    cell = SHEET_SIDE + SHEET_GAP
    sheet = np.full((32 + cell * len(shown), SHEET_GAP + (columns + 1) * cell, 3), 255, np.uint8)
    _caption(sheet, f"{len(shown)} of {len(parts)} parts, those with the most photos", (SHEET_GAP, 20), 80)
    for row, (name, photos) in enumerate(shown):
        top = 32 + cell * row
        more = f"+ {len(photos) - columns} more" if len(photos) > columns else ""
        for line, words in enumerate((name, more)):
            _caption(sheet, words, (SHEET_GAP, top + cell // 2 + 18 * line), SHEET_NAME - 8)
        for column, photo in enumerate(photos[:columns], 1):
            left = SHEET_GAP + cell * column
            image = fit_image(read_image(photo, reading), (SHEET_SIDE, SHEET_SIDE), "letterbox")
            sheet[top : top + SHEET_SIDE, left : left + SHEET_SIDE] = image
            _caption(sheet, photo.name, (left, top + SHEET_SIDE + 12), SHEET_NAME)
    write_image(path, sheet)


def _caption(sheet: np.ndarray, words: str, place: Tuple[int, int], longest: int) -> None:
    """Its last letters, in ASCII, which OpenCV has glyphs for."""
    text = words[-longest:].encode("ascii", "replace").decode()
    cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.36, (40, 40, 40), 1, cv2.LINE_AA)


def write_all(
    folder: Path, predictions: Predictions, masks: np.ndarray, verdict: Verdict
) -> List[Path]:
    """The evaluation's pictures; those that need defects only where there are any."""
    if not len(predictions.samples):
        return []
    paths = [folder / "scores.png", folder / "images.png"]
    score_histogram(paths[0], predictions, verdict)
    sheet(paths[1], predictions, masks, verdict)
    if 0 < predictions.labels.sum() < len(predictions.samples):
        paths.append(folder / "roc_pr.png")
        roc_pr(paths[-1], predictions)
    return paths
