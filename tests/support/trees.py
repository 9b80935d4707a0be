"""Folders of small photos, masks and labels, made here."""

import json

import cv2
import numpy as np

SIZE = 48, 64
BOX = slice(10, 20), slice(10, 30)
"""Where the defect is in every mask and label."""


def photo(path, seed=0, size=SIZE):
    """A texture of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([seed, len(path.name), *path.name.encode()]).integers(0, 256, (*size, 3))
    image = cv2.GaussianBlur(noise.astype(np.uint8), (0, 0), 2)
    done, data = cv2.imencode(path.suffix if path.suffix not in (".jfif", ".jpe") else ".jpg", image)
    assert done
    path.write_bytes(data.tobytes())
    return path


def photos(folder, count=3, suffix=".jpg"):
    return [photo(folder / f"{number:03d}{suffix}") for number in range(count)]


def mask(path, value=255, size=SIZE):
    """A defect in BOX; none for 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros(size, np.uint8)
    image[BOX] = value
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def corners():
    """BOX as a polygon that fillPoly draws as exactly these pixels."""
    rows, columns = BOX
    top, bottom, left, right = rows.start, rows.stop - 1, columns.start, columns.stop - 1
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def labelme(path, name, label="crack", points=None):
    shape = {"label": label, "points": points or corners(), "group_id": None, "shape_type": "polygon"}
    document = {"version": "5.5.0", "flags": {}, "shapes": [shape], "imagePath": name, "imageData": None,
                "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def coco(path, names, marked, category="scratch", polygons=True):
    """Every name is listed, the marked ones have a polygon (or just a box)."""
    flat = [n for corner in corners() for n in corner]
    size = {"height": SIZE[0], "width": SIZE[1]}
    document = {
        "images": [{"id": i, "file_name": n, **size} for i, n in enumerate(names)],
        "categories": [{"id": 7, "name": category}],
        "annotations": [
            {"id": k, "image_id": names.index(n), "category_id": 7, "bbox": [10, 10, 20, 10], "area": 200,
             "iscrowd": 0, "segmentation": [flat] if polygons else []}
            for k, n in enumerate(marked)
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def truth():
    """BOX as a mask."""
    found = np.zeros(SIZE, bool)
    found[BOX] = True
    return found
