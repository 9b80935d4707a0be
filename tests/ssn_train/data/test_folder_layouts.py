"""Folders as people have them: which photos are good, which defective, which masks are theirs."""

from collections import Counter

import pytest
import trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssn_edge.errors import InputError
from ssn_edge.inventory import alarm, files_below
from ssn_train.data import accounts
from ssn_train.data.datasets import LAYOUTS, Selection, open_dataset
from ssn_train.data.folder_names import words
from ssn_train.data.truth import mask_files


def found(root, **select):
    """(data set, defects by kind, alarm)"""
    dataset = open_dataset(root, Selection(**select))
    samples = [*dataset.train, *dataset.test]
    kinds = Counter(sample.defect for sample in samples if sample.label)
    return dataset, dict(kinds), alarm(root, accounts.rows_of(dataset))


@pytest.mark.parametrize("name", [
    "abnormal", "anomalous", "nok", "not_good", "faulty", "reject", "NG", "crack", "Kratzer", "missing screw",
])
def test_any_defects_name_beside_good(tmp_path, name):
    trees.photos(tmp_path / "good", 6)
    trees.photos(tmp_path / name)
    dataset, kinds, warning = found(tmp_path)
    assert kinds == {name: 3} and not warning
    assert not any(s.label for s in dataset.train + dataset.test if "good" in s.path.parts)


@pytest.mark.parametrize("good", ["ok", "Normal", "OK_parts", "defect_free"])
def test_names_of_good_folders(tmp_path, good):
    trees.photos(tmp_path / good, 6)
    trees.photos(tmp_path / "crack")
    dataset, kinds, _ = found(tmp_path)
    assert kinds == {"crack": 3} and sum(not s.label for s in dataset.train + dataset.test) == 6


def test_defects_at_any_depth_and_in_several_folders(tmp_path):
    trees.photos(tmp_path / "good", 6)
    for way in ("bad", "ng", "bad/2024/crack", "bad/hole/left"):
        trees.photos(tmp_path / way, 2)
    _, kinds, warning = found(tmp_path)
    assert kinds == {"bad": 2, "ng": 2, "crack": 2, "hole": 2} and not warning


def test_good_in_test_of_mvtec_has_many_names(tmp_path):
    trees.photos(tmp_path / "train" / "normal", 6)
    trees.photos(tmp_path / "test" / "ok")
    trees.photos(tmp_path / "test" / "crack", 2)
    dataset, kinds, _ = found(tmp_path)
    assert kinds == {"crack": 2} and len(dataset.train) == 6
    assert [s.label for s in dataset.test] == [1, 1, 0, 0, 0]


def test_mvtec_ad_2(tmp_path):
    trees.photos(tmp_path / "train" / "good", 6)
    trees.photos(tmp_path / "validation" / "good", 2)
    trees.photos(tmp_path / "test_public" / "good", 2)
    trees.photos(tmp_path / "test_public" / "bad", 2)
    trees.mask(tmp_path / "test_public" / "ground_truth" / "bad" / "000_mask.png")
    trees.photos(tmp_path / "test_private", 2)
    dataset, kinds, warning = found(tmp_path)
    assert len(dataset.train) == 8 and kinds == {"bad": 2} and not warning
    assert [s.mask is not None for s in dataset.test if s.label] == [True, False]
    rows = {row.text: len(row.files) for row in accounts.rows_of(dataset) if not row.used}
    assert rows == {"test photos without labels": 2}


MASKS = {
    "masks/bad/000.png": "bad/000.jpg",
    "masks/000_gt.png": "bad/000.jpg",
    "masks/000_label.png": "bad/000.jpg",
    "masks/000-mask.png": "bad/000.jpg",
    "masks/000.jpg.png": "bad/000.jpg",
    "masks/000_MASK.PNG": "bad/000.jpg",
    "gt/000.png": "bad/000.jpg",
    "labels/000.png": "bad/000.jpg",
    "groundtruth/000.bmp": "bad/000.jpg",
    "bad/000_mask.png": "bad/000.jpg",
    "bad/000.png": "bad/000.jpg",
    "bad/masks/000.tif": "bad/000.jpg",
    "ground_truth/crack/000_mask.png": "bad/crack/000.jpg",
    "mask/crack/000.png": "crack/000.jpg",
    "masks/bad/crack/mask_000.png": "bad/crack/000.jpg",
    "Ground Truth/000.png": "NG/000.jpg",
    "annotations/crack/000.png": "bad/2024/crack/000.jpg",
    "bad/000_label.bmp": "bad/000.jpg",
    "ground_truth/bad/000/000.png": "bad/000.jpg",
}


@pytest.mark.parametrize("mask, photo", MASKS.items())
def test_masks_are_matched(tmp_path, mask, photo):
    trees.photos(tmp_path / "good", 6)
    trees.photo(tmp_path / photo)
    trees.photo((tmp_path / photo).with_name("001.jpg"))
    path = tmp_path / mask
    trees.mask(path.with_suffix(path.suffix.lower())).rename(path)
    dataset, _, warning = found(tmp_path)
    masks = {s.path: mask_files(s.mask) for s in dataset.train + dataset.test if s.mask is not None}
    assert masks == {tmp_path / photo: (path,)} and not warning


def test_several_masks_of_a_photo_are_taken_together(tmp_path):
    """As MVTec LOCO has them."""
    trees.photos(tmp_path / "train" / "good", 6)
    trees.photos(tmp_path / "test" / "logical_anomalies", 2)
    for number in (0, 1):
        folder = tmp_path / "ground_truth" / "logical_anomalies" / "001"
        trees.mask(folder / f"{number:03d}.png", 254 - number)
    dataset, _, warning = found(tmp_path)
    (masked,) = [s for s in dataset.test if s.mask is not None]
    assert masked.path.stem == "001" and len(mask_files(masked.mask)) == 2 and not warning


def test_masks_that_fit_two_photos_are_used_for_none(tmp_path):
    trees.photos(tmp_path / "good", 6)
    trees.photos(tmp_path / "bad" / "crack", 2)
    trees.photos(tmp_path / "bad" / "hole", 2)
    trees.mask(tmp_path / "masks" / "000.png")
    dataset, _, warning = found(tmp_path)
    assert all(s.mask is None for s in dataset.train + dataset.test)
    assert "mask files that fit several photos, so none (1): masks/ (000.png)" in warning


def test_masks_beside_photos_are_no_photos(tmp_path):
    trees.photos(tmp_path / "good", 6)
    trees.mask(tmp_path / "good" / "000.png", 0)
    trees.photos(tmp_path / "bad", 3)
    for number in range(3):
        trees.mask(tmp_path / "bad" / f"{number:03d}.png")
    dataset, kinds, _ = found(tmp_path)
    assert kinds == {"bad": 3} and all(s.mask is not None for s in dataset.train + dataset.test if s.label)
    assert sum(not s.label for s in dataset.train + dataset.test) == 6


def test_a_photo_of_a_label_is_no_mask(tmp_path):
    for number in range(4):
        trees.photo(tmp_path / "good" / f"{number}.jpg")
        trees.photo(tmp_path / "good" / f"{number}_label.jpg")
    assert len(open_dataset(tmp_path).train) == 8


def test_photos_of_one_stem_and_two_formats_are_both_photos(tmp_path):
    trees.photos(tmp_path / "good", 3)
    trees.photos(tmp_path / "good", 3, ".png")
    assert len(open_dataset(tmp_path).train) == 6


def test_what_is_not_used_is_named(tmp_path):
    trees.photos(tmp_path / "good", 6)
    trees.photos(tmp_path / "bad", 2)
    trees.photos(tmp_path / "old", 2)
    trees.photos(tmp_path / "good" / "cracked later", 1)
    trees.photo(tmp_path / "lonely.png")
    trees.mask(tmp_path / "masks" / "777.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "bad" / "clip.mp4").write_bytes(b"x")
    (tmp_path / ".hidden").write_text("x")
    dataset, _, warning = found(tmp_path)
    unused = {row.text: [p.name for p in row.files] for row in accounts.rows_of(dataset) if not row.used}
    assert unused["mask files that belong to no photo"] == ["777.png"]
    assert unused["images beside the folders that have a label"] == ["lonely.png"]
    assert unused["images in folders inside good ones, which may hold anything"] == ["000.jpg"]
    assert unused["no image that is read here (.txt)"] == ["notes.txt"]
    assert unused["hidden files"] == [".hidden"]
    for name in ("old/", "777.png", "lonely.png", "clip.mp4", "cracked later"):
        assert name in warning
    assert "notes.txt" not in warning and ".hidden" not in warning


def test_the_remedy_for_a_folder_too_high(tmp_path):
    trees.photos(tmp_path / "line 1" / "good", 3)
    with pytest.raises(InputError, match="no good photos found .* is .*line 1 meant"):
        open_dataset(tmp_path)


def test_unsupervised_leaves_defects_out_and_says_so(tmp_path):
    trees.photos(tmp_path / "train" / "good", 4)
    trees.photos(tmp_path / "train" / "crack", 2)
    dataset, kinds, _ = found(tmp_path, unsupervised=True)
    assert not kinds
    assert {row.text: len(row.files) for row in accounts.rows_of(dataset) if not row.used} == {
        "defective photos that --unsupervised leaves out": 2
    }


def test_a_layout_can_be_asked_for(tmp_path):
    trees.photos(tmp_path / "good", 4)
    trees.photos(tmp_path / "train", 4)
    assert len(open_dataset(tmp_path, Selection(layout="photos")).train) == 4
    assert open_dataset(tmp_path, Selection(layout="mvtec")).layout == "MVTec AD layout"
    assert set(LAYOUTS) == {"photos", "labels", "mvtec", "visa", "ksdd2", "sensum", "tiles"}


GOODS = ["good", "ok", "Normal", "no_defect"]
BADS = ["bad", "NG", "not good", "crack", "abnormal", "scratch", "defects"]
OTHERS = ["old", "2024", "masks", "gt", "notes", "good_crack", "unlabelled", "side", "train", "test"]
OTHERS += ["labels", "good or bad", ".cache"]
FILES = ["0.jpg", "1.png", "2.bmp", "3.jfif", "0_mask.png", "1.txt", "x.tif", "Thumbs.db", "v.mp4", "4.webp"]
FILES += ["0.png"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(
    st.tuples(st.lists(st.sampled_from(GOODS + BADS + OTHERS), max_size=4), st.sampled_from(FILES)),
    min_size=1, max_size=25, unique_by=lambda item: (tuple(item[0]), item[1]),
))
def test_every_file_is_accounted_for_and_no_defect_is_good(tmp_path_factory, files):
    """Any tree of known and unknown names, formats and depths."""
    root = tmp_path_factory.mktemp("tree")
    trees.photo(root / "good" / "first.jpg")
    for way, name in files:
        path = root.joinpath(*way) / name
        if path.suffix in (".txt", ".mp4", ".db"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        else:
            trees.photo(path)
    try:
        dataset = open_dataset(root)
    except InputError as error:
        assert str(error).count("\n") == 0
        return
    rows = accounts.rows_of(dataset)
    listed = [path for row in rows for path in row.files]
    assert sorted(listed) == sorted(files_below(root))  # each once
    used = {path for row in rows if row.used for path in row.files}
    assert used >= {s.path for s in dataset.train + dataset.test}
    for sample in dataset.train + dataset.test:
        parts = sample.path.relative_to(root).parts[:-1]
        if not sample.label:
            assert not {*BADS, "good_crack", "good or bad"} & set(parts), parts
        else:
            assert not any(part in GOODS for part in parts) or not words(parts[-1]), parts


def test_names_of_files_that_say_bad_keep_them_out(tmp_path):
    for name in ("ok_0", "ok_1", "ok_2", "ng_0", "NotGood-1"):
        trees.photo(tmp_path / f"{name}.jpg")
    dataset, _, warning = found(tmp_path)
    assert sorted(s.path.stem for s in dataset.train) == ["ok_0", "ok_1", "ok_2"]
    assert "photos in good folders whose names say otherwise (2)" in warning


def test_several_masks_beside_a_photo(tmp_path):
    trees.photos(tmp_path / "good", 6)
    trees.photos(tmp_path / "bad", 2)
    for number in (0, 1):
        trees.mask(tmp_path / "bad" / f"000_{number}_mask.png")
    dataset, kinds, warning = found(tmp_path)
    masked = [s for s in dataset.train + dataset.test if s.mask is not None]
    assert kinds == {"bad": 2} and [len(mask_files(s.mask)) for s in masked] == [2] and not warning


@pytest.mark.parametrize("folder", ["Masken", "PNGMasks", "annots", "whatever", "SegmentationClassPNG"])
def test_folders_of_masks_by_name_or_by_look(tmp_path, folder):
    trees.photos(tmp_path / "good", 3)
    for number in range(3, 6):
        trees.photo(tmp_path / "bad" / f"{number:03d}.jpg")
        trees.mask(tmp_path / folder / f"{number:03d}.png")
    dataset, kinds, _ = found(tmp_path)
    assert kinds == {"bad": 3} and all(s.mask for s in dataset.train + dataset.test if s.label)


def test_folders_behind_links_are_read(tmp_path):
    trees.photos(tmp_path / "data" / "good", 6)
    trees.photos(tmp_path / "elsewhere", 2)
    (tmp_path / "data" / "bad").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "bad" / "loop").symlink_to(tmp_path / "data")
    _, kinds, _ = found(tmp_path / "data")
    assert kinds == {"bad": 2}


def test_wrapped_folders_and_masks_by_side(tmp_path):
    trees.photos(tmp_path / "images" / "good", 6)
    trees.photos(tmp_path / "images" / "bad" / "crack", 2)
    trees.mask(tmp_path / "bad_masks" / "000.png")
    trees.mask(tmp_path / "good_masks" / "000.png", 0)
    dataset, kinds, warning = found(tmp_path)
    assert kinds == {"crack": 2} and sum(s.mask is not None for s in dataset.train + dataset.test) == 1
    assert not warning


def test_labelmes_json_folders_are_named(tmp_path):
    trees.photos(tmp_path / "good", 6)
    for name in ("img", "label", "label_viz"):
        trees.photo(tmp_path / "bad" / "0_json" / f"{name}.png")
    _, kinds, warning = found(tmp_path)
    assert not kinds and "json_to_dataset" in warning


def test_a_split_file_of_another_kind_is_none_of_ours(tmp_path):
    trees.photos(tmp_path / "good", 6)
    (tmp_path / "split.json").write_text('{"train": []}')
    assert open_dataset(tmp_path).layout == "photos"


def silhouette(path):
    """A backlit part: two grey values, as a mask."""
    trees.mask(path.with_suffix(".png"), 240)


def test_masks_of_two_folders_are_rivals(tmp_path):
    trees.photos(tmp_path / "good", 6)
    trees.photos(tmp_path / "bad", 1)
    trees.mask(tmp_path / "ground_truth" / "bad" / "000_mask.png")
    trees.mask(tmp_path / "masks" / "bad" / "000.png", 100)
    dataset, _, warning = found(tmp_path)
    assert all(s.mask is None for s in dataset.train + dataset.test) and "have another one" in warning


@pytest.mark.parametrize("way", ["bad/label", "label", "test/label"])
def test_damaged_labels_are_a_kind_of_defect(tmp_path, way):
    trees.photos(tmp_path / ("train/good" if way.startswith("test") else "good"), 6)
    trees.photos(tmp_path / way, 4)
    _, kinds, _ = found(tmp_path)
    assert kinds == {"label": 4}


def test_silhouettes_are_no_masks(tmp_path):
    for number in range(6):
        silhouette(tmp_path / "good" / f"{number:03d}")
    for number in range(3):
        silhouette(tmp_path / "crack" / f"{number:03d}")
    trees.photos(tmp_path / "blurred", 3)
    _, kinds, _ = found(tmp_path)
    assert kinds == {"crack": 3, "blurred": 3}


def test_masks_beside_photos_in_many_forms(tmp_path):
    trees.photos(tmp_path / "good", 6)
    for stem in ("x", "y", "z"):
        trees.photo(tmp_path / "bad" / f"{stem}.jpg")
    for name in ("x_mask_0.png", "y.jpg.png", "z_defect.png"):
        trees.mask(tmp_path / "bad" / name)
    _, kinds, _ = found(tmp_path)
    assert kinds == {"bad": 3}


def test_a_word_with_gt_in_it_is_no_mask(tmp_path):
    for number in range(4):
        trees.photo(tmp_path / "good" / f"length{number}.jpg")
        trees.photo(tmp_path / "good" / f"length{number}_label.jpg")
    assert len(open_dataset(tmp_path).train) == 8


def test_pictures_that_show_labels_are_not_used(tmp_path):
    trees.photos(tmp_path / "good", 6)
    trees.photos(tmp_path / "bad", 2)
    trees.photos(tmp_path / "SegmentationClassVisualization", 2)
    trees.mask(tmp_path / "SegmentationClassPNG" / "000.png")
    dataset, kinds, _ = found(tmp_path)
    assert kinds == {"bad": 2} and sum(s.mask is not None for s in dataset.train + dataset.test) == 1


def test_where_names_are_labels_those_without_one_are_left_out(tmp_path):
    for name in ("ok_0", "ok_1", "ok_2", "ng_0", "crack_0"):
        trees.photo(tmp_path / f"{name}.png")
    dataset, _, warning = found(tmp_path)
    assert {s.path.stem for s in dataset.train} == {"ok_0", "ok_1", "ok_2"} and "crack_0.png" in warning


def test_a_link_does_not_hide_the_folder_that_it_leads_to(tmp_path):
    trees.photos(tmp_path / "good", 6)
    trees.photos(tmp_path / "scratch", 2)
    (tmp_path / "a_current").symlink_to(tmp_path / "good")
    dataset, kinds, _ = found(tmp_path)
    assert kinds == {"scratch": 2} and sum(not s.label for s in dataset.train + dataset.test) == 6


@pytest.mark.parametrize("good, bad", [
    ("ＯＫ", "ＮＧ"), ("良品", "不良品"), ("正常", "异常"), ("i.O", "n.i.O"),
])
def test_other_scripts(tmp_path, good, bad):
    trees.photos(tmp_path / good, 6)
    trees.photos(tmp_path / bad, 2)
    dataset, kinds, _ = found(tmp_path)
    assert sum(kinds.values()) == 2 and sum(not s.label for s in dataset.train + dataset.test) == 6


def test_folders_within_wrappers_and_split_files_of_others(tmp_path):
    trees.photos(tmp_path / "data" / "images" / "good", 6)
    assert len(open_dataset(tmp_path).train) == 6
    trees.photos(tmp_path / "flat", 4)
    (tmp_path / "flat" / "split.json").write_text('{"train": ["000.jpg"]}')
    assert open_dataset(tmp_path / "flat").layout == "photos"
