"""Reading everything once: what is broken, doubtful or cannot be meant is found, and nothing else."""

import io

import cv2
import numpy as np
import pytest
import trees

from ssn_edge.errors import InputError
from ssn_train.data import checking
from ssn_train.data.datasets import Sample, open_dataset


@pytest.fixture
def data(tmp_path):
    trees.photos(tmp_path / "good", 6)
    trees.photos(tmp_path / "bad", 4)
    return tmp_path


def check(root, bits=None):
    return checking.check(open_dataset(root), bits)


def check_part(folder):
    """The photos of one folder alone, as if they were good."""
    found = checking.Findings()
    checking.check_samples([Sample(path) for path in sorted(folder.iterdir())], {}, found)
    return found


def remarks(found):
    return {reason.text: [path.name for path in files] for reason, files in found.remarks.items()}


def test_nothing_to_say_of_a_sound_folder(data):
    trees.mask(data / "masks" / "000.png")
    found = check(data)
    untold = checking.UNTOLD.text
    assert {text: names for text, names in remarks(found).items() if text != untold} == {}
    assert not found.problems and not found.bits and found.read == 10


def test_broken_photos_are_left_out_and_named(data):
    path = data / "good" / "000.jpg"
    path.write_bytes(path.read_bytes()[:700])
    found = check(data)
    assert remarks(found)["photos that cannot be read"] == ["000.jpg"]
    assert not any(s.path == path for s in (*found.train, *found.test))
    lines = found.lines(data)
    assert "000.jpg: not a complete image" in lines[0] and lines[1] == "1 of 10 photos skipped"


def test_empty_and_full_masks(data):
    for name, value in (("000", 0), ("001", 255)):
        trees.mask(data / "masks" / f"{name}.png", value)
    cv2.imwrite(str(data / "masks" / "002.png"), np.full(trees.SIZE, 255, np.uint8))
    found = check(data)
    assert remarks(found)[checking.EMPTY_MASK.text] == ["000.jpg"]
    assert remarks(found)[checking.FULL_MASK.text] == ["002.jpg"]
    masks = {s.path.name: s.mask for s in (*found.train, *found.test) if s.label}
    assert masks["000.jpg"] is None and masks["001.jpg"] is not None


def test_a_mask_on_a_good_photo_keeps_it_out(data):
    trees.mask(data / "good" / "000_mask.png")
    trees.mask(data / "good" / "001_mask.png", 0)
    found = check(data)
    assert "called good, but" in found.problems[0]
    assert not any(s.path.name == "000.jpg" and not s.label for s in (*found.train, *found.test))


def test_constant_photos(data):
    cv2.imwrite(str(data / "good" / "000.jpg"), np.full((*trees.SIZE, 3), 100, np.uint8))
    assert remarks(check(data))[checking.CONSTANT.text] == ["000.jpg"]
    for path in (data / "good").iterdir():
        cv2.imwrite(str(path), np.full((*trees.SIZE, 3), 100, np.uint8))
    with pytest.raises(InputError, match="all 5 good photos are alike, of a single grey value each"):
        check(data)


def grey16(path, bits):
    image = np.random.default_rng(0).integers(0, 1 << bits, trees.SIZE).astype(np.uint16)
    image[0, 0] = (1 << bits) - 1
    cv2.imwrite(str(path), image)


@pytest.mark.parametrize("used, kept", [(7, 8), (9, 10), (10, 10), (12, 12), (13, 14), (16, 16)])
def test_used_bits_are_found_over_the_data_set(tmp_path, used, kept):
    (tmp_path / "good").mkdir()
    for number in range(4):
        grey16(tmp_path / "good" / f"{number}.png", used - (number > 0))
    found = check(tmp_path)
    assert found.bits == kept and f"16-bit photos use {kept} bits" in found.lines(tmp_path)[-1]


def test_bits_given_are_held(tmp_path):
    (tmp_path / "good").mkdir()
    for number in range(4):
        grey16(tmp_path / "good" / f"{number}.tif", 12)
    check(tmp_path, 14)
    with pytest.raises(InputError, match="--bits 10: .* has photos with 12 bits"):
        check(tmp_path, 10)


def test_several_pictures_in_a_file_are_named(data):
    pages = [np.random.default_rng(n).integers(0, 255, (20, 30, 3), np.uint8) for n in range(2)]
    cv2.imwritemulti(str(data / "good" / "pages.tif"), pages)
    assert remarks(check(data))[checking.SEVERAL.text] == ["pages.tif"]


def test_tails_of_zeros_are_doubted(data):
    noise = np.random.default_rng(0).integers(1, 255, (100, 100, 3), np.uint8)
    raw = bytes(cv2.imencode(".bmp", noise)[1])
    (data / "good" / "half.bmp").write_bytes(raw[:20000] + bytes(len(raw) - 20000))
    assert remarks(check(data))[checking.DOUBTFUL.text] == ["half.bmp"]


def tagged(path, tag, image):
    pillow = pytest.importorskip("PIL.Image")
    picture, buffer = pillow.fromarray(image), io.BytesIO()
    exif = picture.getexif()
    exif[0x0112] = tag
    picture.save(buffer, "JPEG" if path.suffix == ".jpg" else "PNG", **({"exif": exif} if tag != 1 else {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize("tag, mask_size, mask_tag, outcome", [
    (1, (40, 60), 1, None), (3, (40, 60), 3, None), (6, (40, 60), 6, None),
    (6, (60, 40), 1, None),  # drawn on the photo as a viewer shows it
    (3, (40, 60), 1, "turned by 180 degrees .*which way it was drawn cannot be told"),
    (6, (40, 60), 1, "mask of 40x60 .*the photo is turned by 90 degrees"),
    (1, (40, 60), 3, "its mask turned by 180 degrees"),
])
def test_photo_and_mask_must_agree_on_their_orientation(tmp_path, tag, mask_size, mask_tag, outcome):
    trees.photos(tmp_path / "good", 4)
    photo = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    tagged(tmp_path / "bad" / "x.jpg", tag, photo)
    mask = np.zeros(mask_size, np.uint8)
    mask[:9, :5] = 255
    tagged(tmp_path / "masks" / "x.png", mask_tag, mask)
    if outcome is None:
        check(tmp_path)
    else:
        with pytest.raises(InputError, match=outcome):
            check(tmp_path)


def test_constant_colours_and_noise_are_constant(data):
    rng = np.random.default_rng(0)
    for path in (data / "good").iterdir():
        image = np.full((*trees.SIZE, 3), (10, 120, 200), np.uint8)
        cv2.imwrite(str(path.with_suffix(".png")), image)
        path.unlink()
    (data / "good" / "000.png").unlink()
    noisy = (np.full((*trees.SIZE, 3), 90) + rng.integers(0, 4, (*trees.SIZE, 1))).astype(np.uint8)
    cv2.imwrite(str(data / "bad" / "noisy.png"), noisy)  # a smooth surface may look so: named, and no more
    assert "noisy.png" in remarks(check_part(data / "bad"))[checking.CONSTANT.text]
    with pytest.raises(InputError, match="all 4 good photos are alike"):
        check(data)


def test_inverted_masks_are_named(data):
    trees.mask(data / "masks" / "000.png")
    inverted = np.where(trees.truth(), 0, 255).astype(np.uint8)
    cv2.imwrite(str(data / "masks" / "001.png"), inverted)
    assert remarks(check(data))[checking.FULL_MASK.text] == ["001.jpg"]


def test_quarter_turns_to_either_side(tmp_path):
    trees.photos(tmp_path / "good", 4)
    photo = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    tagged(tmp_path / "bad" / "x.jpg", 6, photo)
    tagged(tmp_path / "masks" / "x.png", 8, np.eye(40, 60, dtype=np.uint8) * 255)
    with pytest.raises(InputError, match="masks/x.png: mask of .*x.jpg: the photo is turned by 90 degrees"):
        check(tmp_path)


def test_a_half_turned_photo_with_shapes_is_one_line(tmp_path):
    pytest.importorskip("supervision")
    trees.photos(tmp_path / "good", 4)
    photo = np.random.default_rng(0).integers(0, 255, (*trees.SIZE, 3), np.uint8)
    tagged(tmp_path / "bad" / "x.jpg", 3, photo)
    trees.labelme(tmp_path / "bad" / "x.json", "x.jpg")
    with pytest.raises(InputError) as caught:
        check(tmp_path)
    assert "x.json: mask of" in str(caught.value) and "Shapes(" not in str(caught.value)
