"""Names of files and of folders inside good ones, and masks of their photos' names without any folder."""

import trees

from ssn_edge.inventory import alarm
from ssn_train.data import accounts
from ssn_train.data.datasets import open_dataset


def test_products_whose_names_sound_bad(tmp_path):
    for number in range(4):
        trees.photo(tmp_path / "good" / f"positive_electrode_{number}.jpg")
    assert len(open_dataset(tmp_path).train) == 4


def test_folders_a_part_inside_good_ones(tmp_path):
    for way in ("S0001", "S0002", "2024-03/cam_1", "line 2"):
        trees.photos(tmp_path / "OK" / way, 2)
    dataset = open_dataset(tmp_path)
    assert len(dataset.train) == 8 and not alarm(tmp_path, accounts.rows_of(dataset))


def test_photos_and_masks_of_one_name_without_folders_of_labels(tmp_path):
    """As the magnetic tiles ship without their split."""
    for number in range(4):
        trees.photo(tmp_path / "MT_Free" / f"{number}.jpg")
        trees.mask(tmp_path / "MT_Free" / f"{number}.png", 0)
    for number in range(2):
        trees.photo(tmp_path / "MT_Fray" / f"{number}.jpg")
        trees.mask(tmp_path / "MT_Fray" / f"{number}.png")
    dataset = open_dataset(tmp_path)
    labels = {s.path.relative_to(tmp_path).as_posix(): s.label for s in dataset.train + dataset.test}
    assert labels == {f"MT_Free/{n}.jpg": 0 for n in range(4)} | {f"MT_Fray/{n}.jpg": 1 for n in range(2)}
    assert all(s.mask for s in dataset.train + dataset.test if s.label)
