"""Exports of labelling tools, made here, against the box that was labelled."""

import json

import numpy as np
import pytest
import trees

from ssn_edge.errors import InputError
from ssn_edge.inventory import alarm
from ssn_train.data import accounts, checking, label_files
from ssn_train.data.datasets import open_dataset
from ssn_train.data.truth import read_truth

pytest.importorskip("supervision")


def labels(dataset):
    return {s.path.name: s.label for s in dataset.train + dataset.test}


def check_boxes(dataset):
    """Every mask there is is the box; how many there were."""
    checking.check(dataset)
    masks = [read_truth(s.mask, trees.SIZE) for s in dataset.train + dataset.test if s.mask is not None]
    for mask in masks:
        np.testing.assert_array_equal(mask, trees.truth())
    return len(masks)


def test_cvats_coco(tmp_path):
    names = [path.name for path in trees.photos(tmp_path / "images" / "default", 8)]
    trees.coco(tmp_path / "annotations" / "instances_default.json", names, names[5:])
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "labels" and labels(dataset) == {n: int(n in names[5:]) for n in names}
    assert check_boxes(dataset) == 3 and not alarm(tmp_path, accounts.rows_of(dataset))


def test_roboflows_coco_keeps_its_parts(tmp_path):
    for part, numbers in (("train", range(6)), ("valid", range(6, 8)), ("test", range(8, 10))):
        names = [f"{n}_jpg.rf.{n}ab.jpg" for n in numbers]
        for name in names:
            trees.photo(tmp_path / part / name)
        trees.coco(tmp_path / part / "_annotations.coco.json", names, names[-1:])
    dataset = open_dataset(tmp_path)
    assert [s.path.parent.name for s in dataset.test] == ["test", "test", "valid"]
    assert [s.label for s in dataset.test] == [0, 1, 1] and sum(s.label for s in dataset.train) == 1
    assert check_boxes(dataset) == 3


def test_roboflows_masks(tmp_path):
    for number in range(8):
        trees.photo(tmp_path / "train" / f"{number}.jpg")
        trees.mask(tmp_path / "train" / f"{number}_mask.png", int(number > 5))
    dataset = open_dataset(tmp_path)
    assert labels(dataset) == {f"{n}.jpg": int(n > 5) for n in range(8)} and check_boxes(dataset) == 2


def test_cvats_masks(tmp_path):
    for number in range(8):
        trees.photo(tmp_path / "JPEGImages" / f"{number}.jpg")
        for kind in ("SegmentationClass", "SegmentationObject"):
            trees.mask(tmp_path / kind / f"{number}.png", 200 * (number > 5))
    dataset = open_dataset(tmp_path)
    assert labels(dataset) == {f"{n}.jpg": int(n > 5) for n in range(8)} and check_boxes(dataset) == 2


@pytest.mark.parametrize("place", ["bad/{}.json", "labels/{}.json", "bad/json/{}.json"])
def test_labelme_gives_the_masks_of_defect_folders(tmp_path, place):
    trees.photos(tmp_path / "good", 5)
    for path in trees.photos(tmp_path / "bad", 3):
        trees.labelme(tmp_path / place.format(path.stem), f"..\\bad\\{path.name}")
    dataset = open_dataset(tmp_path)
    assert check_boxes(dataset) == 3 and not alarm(tmp_path, accounts.rows_of(dataset))


def test_yolo_polygons(tmp_path):
    height, width = trees.SIZE
    numbers = " ".join(f"{x / width:.6f} {y / height:.6f}" for x, y in trees.corners())
    for path in trees.photos(tmp_path / "images", 6):
        (tmp_path / "labels").mkdir(exist_ok=True)
        text = f"0 {numbers}\n" if path.stem > "003" else ""
        (tmp_path / "labels" / f"{path.stem}.txt").write_text(text)
    dataset = open_dataset(tmp_path)
    assert sum(labels(dataset).values()) == 2 and check_boxes(dataset) == 2


def test_boxes_say_that_there_is_a_defect_but_not_where(tmp_path):
    names = [path.name for path in trees.photos(tmp_path, 6)]
    trees.coco(tmp_path / "labels.json", names, names[4:], polygons=False)
    dataset = open_dataset(tmp_path)
    assert sum(labels(dataset).values()) == 2 and check_boxes(dataset) == 0


def test_labels_of_good_things_are_no_defects(tmp_path):
    names = [path.name for path in trees.photos(tmp_path, 6)]
    trees.coco(tmp_path / "labels.json", names, names[4:], category="OK")
    assert not any(labels(open_dataset(tmp_path)).values())


def test_a_label_on_a_good_photo_keeps_it_out(tmp_path):
    trees.photos(tmp_path / "good", 5)
    trees.photos(tmp_path / "bad", 2)
    trees.labelme(tmp_path / "good" / "001.json", "001.jpg")
    dataset = open_dataset(tmp_path)
    assert "001.jpg" not in {s.path.name for s in dataset.train + dataset.test if not s.label}
    assert "photos called good on which a label marks a defect" in alarm(tmp_path, accounts.rows_of(dataset))


def test_photos_of_one_name_in_two_folders(tmp_path):
    trees.photos(tmp_path / "good", 5)
    trees.photos(tmp_path / "bad", 2)
    trees.coco(tmp_path / "labels.json", ["bad/000.jpg", "bad/001.jpg"], ["bad/001.jpg"])
    dataset = open_dataset(tmp_path)
    masked = [s.path for s in dataset.train + dataset.test if s.mask is not None]
    assert masked == [tmp_path / "bad" / "001.jpg"]


def test_without_the_extra_label_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(label_files, "_can_draw", lambda: False)
    trees.photos(tmp_path / "good", 5)
    trees.photos(tmp_path / "bad", 1)
    trees.labelme(tmp_path / "bad" / "000.json", "000.jpg")
    found = alarm(tmp_path, accounts.rows_of(open_dataset(tmp_path)))
    assert 'label files; to read them: pip install "ssn-edge[labels]" (1): bad/ (000.json)' in found


def test_labels_that_cannot_be_read_are_one_line(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"images": [{"id": 1}], "annotations": [], "categories": []}))
    with pytest.raises(InputError, match="a.json: no labels that can be read"):
        open_dataset(tmp_path)
    trees.photos(tmp_path / "good", 4)
    bad = trees.photo(tmp_path / "bad" / "b.jpg")
    trees.labelme(tmp_path / "a.json", bad.name, points=[[1, 1], [2, 2]])
    with pytest.raises(InputError, match="a.json: labels of b.jpg: .*has 2 point"):
        checking.check(open_dataset(tmp_path))


def test_labels_of_another_size_are_refused(tmp_path):
    sizes = [trees.SIZE] * 4 + [(40, 64)]
    names = [trees.photo(tmp_path / f"{n}.jpg", size=size).name for n, size in enumerate(sizes)]
    trees.coco(tmp_path / "labels.json", names, names[4:])
    with pytest.raises(InputError, match="labels.json: mask of 48x64 for an image of 40x64"):
        checking.check(open_dataset(tmp_path))


def test_several_files_over_the_same_photos_add_up(tmp_path):
    """One job a class: what is empty in the second is not empty."""
    names = [path.name for path in trees.photos(tmp_path / "images", 6)]
    for number in (0, 1):
        trees.coco(tmp_path / "annotations" / f"{number}.json", names, [names[number]])
    trees.coco(tmp_path / "annotations" / "2.json", names, [names[0]])
    trees.labelme(tmp_path / "images" / "003.json", "003.jpg")
    dataset = open_dataset(tmp_path)
    assert labels(dataset) == {n: int(n[:3] in ("000", "001", "003")) for n in names}
    assert check_boxes(dataset) == 3


def test_a_mask_marks_what_a_file_lists_with_nothing(tmp_path):
    names = [path.name for path in trees.photos(tmp_path / "images", 6)]
    trees.coco(tmp_path / "a.json", names, names[:1])
    trees.mask(tmp_path / "masks" / "001.png")
    dataset = open_dataset(tmp_path)
    assert labels(dataset) == {n: int(n[:3] in ("000", "001")) for n in names}
    assert not alarm(tmp_path, accounts.rows_of(dataset))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
def test_label_files_in_other_encodings(tmp_path, encoding):
    trees.photos(tmp_path / "good", 5)
    trees.photos(tmp_path / "bad", 1)
    path = tmp_path / "bad" / "000.json"
    trees.labelme(path, "000.jpg", label="Riß")
    path.write_bytes(json.dumps(json.loads(path.read_text()), ensure_ascii=False).encode(encoding))
    dataset = open_dataset(tmp_path)
    rows = accounts.rows_of(dataset)
    assert check_boxes(dataset) == 1 and not alarm(tmp_path, rows)


@pytest.mark.parametrize("name, text", [
    ("a.json", '{"images": [{"file_name": "000.jpg"'),
    ("via.json", '{"000.jpg1234": {"filename": "000.jpg", "regions": []}}'),
    ("studio.json", '[{"data": {"image": "000.jpg"}, "annotations": []}]'),
    ("annotations.xml", '<?xml version="1.0"?><annotations><image name="000.jpg"></image></annotations>'),
    ("_classes.csv", "filename, crack\n000.jpg, 1\n001.jpg, 0\n"),
    ("list.txt", "000.jpg 1\n001.jpg 0\n"),
])
def test_labels_that_are_not_read_are_an_alarm(tmp_path, name, text):
    trees.photos(tmp_path, 5)
    (tmp_path / name).write_text(text)
    assert name in alarm(tmp_path, accounts.rows_of(open_dataset(tmp_path)))


@pytest.mark.parametrize("name, text", [("notes.txt", ""), ("README.txt", "by hand\n"), ("a.json", "{}")])
def test_other_files_are_none(tmp_path, name, text):
    trees.photos(tmp_path / "good", 5)
    (tmp_path / "good" / name).write_text(text)
    assert not alarm(tmp_path, accounts.rows_of(open_dataset(tmp_path)))


def test_marks_without_an_area_make_the_whole_mask_unknown(tmp_path):
    trees.photos(tmp_path / "good", 5)
    trees.photos(tmp_path / "bad", 1)
    path = tmp_path / "bad" / "000.json"
    trees.labelme(path, "000.jpg")
    document = json.loads(path.read_text())
    document["shapes"].append({"label": "x", "shape_type": "linestrip", "points": [[1, 1], [5, 5]]})
    path.write_text(json.dumps(document))
    dataset = open_dataset(tmp_path)
    assert all(s.mask is None for s in dataset.train + dataset.test)
    assert any("without a mask" in line for line in accounts.tree(dataset, accounts.rows_of(dataset)))


def test_circles(tmp_path):
    trees.photos(tmp_path / "good", 5)
    trees.photos(tmp_path / "bad", 1)
    path = tmp_path / "bad" / "000.json"
    trees.labelme(path, "000.jpg", points=[[30, 20], [30, 30]])
    document = json.loads(path.read_text())
    document["shapes"][0]["shape_type"] = "circle"
    path.write_text(json.dumps(document))
    dataset = open_dataset(tmp_path)
    (mask,) = [read_truth(s.mask, trees.SIZE) for s in dataset.train + dataset.test if s.mask is not None]
    assert abs(mask.sum() - np.pi * 100) < 40 and mask[20, 30]


@pytest.mark.parametrize("place, text", [
    ("classes.txt", "good\ncrack\n"), ("data.yaml", "names: [good, crack]\n"),
    ("data.yaml", "names:\n  0: good\n  1: crack\n"),
])
def test_classes_of_yolo(tmp_path, place, text):
    for path in trees.photos(tmp_path / "images", 6):
        (tmp_path / "labels").mkdir(exist_ok=True)
        label = f"{int(path.stem > '003')} 0.5 0.5 0.2 0.2\n"
        (tmp_path / "labels" / f"{path.stem}.txt").write_text(label)
    (tmp_path / place).write_text(text)
    assert sum(labels(open_dataset(tmp_path)).values()) == 2


def test_classes_of_voc(tmp_path):
    for path in trees.photos(tmp_path / "JPEGImages", 6):
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        name = "crack" if path.stem > "003" else "background"
        text = f"<annotation><object><name>{name}</name><bndbox/></object></annotation>"
        (tmp_path / "Annotations" / f"{path.stem}.xml").write_text(text)
    assert sum(labels(open_dataset(tmp_path)).values()) == 2


def test_photos_that_a_file_names_and_that_are_missing_are_counted(tmp_path):
    names = [path.name for path in trees.photos(tmp_path, 6)]
    trees.coco(tmp_path / "labels.json", [*names, "gone.jpg"], names[4:])
    rows = accounts.rows_of(open_dataset(tmp_path))
    assert any("1 of their photos are not here" in row.text for row in rows)


@pytest.mark.parametrize("text", ['{"a": "img_000.jpg"}', '{"exposure": 3, "objects": 4}'])
def test_settings_are_no_labels(tmp_path, text):
    trees.photos(tmp_path / "good", 5)
    (tmp_path / "settings.json").write_text(text)
    assert not alarm(tmp_path, accounts.rows_of(open_dataset(tmp_path)))
