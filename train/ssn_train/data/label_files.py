"""What labelling tools wrote: COCO (CVAT, Roboflow), LabelMe, YOLO and VOC files, through ``supervision``.

Which photo has labels is read from the files here; polygons, run lengths and boxes are ``supervision``'s, one
photo at a time, so that a data set's masks never lie in memory together.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ssn_edge.errors import InputError, needs
from ssn_edge.inventory import Reason, files_below, is_hidden, is_image
from ssn_edge.text import one_line
from ssn_train.data.folder_names import meaning

MOST_BYTES = 1 << 30
"""Of a label file: COCO's describe whole data sets."""

SUFFIXES = {".json", ".xml", ".txt"}

NOT_READ = Reason('label files; to read them: pip install "ssn-edge[labels]"', alarming=True)


@dataclass(frozen=True)
class Shapes:
    """A photo's labels: ``tool`` says which reader, ``document`` (JSON, or the file's text) holds what it
    reads. ``polygons``: whether they say where the defect is, or only boxes."""

    source: Path
    tool: str
    document: str
    photo: Path
    polygons: bool = True

    def draw(self) -> np.ndarray:
        """Their area as bool [H, W], of the height and width that the tool noted. InputError where they
        cannot be drawn."""
        with needs("labels", str(self.source)):
            import supervision
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shapes without an area: named when the file is listed
            try:
                found = _READERS[self.tool](supervision.DetectionDataset, self, Path(folder))
                masks = next(iter(found.annotations.values())).mask
            except (ValueError, KeyError, TypeError, IndexError, OSError, StopIteration) as error:
                raise InputError(f"{self.source}: labels of {self.photo.name}: {one_line(error)}") from None
        if masks is None or not len(masks):
            raise InputError(f"{self.source}: labels of {self.photo.name}: no area in them; draw polygons")
        return np.logical_or.reduce(np.asarray(masks), axis=0)


def _coco(reader: Any, shapes: Shapes, folder: Path) -> Any:
    (folder / "labels.json").write_text(shapes.document, encoding="utf-8")
    return reader.from_coco(str(folder), str(folder / "labels.json"), force_masks=True)


def _labelme(reader: Any, shapes: Shapes, folder: Path) -> Any:
    (folder / "labels.json").write_text(shapes.document, encoding="utf-8")
    return reader.from_labelme(str(folder), str(folder), force_masks=True)


def _yolo(reader: Any, shapes: Shapes, folder: Path) -> Any:
    """YOLO's numbers are shares of the photo's size, so the photo has to be there."""
    for name in ("images", "labels"):
        (folder / name).mkdir()
    os.symlink(shapes.photo.resolve(), folder / "images" / ("photo" + shapes.photo.suffix.lower()))
    (folder / "labels" / "photo.txt").write_text(shapes.document, encoding="utf-8")
    classes = 1 + max(int(float(line.split()[0])) for line in shapes.document.splitlines() if line.strip())
    (folder / "data.yaml").write_text(f"names: {[str(n) for n in range(classes)]}\n", encoding="utf-8")
    places = (str(folder / name) for name in ("images", "labels", "data.yaml"))
    return reader.from_yolo(*places, force_masks=True)


_READERS = {"COCO": _coco, "LabelMe": _labelme, "YOLO": _yolo}


@dataclass(frozen=True)
class Labels:
    """``shapes``: photo -> what is labelled on it, None for a photo that the tool lists without a label.
    ``used``: label files -> their tool; ``unused``: those that could not be used."""

    shapes: Mapping[Path, Optional[Shapes]]
    used: Mapping[Path, str]
    unused: Mapping[Path, Reason]


def find(root: Path) -> Labels:
    """The label files below ``root`` and the photos that they speak of."""
    shapes: Dict[Path, Optional[Shapes]] = {}
    used: Dict[Path, str] = {}
    unused: Dict[Path, Reason] = {}
    files = [path for path in files_below(root) if not is_hidden(path, root)]
    photos = _Photos([path for path in files if is_image(path)])
    for path in files:
        if path.suffix.lower() not in SUFFIXES or path.stat().st_size > MOST_BYTES:
            continue
        tool, found = _read(path, photos)
        if not tool:
            continue
        if not _can_draw():
            unused[path] = NOT_READ
        elif not found:
            unused[path] = Reason(f"{tool} labels of photos that are not here", alarming=True)
        else:
            used[path] = f"labels ({tool})"
            shapes.update(found)
    return Labels(shapes, used, unused)


def _can_draw() -> bool:
    with contextlib.suppress(ImportError):
        import supervision  # noqa: F401

        return True
    return False


def _read(path: Path, photos: _Photos) -> Tuple[str, Dict[Path, Optional[Shapes]]]:
    """(tool, its labels); "" for a file that holds none."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".txt":
            return ("YOLO", dict(_of_yolo(path, text, photos))) if _is_yolo(text) else ("", {})
        if path.suffix.lower() == ".xml":
            return ("VOC", dict(_of_voc(path, text, photos))) if "<annotation" in text[:1000] else ("", {})
        document = json.loads(text)
    except (ValueError, RecursionError, OSError):
        return "", {}
    if not isinstance(document, dict):
        return "", {}
    try:
        if isinstance(document.get("images"), list) and "annotations" in document:
            return "COCO", dict(_of_coco(path, document, photos))
        if isinstance(document.get("shapes"), list) and "imagePath" in document:
            return "LabelMe", dict(_of_labelme(path, document, photos))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: no labels that can be read ({one_line(error)}); export again") from None
    return "", {}


Found = Iterator[Tuple[Path, Optional[Shapes]]]


def _of_coco(path: Path, document: Mapping[str, Any], photos: _Photos) -> Found:
    good = {one["id"] for one in document["categories"] if _is_good(str(one.get("name", "")))}
    by_image: Dict[Any, List[Any]] = {}
    for one in document["annotations"]:
        if one["category_id"] not in good:
            by_image.setdefault(one["image_id"], []).append(one)
    for image in document["images"]:
        photo = photos.find(path, str(image["file_name"]))
        if photo is None:
            continue
        marked = by_image.get(image["id"], [])
        with_area = [one for one in marked if one.get("segmentation")]
        part = {"images": [{**image, "file_name": "photo"}], "annotations": with_area,
                "categories": document["categories"]}
        yield photo, Shapes(path, "COCO", json.dumps(part), photo, bool(with_area)) if marked else None


def _of_labelme(path: Path, document: Mapping[str, Any], photos: _Photos) -> Found:
    photo = photos.find(path, str(document["imagePath"])) or photos.of_stem(path)
    if photo is None:
        return
    marked = [one for one in document["shapes"] if not _is_good(str(one.get("label", "")))]
    with_area = [one for one in marked if one.get("shape_type") in ("polygon", "rectangle")]
    part = {key: document.get(key) for key in ("imageHeight", "imageWidth")}
    part.update(imagePath="photo", shapes=with_area)
    yield photo, Shapes(path, "LabelMe", json.dumps(part), photo, bool(with_area)) if marked else None


YOLO_LINE = re.compile(r"\d+(\s+-?\d*\.?\d+(e-?\d+)?){4,}\s*")


def _is_yolo(text: str) -> bool:
    """Lines of a class and numbers; an empty file lists a photo without a label."""
    return len(text) < 10_000_000 and all(YOLO_LINE.fullmatch(line) for line in text.splitlines() if line)


def _of_yolo(path: Path, text: str, photos: _Photos) -> Found:
    photo = photos.of_stem(path)
    if photo is not None:
        areas = "\n".join(line for line in text.splitlines() if len(line.split()) > 5)
        yield photo, Shapes(path, "YOLO", areas, photo, bool(areas)) if text.strip() else None


def _of_voc(path: Path, text: str, photos: _Photos) -> Found:
    """Boxes: they say that there is a defect, not which pixels."""
    photo = photos.of_stem(path)
    if photo is not None:
        yield photo, Shapes(path, "VOC", "", photo, False) if "<object>" in text else None


def _is_good(label: str) -> bool:
    return meaning(label) == "good" or label.lower() in ("background", "_background_", "roi", "ignore")


class _Photos:
    """Images by their names."""

    def __init__(self, paths: Sequence[Path]):
        self._named: Dict[str, List[Path]] = {}
        self._stems: Dict[str, List[Path]] = {}
        for path in paths:
            self._named.setdefault(path.name.casefold(), []).append(path)
            self._stems.setdefault(path.stem.casefold(), []).append(path)

    def find(self, source: Path, name: str) -> Optional[Path]:
        """The photo that a label file names, with or without its folders."""
        folded = name.casefold().replace("\\", "/")
        parts = [part for part in folded.split("/") if part not in ("", ".", "..")]
        return self._nearest(source, self._named.get(parts[-1], []), parts) if parts else None

    def of_stem(self, source: Path) -> Optional[Path]:
        """The photo that a label file is named after."""
        return self._nearest(source, self._stems.get(source.stem.casefold(), []), [])

    def _nearest(self, source: Path, paths: Sequence[Path], parts: Sequence[str]) -> Optional[Path]:
        """Of several the one whose folders are as named, or that shares most of its way with the label file;
        None where that leaves two."""

        def rank(path: Path) -> Tuple[int, int]:
            own = [part.casefold() for part in path.parts]
            named = next((n for n in range(len(parts), 0, -1) if own[-n:] == list(parts[-n:])), 0)
            return named, len(os.path.commonpath([path, source.parent]))

        ranked = sorted(paths, key=rank)
        twice = len(ranked) > 1 and rank(ranked[-1]) == rank(ranked[-2])
        return None if not ranked or twice else ranked[-1]
