"""Each data set's reader on a tiny tree of its published layout, and on wrong ones. No torch."""

import csv
import json
import pickle

import numpy as np
import pytest

from ssn_edge.errors import InputError
from ssn_edge.frames.image_files import write_image
from ssn_edge.frames.masks import read_mask
from ssn_train.data.datasets import Selection, open_dataset, scan


def image(path, mask=None):
    """A photo, or a mask with a defect of value ``mask`` (0: none)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((8, 10), np.uint8) if mask is not None else np.full((8, 10, 3), 90, np.uint8)
    if mask:
        pixels[2:5, 3:6] = mask
    write_image(path, pixels)
    return path


def dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def brief(samples, root):
    """(path, label, mask, defect) with paths below ``root``."""

    def below(path):
        return path and path.relative_to(root).as_posix()

    return [(below(s.path), s.label, below(s.mask), s.defect) for s in samples]


@pytest.fixture
def mvtec(tmp_path):
    for name in ("bottle", "cable"):
        image(tmp_path / name / "train" / "good" / "000.png")
        image(tmp_path / name / "test" / "good" / "000.png")
        image(tmp_path / name / "test" / "broken" / "000.png")
        image(tmp_path / name / "ground_truth" / "broken" / "000_mask.png", mask=255)
    return tmp_path


def test_mvtec(mvtec):
    assert scan(mvtec).categories == ("bottle", "cable")
    for dataset in (open_dataset(mvtec, Selection("bottle")), open_dataset(mvtec / "bottle")):
        root = mvtec / "bottle"
        assert brief(dataset.train, root) == [("train/good/000.png", 0, None, "good")]
        assert brief(dataset.test, root) == [
            ("test/broken/000.png", 1, "ground_truth/broken/000_mask.png", "broken"),
            ("test/good/000.png", 0, None, "good"),
        ]
    image(mvtec / "bottle" / "train" / "scratch" / "001.png")
    image(mvtec / "bottle" / "ground_truth" / "scratch" / "001_mask.png", mask=255)
    train = open_dataset(mvtec / "bottle").train
    assert [s.label for s in train] == [0, 1] and train[1].mask is not None
    assert len(open_dataset(mvtec / "bottle", Selection(unsupervised=True)).train) == 1


def test_visa(tmp_path):
    rows = [
        ("candle", "train", "normal", "candle/Data/Images/Normal/0000.JPG", ""),
        ("candle", "test", "normal", "candle/Data/Images/Normal/0001.JPG", ""),
        ("candle", "test", "anomaly", "candle/Data/Images/Anomaly/000.JPG",
         "candle/Data/Masks/Anomaly/000.png"),
        ("pcb1", "train", "normal", "pcb1/Data/Images/Normal/0000.JPG", ""),
    ]
    (tmp_path / "split_csv").mkdir()
    with open(tmp_path / "split_csv" / "1cls.csv", "w", newline="") as file:
        csv.writer(file).writerows([("object", "split", "label", "image", "mask"), *rows])
    for *_, photo, mask in rows:
        image(tmp_path / photo)
        if mask:
            image(tmp_path / mask, mask=3)
    assert scan(tmp_path).categories == ("candle", "pcb1")
    dataset = open_dataset(tmp_path, Selection("candle"))
    assert brief(dataset.train, tmp_path) == [(rows[0][3], 0, None, "good")]
    assert brief(dataset.test, tmp_path) == [
        (rows[1][3], 0, None, "good"), (rows[2][3], 1, rows[2][4], "anomaly"),
    ]
    with pytest.raises(InputError, match="--categories cup: .* has candle, pcb1"):
        open_dataset(tmp_path, Selection("cup"))
    with pytest.raises(InputError, match="choose one with --categor"):
        open_dataset(tmp_path)


def test_visa_prepared(mvtec, tmp_path):
    (mvtec / "bottle").rename(mvtec / "candle")
    target = tmp_path / "visa"
    target.mkdir()
    (mvtec / "candle").rename(target / "visa_pytorch_candle")
    (target / "visa_pytorch").mkdir()
    (target / "visa_pytorch_candle").rename(target / "visa_pytorch" / "candle")
    assert scan(target).categories == ("candle",)
    assert len(open_dataset(target, Selection("candle")).test) == 2


def test_visa_numbers_kinds_of_defects_in_its_masks(tmp_path):
    pixels = np.zeros((4, 4), np.uint8)
    pixels[0, 0], pixels[1, 1] = 1, 5
    write_image(tmp_path / "m.png", pixels)
    assert read_mask(tmp_path / "m.png").sum() == 2


@pytest.fixture
def ksdd2(tmp_path):
    for part, numbers in (("train", (10, 11, 12)), ("test", (20, 21))):
        for number in numbers:
            image(tmp_path / part / f"{number}.png")
            image(tmp_path / part / f"{number}_GT.png", mask=255 if number in (11, 12, 21) else 0)
    dump(tmp_path / "split_weakly_246.pyb", ([(10, True), (11, True), (12, True)], [(20, True), (21, True)]))
    dump(tmp_path / "split_weakly_16.pyb", ([(10, True), (11, True), (12, False)], [(20, True), (21, True)]))
    return tmp_path


def test_ksdd2(ksdd2):
    full = open_dataset(ksdd2)
    assert brief(full.train, ksdd2) == [
        ("train/10.png", 0, None, "good"),
        ("train/11.png", 1, "train/11_GT.png", "defect"),
        ("train/12.png", 1, "train/12_GT.png", "defect"),
    ]
    assert [s.label for s in full.test] == [0, 1]
    mixed = open_dataset(ksdd2, Selection(segmented=16))
    assert [s.mask is not None for s in mixed.train] == [False, True, False]
    assert mixed.test[1].mask is not None
    with pytest.raises(InputError, match="expected split_weakly_53.pyb .* found split_weakly_16.pyb, split"):
        open_dataset(ksdd2, Selection(segmented=53))
    (ksdd2 / "split_weakly_246.pyb").unlink()
    assert open_dataset(ksdd2).train == full.train  # without split files everything is segmented
    (ksdd2 / "train" / "10_GT.png").unlink()
    with pytest.raises(InputError, match="expected 10_GT.png beside 10.png"):
        open_dataset(ksdd2)


@pytest.fixture
def sensum(tmp_path):
    for number in range(4):
        image(tmp_path / "capsule" / "negative" / "data" / f"{number:03}.png")
        image(tmp_path / "capsule" / "positive" / "data" / f"{number:03}.png")
        image(tmp_path / "capsule" / "positive" / "annotation" / f"{number:03}.png", mask=255)
    for fold in range(3):
        splits = tmp_path / "sensum_splits" / "capsule" / str(fold)
        dump(splits / "train" / "neg.pckl", [(0, True), (1, True)])
        dump(splits / "train" / "pos_100.pckl", [(0, True), (1, True)])
        dump(splits / "train" / "pos_50.pckl", [(0, True), (1, False)])
        dump(splits / "test" / "neg.pckl", [(2, True), (3, True)])
        dump(splits / "test" / "pos.pckl", [(2 + fold % 2, True)])
    return tmp_path


def test_sensum(sensum):
    found = scan(sensum)
    assert (found.categories, found.folds) == (("capsule",), 3)
    dataset = open_dataset(sensum, Selection("capsule", fold=1))
    root = sensum / "capsule"
    assert brief(dataset.train, root)[1:3] == [
        ("negative/data/001.png", 0, None, "good"),
        ("positive/data/000.png", 1, "positive/annotation/000.png", "defect"),
    ]
    assert brief(dataset.test, root)[-1][0] == "positive/data/003.png"
    half = open_dataset(sensum, Selection("capsule", segmented=50)).train
    assert [s.mask is not None for s in half if s.label] == [True, False]
    with pytest.raises(InputError, match="--folds 3: .* 3 folds, 0 to 2"):
        open_dataset(sensum, Selection("capsule", fold=3))
    (sensum / "sensum_splits" / "capsule" / "2" / "train" / "neg.pckl").unlink()
    with pytest.raises(InputError, match="neg.pckl: cannot be read"):
        open_dataset(sensum, Selection("capsule", fold=2))


def test_tiles(tmp_path):
    names = [f"MT_Free/Imgs/{i}.jpg" for i in range(4)] + ["MT_Crack/Imgs/9.jpg"]
    for name in names:
        image(tmp_path / name)
    image(tmp_path / "MT_Crack" / "Imgs" / "9.png", mask=255)
    folds = [names[:2], names[2:3], names[3:]]
    unsupervised = {"train": names[:3], "test": names[3:]}
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"unsupervised": unsupervised, "supervised_folds": folds}))
    dataset = open_dataset(tmp_path, Selection(fold=0))
    assert [s.path.name for s in dataset.test] == ["0.jpg", "1.jpg"]
    assert brief(dataset.train, tmp_path)[-1] == (names[4], 1, "MT_Crack/Imgs/9.png", "Crack")
    alone = open_dataset(tmp_path, Selection(unsupervised=True))
    assert len(alone.train) == 3 and alone.test[1].label == 1
    assert scan(tmp_path, unsupervised=True).folds == 1
    split.write_text(json.dumps({"supervised_folds": [["../x.jpg"], [], []]}))
    with pytest.raises(InputError, match="leads out of the folder"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "MT_Free/../../x.jpg", "MT_Free/a\0.jpg"])
def test_names_in_lists_stay_in_the_folder(tmp_path, name):
    split = {"unsupervised": {"train": [name], "test": []}, "supervised_folds": [[name], [], [name]]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    with pytest.raises(InputError, match="leads out of the folder|no file name"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    "row, message",
    [
        ("/tmp/out,train,normal,a.png,", "leads out of the folder"),
        ("../out,train,normal,a.png,", "leads out of the folder"),
        ("a/b,train,normal,a.png,", "not a plain name"),
        ("candle,train,normal", "line 2 has not 5 columns"),
    ],
)
def test_visa_lists_are_not_trusted(tmp_path, row, message):
    """An object's name becomes a folder of the results."""
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text(f"object,split,label,image,mask\n{row}\n")
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path)


def test_sensum_lists_hold_pairs(sensum):
    dump(sensum / "sensum_splits" / "capsule" / "0" / "test" / "pos.pckl", [([1], True)])
    with pytest.raises(InputError, match=r"expected \(image, segmented\) pairs, found \(\[1\], True\)"):
        open_dataset(sensum, Selection("capsule"))


def test_own_photos_keep_half_of_each_kind_for_testing(tmp_path):
    for i in range(10):
        image(tmp_path / "good" / f"{i}.png")
    for i in range(4):
        image(tmp_path / "bad" / "pit" / f"{i}.png")
        image(tmp_path / "masks" / "pit" / f"{i}_mask.png", mask=255)
        image(tmp_path / "bad" / "dent" / f"d{i}.png")
    dataset = open_dataset(tmp_path)
    kinds = [s.defect for s in dataset.train]
    assert (kinds.count("good"), kinds.count("pit"), kinds.count("dent")) == (8, 2, 2)
    assert not {s.path for s in dataset.train} & {s.path for s in dataset.test}
    assert "8 good and 4 defective (2 without a mask) to train on" in dataset.describe()
    alone = open_dataset(tmp_path, Selection(unsupervised=True))
    assert not any(s.label for s in alone.train) and sum(s.label for s in alone.test) == 8


@pytest.mark.parametrize(
    "made, message",
    [
        (["train/bad/a.png"], r"no images in it; expected the good training photos"),
        (["train/good/"], r"no images in it; expected the good training photos"),
        (["sensum_splits/capsule/0/"], r"expected .*capsule, found sensum_splits"),
        (["split_csv/1cls.csv"], r"expected columns object, split, label, image, mask, found nothing"),
        ([], r"no good photos found"),
    ],
)
def test_wrong_layouts_are_named(tmp_path, made, message):
    for name in made:
        path = tmp_path / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True)
            path.write_bytes(b"")
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path, Selection("capsule" if "sensum" in str(made) else None))
