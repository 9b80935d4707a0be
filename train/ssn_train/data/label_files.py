"""What labelling tools wrote: COCO (CVAT, Roboflow), LabelMe, YOLO and VOC files, through ``supervision``.

Which photo has labels is read from the files here; polygons, run lengths and boxes are ``supervision``'s, one
photo at a time, so that a data set's masks never lie in memory together.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from ssn_edge.errors import InputError, needs
from ssn_edge.inventory import Reason, files_below, is_hidden, is_image
from ssn_edge.text import one_line
from ssn_train.data.folder_names import is_mask_folder, meaning

MOST_BYTES = 1 << 30
"""Of a label file: COCO's describe whole data sets."""

SUFFIXES = {".json", ".xml", ".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".yaml", ".yml"}

MOST_TEXT = 4 << 20
"""Bytes of any other text that are looked at."""

MOST_NAMES = 200
"""Photos that are looked for in a text."""

NOT_READ = Reason('label files; to read them: pip install "ssn-edge[labels]"', alarming=True)
NOT_KNOWN = Reason("files that look like labels and are none that is read here: export COCO", alarming=True)
CVAT_XML = Reason("CVAT's own XML, which is not read here: export COCO or masks", alarming=True)
TABLES = Reason("tables that name photos, which are not read here", alarming=True)


@dataclass(frozen=True)
class Shapes:
    """What one file marks on a photo: ``tool`` says which reader, ``document`` (JSON, or the file's text)
    holds what it reads. ``polygons``: every mark has an area; if not, where the defects are is unknown."""

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
    """``shapes``: photo -> what is marked on it by each file that lists it, () for nothing. ``used``: label
    files -> their tool; ``unused``: those that could not be used."""

    shapes: Mapping[Path, Tuple[Shapes, ...]]
    used: Mapping[Path, str]
    unused: Mapping[Path, Reason]


def find(root: Path) -> Labels:
    """The label files below ``root`` and the photos that they speak of. Several files may speak of one photo:
    what any of them marks is marked."""
    shapes: Dict[Path, Tuple[Shapes, ...]] = {}
    used: Dict[Path, str] = {}
    unused: Dict[Path, Reason] = {}
    files = [path for path in files_below(root) if not is_hidden(path, root)]
    photos = _Photos([path for path in files if is_image(path) and not _is_mask(path, root)])
    can_draw = _can_draw()
    for path in files:
        if path.suffix.lower() not in SUFFIXES:
            continue
        tool, found = _read(path, photos)
        if isinstance(tool, Reason):
            unused[path] = tool
        elif tool and not can_draw:
            unused[path] = NOT_READ
        elif tool and not any(photo is not None for photo, _ in found):
            unused[path] = Reason(f"{tool} labels of photos that are not here, or twice", alarming=True)
        elif tool:
            missing = sum(photo is None for photo, _ in found)
            used[path] = f"labels ({tool}{f'; {missing} of their photos are not here' if missing else ''})"
            for photo, marked in found:
                if photo is not None:
                    shapes[photo] = shapes.get(photo, ()) + (() if marked is None else (marked,))
    return Labels(shapes, used, unused)


def _is_mask(path: Path, root: Path) -> bool:
    return any(map(is_mask_folder, path.relative_to(root).parts[:-1]))


def _can_draw() -> bool:
    with contextlib.suppress(ImportError):
        import supervision  # noqa: F401

        return True
    return False


Found = List[Tuple[Optional[Path], Optional[Shapes]]]
"""Photos that a file lists (None: it is not here), and what it marks on them (None: nothing)."""


def _read(path: Path, photos: _Photos) -> Tuple[Union[str, Reason], Found]:
    """(tool, its labels); "" for a file that holds none, a Reason for one that may and is not read."""
    suffix = path.suffix.lower()
    text = _text(path, MOST_BYTES if suffix == ".json" else MOST_TEXT)
    if suffix not in (".json", ".xml", ".txt"):
        return (TABLES if photos.named_in(text) else ""), []
    if suffix == ".txt":
        yolo = list(_of_yolo(path, text, photos)) if _is_yolo(text) else []
        known = bool(text.strip()) or any(photo for photo, _ in yolo)
        return ("YOLO" if yolo and known else TABLES if photos.named_in(text) > 1 else ""), yolo
    if suffix == ".xml":
        if "<annotations" in text[:2000]:
            return CVAT_XML, []
        return ("VOC", list(_of_voc(path, text, photos))) if "<annotation" in text[:2000] else ("", [])
    try:
        found = json.loads(text)
        document = found if isinstance(found, dict) else {}
        if isinstance(document.get("images"), list) and "annotations" in document:
            return "COCO", list(_of_coco(path, document, photos))
        if isinstance(document.get("shapes"), list) and "imagePath" in document:
            return "LabelMe", list(_of_labelme(path, document, photos))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no labels that can be read ({one_line(error)}); export again") from None
    except (ValueError, RecursionError):
        pass
    text = text[:MOST_TEXT]
    return (NOT_KNOWN if photos.named_in(text) or LABEL_WORDS.search(text) else ""), []


LABEL_WORDS = re.compile(
    r'"(annotations?|shapes|regions|segmentation|polygon(label)?s?|bbox|objects)"\s*:\s*[\[{]'
)


def _text(path: Path, most: int) -> str:
    """Up to ``most`` bytes: UTF-8 or as a byte order mark or XML's declaration says, else byte by byte."""
    try:
        with open(path, "rb") as file:
            data = file.read(most)
    except OSError:
        return ""
    declared = re.match(rb"[^>]{0,60}encoding=[\"']([\w.-]+)", data)
    marked = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    for encoding in (marked, declared[1].decode("ascii") if declared else "latin-1", "latin-1"):
        with contextlib.suppress(ValueError, LookupError):
            return data.decode(encoding)
    return ""


def _of_coco(path: Path, document: Mapping[str, Any], photos: _Photos) -> Iterator[Any]:
    categories = document.get("categories", [])
    good = {one["id"] for one in categories if _is_good(str(one.get("name", "")))}
    by_image: Dict[Any, List[Any]] = {}
    for one in document["annotations"]:
        if one["category_id"] not in good:
            by_image.setdefault(one["image_id"], []).append(one)
    for image in document["images"]:
        photo = photos.find(path, str(image["file_name"]))
        marked = by_image.get(image["id"], [])
        if photo is None or not marked:
            yield photo, None
            continue
        part = {"images": [{**image, "file_name": "photo"}], "annotations": marked, "categories": categories}
        areas = all(one.get("segmentation") for one in marked)
        yield photo, Shapes(path, "COCO", json.dumps(part), photo, areas)


DRAWN = ("polygon", "rectangle")


def _of_labelme(path: Path, document: Mapping[str, Any], photos: _Photos) -> Iterator[Any]:
    photo = photos.find(path, str(document["imagePath"])) or photos.of_stem(path)
    marked = [_round(one) for one in document["shapes"] if not _is_good(str(one.get("label", "")))]
    if photo is None or not marked:
        yield photo, None
        return
    part = {key: document.get(key) for key in ("imageHeight", "imageWidth")}
    part.update(imagePath="photo", shapes=marked)
    areas = all(one.get("shape_type") in DRAWN for one in marked)
    yield photo, Shapes(path, "LabelMe", json.dumps(part), photo, areas)


def _round(shape: Dict[str, Any]) -> Dict[str, Any]:
    """A circle, given as its centre and a point on it, as a polygon."""
    if shape.get("shape_type") != "circle" or len(shape.get("points", ())) != 2:
        return shape
    (x, y), rim = shape["points"]
    radius, turns = math.dist((x, y), rim), [2 * math.pi * n / 64 for n in range(64)]
    points = [[x + radius * math.cos(turn), y + radius * math.sin(turn)] for turn in turns]
    return {**shape, "shape_type": "polygon", "points": points}


YOLO_LINE = re.compile(r"\d+(\s+-?\d*\.?\d+(e-?\d+)?){4,}\s*")


def _is_yolo(text: str) -> bool:
    """Lines of a class and numbers; an empty file lists a photo without a label."""
    return len(text) < 10_000_000 and all(YOLO_LINE.fullmatch(line) for line in text.splitlines() if line)


def _of_yolo(path: Path, text: str, photos: _Photos) -> Iterator[Any]:
    photo, good = photos.of_stem(path), {
        number for number, name in enumerate(photos.class_names(path.parent)) if _is_good(name)
    }
    lines = [line for line in text.splitlines() if line.strip() and int(line.split()[0]) not in good]
    if photo is None or not lines:
        yield photo, None
    else:
        areas = all(len(line.split()) > 5 for line in lines)
        yield photo, Shapes(path, "YOLO", "\n".join(lines), photo, areas)


def _class_names(folder: Path) -> List[str]:
    """Of the nearest ``data.yaml``, ``classes.txt`` or ``obj.names`` in or above a folder of YOLO files;
    none: all are defects."""
    for place in [folder, *folder.parents][:4]:
        for name in ("classes.txt", "obj.names"):
            if (place / name).is_file():
                return _text(place / name, MOST_TEXT).splitlines()
        if (place / "data.yaml").is_file():
            with contextlib.suppress(ImportError, ValueError, AttributeError):
                import yaml

                names = yaml.safe_load(_text(place / "data.yaml", MOST_TEXT)).get("names", [])
                return list(map(str, names.values() if isinstance(names, dict) else names))
    return []


def _of_voc(path: Path, text: str, photos: _Photos) -> Iterator[Any]:
    """Boxes: they say that there is a defect, not which pixels."""
    photo = photos.of_stem(path)
    names = [one.partition("<name>")[2].partition("</name>")[0] for one in text.split("<object>")[1:]]
    marked = photo is not None and not all(_is_good(name.strip()) for name in names)
    yield photo, Shapes(path, "VOC", "", photo, False) if photo is not None and marked else None


def _is_good(label: str) -> bool:
    return meaning(label) == "good" or label.lower() in ("background", "_background_", "roi", "ignore")


class _Photos:
    """Images by their names, and what was read once for all labels of a folder."""

    def __init__(self, paths: Sequence[Path]):
        self._named: Dict[str, List[Path]] = {}
        self._stems: Dict[str, List[Path]] = {}
        self._classes: Dict[Path, List[str]] = {}
        for path in paths:
            self._named.setdefault(path.name.casefold(), []).append(path)
            self._stems.setdefault(path.stem.casefold(), []).append(path)

    def class_names(self, folder: Path) -> List[str]:
        """:func:`_class_names`, read once a folder."""
        if folder not in self._classes:
            self._classes[folder] = _class_names(folder)
        return self._classes[folder]

    def named_in(self, text: str) -> int:
        """How many of the first photos a text names, suffix included."""
        folded = text.casefold()
        names = itertools.islice(self._named, MOST_NAMES)
        return sum(bool(re.search(rf"(?<![\w.-]){re.escape(name)}(?!\w)", folded)) for name in names)

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
