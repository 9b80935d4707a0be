"""The tree that is shown before anything runs."""

import trees

from ssn_train.data import accounts
from ssn_train.data.datasets import open_dataset


def test_the_tree_shows_folders_counts_and_what_is_not_used(tmp_path):
    trees.photos(tmp_path / "good", 6)
    trees.photos(tmp_path / "bad" / "crack", 2)
    trees.mask(tmp_path / "masks" / "crack" / "000.png")
    (tmp_path / "notes.txt").write_text("x")
    dataset = open_dataset(tmp_path)
    lines = accounts.tree(dataset, accounts.rows_of(dataset))
    assert lines[0] == dataset.describe()
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "bad/",
        "crack/ 1 defective (crack) to train on, 1 defective (crack) to test on",
        "good/ 5 good to train on, 1 good to test on",
        "masks/",
        "crack/ 1 mask",
        "1 defective photos without a mask bad/crack/ (001.jpg)",
        "not used:",
        "1 no image that is read here (.txt) notes.txt",
    ]


def test_many_folders_are_counted(tmp_path):
    trees.photos(tmp_path / "good", 3)
    for number in range(60):
        trees.photo(tmp_path / "bad" / f"kind {number:02d} x" / "0.jpg")
    dataset = open_dataset(tmp_path)
    lines = accounts.tree(dataset, accounts.rows_of(dataset))
    assert len(lines) == 2 + accounts.MOST_FOLDERS and lines[-1].endswith("folders more")
