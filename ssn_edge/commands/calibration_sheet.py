"""The picture beside a calibration: every part's number along a line, and the shots to look at."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import cv2
import numpy as np

from ssn_edge.verdict.drawing import NG_COLOUR, OK_COLOUR

WIDTH, MARGIN, STRIP = 1500, 24, 150
INK, SOFT, PAPER = (40, 34, 30), (140, 130, 120), (255, 255, 255)  # BGR
CAPTION = 22
Shown = Tuple[float, str, np.ndarray]


def sheet(
    title: str, sound: np.ndarray, limit: float, defects: Optional[np.ndarray],
    rows: Sequence[Tuple[str, Sequence[Shown], bool]],
) -> np.ndarray:
    """BGR uint8 [H, WIDTH, 3]: ``sound`` and ``defects`` as dots with the limit between, then ``rows`` of
    shots, each with its heading and whether they are known to be defective."""
    parts = [_text(title, 0.62, INK), _strip(sound, limit, defects)]
    for heading, shots, defective in rows:
        if shots:
            parts += [_text(heading, 0.5, INK), *_gallery(shots, limit, defective)]
    return np.vstack(parts)


def _text(words: str, scale: float, colour: Tuple[int, int, int]) -> np.ndarray:
    """A line of its own, made smaller until it fits."""
    room = WIDTH - 2 * MARGIN
    ascii_only = words.encode("ascii", "replace").decode()
    width = cv2.getTextSize(ascii_only, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]
    line = _blank(34)
    _put(line, ascii_only, (MARGIN, 23), scale * min(1.0, room / max(width, 1)), colour)
    return line


def _put(
    picture: np.ndarray, words: str, place: Tuple[int, int], scale: float, colour: Tuple[int, int, int]
) -> None:
    cv2.putText(picture, words, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def _blank(height: int, width: int = WIDTH) -> np.ndarray:
    return np.full((height, width, 3), PAPER, np.uint8)


def _strip(sound: np.ndarray, limit: float, defects: Optional[np.ndarray]) -> np.ndarray:
    picture = _blank(STRIP)
    everything = np.concatenate([sound, [limit], [] if defects is None else defects])
    low, high = float(everything.min()), float(everything.max())
    room = (high - low) * 0.02 or 1.0

    def x(value: float) -> int:
        return MARGIN + round((WIDTH - 2 * MARGIN) * (value - low + room) / (high - low + 2 * room))

    lanes = [("sound", sound, OK_COLOUR, 40)]
    if defects is not None:
        lanes.append(("defective", defects, NG_COLOUR, 90))
    for name, values, colour, height in lanes:
        _put(picture, f"{name}: {len(values)}", (MARGIN, height - 16), 0.42, SOFT)
        for number, value in enumerate(values):
            cv2.circle(picture, (x(float(value)), height + 4 * (number % 5 - 2)), 3, colour, -1, cv2.LINE_AA)
    at = x(limit)
    cv2.line(picture, (at, 24), (at, 112), INK, 1, cv2.LINE_AA)
    for words, place in ((f"NG above {limit:.4g}", at), (f"{low:.4g}", x(low)), (f"{high:.4g}", x(high))):
        width = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0]
        left = min(max(place - width // 2, MARGIN), WIDTH - MARGIN - width)
        height = 128 if place == at else 144
        _put(picture, words, (left, height), 0.42, INK if place == at else SOFT)
    return picture


def _gallery(shots: Sequence[Shown], limit: float, defective: bool) -> List[np.ndarray]:
    """Rows of thumbnails with number and name below; what is judged wrongly has a rim."""
    rows: List[np.ndarray] = []
    row: List[np.ndarray] = []
    used = MARGIN
    for number, name, picture in shots:
        cell = _cell(number, name, picture, (number > limit) != defective)
        if row and used + cell.shape[1] > WIDTH - MARGIN:
            rows.append(_row(row))
            row, used = [], MARGIN
        row.append(cell)
        used += cell.shape[1]
    return [*rows, _row(row)] if row else rows


def _cell(number: float, name: str, picture: np.ndarray, wrong: bool) -> np.ndarray:
    most = WIDTH - 2 * MARGIN - 8
    if picture.shape[1] > most:
        picture = cv2.resize(picture, (most, max(1, picture.shape[0] * most // picture.shape[1])))
    cell = _blank(picture.shape[0] + CAPTION + 8, picture.shape[1] + 8)
    cell[4 : 4 + picture.shape[0], 4 : 4 + picture.shape[1]] = picture
    if wrong:
        cv2.rectangle(cell, (1, 1), (cell.shape[1] - 2, picture.shape[0] + 6), NG_COLOUR, 2)
    words = f"{number:.4g}  {name}".encode("ascii", "replace").decode()
    fits = max(4, cell.shape[1] // 7)
    words = words if len(words) <= fits else f"{words[: fits // 3]}..{words[-(fits - fits // 3 - 2):]}"
    _put(cell, words, (6, cell.shape[0] - 8), 0.38, INK)
    return cell


def _row(cells: Sequence[np.ndarray]) -> np.ndarray:
    height = max(cell.shape[0] for cell in cells)
    row, left = _blank(height), MARGIN
    for cell in cells:
        row[: cell.shape[0], left : left + cell.shape[1]] = cell
        left += cell.shape[1]
    return row
