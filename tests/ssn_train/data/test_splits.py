"""Given parts lie on one side: trained on or tested, trained on or held back. Without parts nothing new."""

import json
import random
import shutil
from pathlib import Path

import pytest
import trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssn_edge.errors import InputError
from ssn_edge.inventory import alarm
from ssn_train.data import accounts
from ssn_train.data.datasets import Selection, open_dataset
from ssn_train.data.samples import Sample
from ssn_train.data.splits import STRADDLING, hold_back, split_samples

PARTS = st.sampled_from(["", *"abcdefg"])
SEEDS = st.integers(0, 2**32)


def samples_of(parts, labels=None):
    labels = labels or [0] * len(parts)
    return [Sample(Path(f"{i}.png"), label, part=part) for i, (part, label) in enumerate(zip(parts, labels))]


def named(samples):
    return {sample.part for sample in samples if sample.part}


@given(parts=st.lists(PARTS, max_size=30), share=st.floats(0, 1), seed=SEEDS)
def test_whole_parts_in_order_and_as_many_as_the_share(parts, share, seed):
    samples = samples_of(parts)
    rest, chosen = split_samples(samples, share, seed)
    assert not named(rest) & named(chosen)
    assert sorted([*rest, *chosen], key=samples.index) == samples
    assert [s for s in samples if s in chosen] == chosen and [s for s in samples if s in rest] == rest
    count = len({part or number for number, part in enumerate(parts)})
    drawn = len({sample.part or sample.path for sample in chosen})
    if count > 1 and 0 < share < 1:
        assert drawn == min(max(round(share * count), 1), count - 1)  # whatever their size


def test_large_parts_are_drawn_as_often_as_small_ones():
    """Else those held back would not be like parts to come: of ten parts one is held back, 2,000 times."""
    parts = ["large"] * 12 + [f"small {i}" for i in range(9)]
    held = [named(split_samples(samples_of(parts), 0.1, seed)[1]) for seed in range(2000)]
    assert abs(sum(name == {"large"} for name in held) / 2000 - 0.1) < 4 * (0.1 * 0.9 / 2000) ** 0.5


@given(count=st.integers(0, 40), share=st.floats(0, 0.99), seed=SEEDS)
def test_without_parts_the_draw_is_what_it_always_was(count, share, seed):
    """The formula of the releases before there were parts; a part a photo draws the same."""
    number = min(max(round(share * count), 1), count - 1) if share > 0 else 0
    expected = sorted(random.Random(seed).sample(range(count), max(number, 0)))
    for parts in ([""] * count, [f"part {i}" for i in range(count)]):
        samples = samples_of(parts)
        assert [samples.index(sample) for sample in split_samples(samples, share, seed)[1]] == expected


def test_a_draw_of_a_release_without_parts():
    assert [s.path.stem for s in split_samples(samples_of([""] * 20), 0.2, 0)[1]] == DRAWN


DRAWN = ["1", "8", "12", "13"]
"""By the release before; seed 0."""


@given(parts=st.lists(PARTS, max_size=30), data=st.data(), share=st.floats(0, 0.5), seed=SEEDS)
def test_no_part_is_held_back_of_which_anything_is_trained_on(parts, data, share, seed):
    labels = [data.draw(st.integers(0, 1)) for _ in parts]
    samples = samples_of(parts, labels)
    rest, held = hold_back(samples, share, seed)
    trained = [*rest, *(sample for sample in samples if sample.label)]
    assert not named(trained) & named(held)
    assert not any(sample.label for sample in [*rest, *held])
    assert len(rest) + len(held) == labels.count(0)
    free = {part or i for i, (part, label) in enumerate(zip(parts, labels)) if not label}
    free -= {part for part, label in zip(parts, labels) if label}
    if share > 0 and len(free) > 1:
        assert held


def test_the_drawn_parts_come_near_the_share():
    """100 parts of six photos: 60 of 600 are held back, exactly."""
    parts = [f"p{i // 6}" for i in range(600)]
    rest, held = hold_back(samples_of(parts), 0.1, 42)
    assert len(held) == 60 and len(named(held)) == 10


FOLDERS = {
    "photos": ["good", "bad/crack", "bad/dent"],
    "mvtec": ["train/good", "train/crack", "test/good", "test/crack", "validation/good"],
    "labels": ["plain", "marked"],
}
FORM = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def one_photo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    return (
        trees.photo(folder / "x.png", size=(8, 8)).read_bytes(),
        trees.mask(folder / "m.png").read_bytes(), trees.mask(folder / "n.png", 0).read_bytes(),
    )


def lay(root, layout, photos, one_photo):
    """Files of a layout; ``photos``: (folder, part) each. Returns path -> part."""
    shutil.rmtree(root, ignore_errors=True)
    found = {}
    for number, (folder, part) in enumerate(photos):
        path = root / ("photos" if layout == "labels" else folder) / f"{number:02d}_p{part}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one_photo[0])
        found[path] = part
        if layout == "labels":
            mask = root / "masks" / path.name
            mask.parent.mkdir(exist_ok=True)
            mask.write_bytes(one_photo[1 if folder == "marked" else 2])
    return found


def write_table(root, parts):
    lines = [f"{path.relative_to(root).as_posix()},{part}\n" for path, part in parts.items()]
    (root / "parts.csv").write_text("file,part\n" + "".join(lines))


@pytest.mark.parametrize("layout", FOLDERS)
@FORM
@given(data=st.data(), seed=SEEDS, share=st.floats(0.05, 0.5), unsupervised=st.booleans())
def test_no_part_lies_on_both_sides(tmp_path_factory, one_photo, layout, data, seed, share, unsupervised):
    root = tmp_path_factory.mktemp("data") / "photos"
    place = st.tuples(st.sampled_from(FOLDERS[layout]), st.sampled_from("abcdefg"))
    first = FOLDERS[layout][0]
    own = data.draw(st.booleans())  # else an error may be right
    photos = [(first, part) for part in ("yz" if own else "ab")] + data.draw(st.lists(place, max_size=14))
    parts = lay(root, layout, photos, one_photo)
    how = data.draw(st.sampled_from([r"_p(\w)\.", "parts.csv"]))
    if how == "parts.csv":
        write_table(root, parts)
    select = Selection(unsupervised=unsupervised, layout=layout, part=None if how == "parts.csv" else how)
    try:
        dataset = open_dataset(root, select)
    except InputError as error:
        assert "all good photos are of parts that are tested" in str(error)
        assert not own
        return
    sides = [{parts[sample.path] for sample in side} for side in (dataset.train, dataset.test)]
    assert not sides[0] & sides[1]
    rest, held = hold_back(dataset.train, share, seed)
    trained = {parts[sample.path] for sample in dataset.train if sample not in held}
    assert not trained & {parts[sample.path] for sample in held}
    there = [sample.path for sample in dataset.train + dataset.test]
    left_out = {path for path in parts if path not in there}
    assert left_out <= set(dataset.unused) and len(set(there)) == len(there)
    if layout == "photos" and not unsupervised:
        assert not left_out


@pytest.mark.parametrize("select", [Selection(unsupervised=True), Selection(), Selection(fold=1)])
def test_the_tiles_groups(tiles, select):
    groups = json.loads((tiles / "split.json").read_text())["groups"]
    dataset = open_dataset(tiles, select)
    rest, held = hold_back(dataset.train, 0.1, 42)
    trained = [sample for sample in dataset.train if sample not in held]

    def tiles_of(samples):
        return {groups[sample.path.relative_to(tiles).as_posix()] for sample in samples}

    assert not tiles_of(dataset.train) & tiles_of(dataset.test)
    assert not tiles_of(trained) & tiles_of(held)
    good = len(rest) + len(held)
    free = tiles_of([*rest, *held]) - tiles_of([s for s in dataset.train if s.label])
    assert abs(len(tiles_of(held)) - 0.1 * len(tiles_of([*rest, *held]))) <= 1 and tiles_of(held) <= free
    assert f"{good} good" in dataset.describe() and "parts by split.json" in dataset.describe()


def test_training_photos_of_tested_parts_are_left_out_and_named(tmp_path):
    for name in ("train/good/1_a.png", "train/good/2_a.png", "train/good/3_a.png", "train/crack/2_b.png",
                 "test/good/2_c.png", "test/crack/4_a.png"):
        trees.photo(tmp_path / name)
    trees.mask(tmp_path / "ground_truth" / "crack" / "2_b_mask.png")
    dataset = open_dataset(tmp_path, Selection(part=r"^(\d)_"))
    assert [sample.path.name for sample in dataset.train] == ["1_a.png", "3_a.png"]
    assert [sample.path.name for sample in dataset.test] == ["4_a.png", "2_c.png"]
    rows = accounts.rows_of(dataset)
    (row,) = [row for row in rows if row.text == STRADDLING.text]
    assert sorted(path.name for path in row.files) == ["2_a.png", "2_b.png", "2_b_mask.png"]
    assert "training photos of parts that are tested (3)" in alarm(tmp_path, rows)
    assert dataset.describe().endswith(
        "2 good photos of 2 parts to train on, 1 good and 1 defective (1 without a mask) photos of 2 parts "
        "to test on; parts by --part"
    )


def test_names_that_are_not_unique_say_so(tmp_path):
    """Numbers start anew in every folder of MVTec AD."""
    trees.photos(tmp_path / "train" / "good", 3)
    trees.photos(tmp_path / "test" / "good", 3)
    with pytest.raises(InputError, match="names seem not to be unique: give --part a REGEX with a /"):
        open_dataset(tmp_path, Selection(part=r"(\d+)"))
    assert len(open_dataset(tmp_path, Selection(part=r"(\w+)/\w+/(\d+)")).train) == 3


def test_the_table_is_accounted_for(tmp_path):
    photos = [*trees.photos(tmp_path / "good", 6), *trees.photos(tmp_path / "bad", 2)]
    write_table(tmp_path, {path: path.parent.name + path.stem for path in photos})
    dataset = open_dataset(tmp_path)
    rows = {row.text: row for row in accounts.rows_of(dataset)}
    assert rows["parts"].files == (tmp_path / "parts.csv",) and not alarm(tmp_path, rows.values())
    assert dataset.grouping == "parts.csv"
    plain = open_dataset(tmp_path, Selection(part=".+"))
    rows = {row.text: row for row in accounts.rows_of(plain)}
    assert rows["parts.csv, in whose place --part counts"].files == (tmp_path / "parts.csv",)
    (tmp_path / "parts.csv").unlink()
    bare = open_dataset(tmp_path)
    assert [s.path for s in bare.train] == [s.path for s in dataset.train] and bare.grouping == ""
