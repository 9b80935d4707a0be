"""Going on with an interrupted run: the same photos, an undamaged file, or one line that says why not."""

import contextlib
import dataclasses
import json
import shutil
import threading

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from ssn_edge.errors import ModelError
from ssn_edge.frames.image_files import write_image
from ssn_train.cli import main
from ssn_train.data.datasets import open_dataset
from ssn_train.network.model import SuperSimpleNet
from ssn_train.options.recipe import ABLATIONS, Recipe
from ssn_train.options.settings import Settings
from ssn_train.steps import training_step
from ssn_train.training import checkpoint, fit, resume

OPTIONS = ("--size", "32x32", "--steps", "2", "--batch", "2", "--backbone", "resnet18", "--weights", "random",
           "--workers", "1")
CHANNELS = (128, 256)
"""resnet18's levels."""


def train(data, run, *arguments):
    """(exit code, output) of ssn-train."""
    result = CliRunner().invoke(main, [str(word) for word in (data, "--out", run, *OPTIONS, *arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def photo(path, seed):
    """A BMP: whatever it shows, all have one size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8))


@contextlib.contextmanager
def stopped_at_once(*_):
    """A stop request that is there before the first step."""
    stop = threading.Event()
    stop.set()
    yield stop


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A folder with photos/ and the run/ that was stopped after its first step of two."""
    folder = tmp_path_factory.mktemp("interrupted")
    for number in range(4):
        photo(folder / "photos" / "train" / "good" / f"{number}.bmp", number)
    photo(folder / "photos" / "train" / "crack" / "x.bmp", 10)
    mask = np.zeros((40, 40), np.uint8)
    mask[:20] = 255
    (folder / "photos" / "ground_truth" / "crack").mkdir(parents=True)
    write_image(folder / "photos" / "ground_truth" / "crack" / "x_mask.bmp", mask)
    photo(folder / "photos" / "test" / "good" / "t.bmp", 11)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "stop_on_signals", stopped_at_once)
        code, output = train(folder / "photos", folder / "run")
    assert code == 130 and "after step 1 of 2" in output
    return folder


@pytest.fixture
def place(interrupted, tmp_path):
    """A copy, in another place than the run began in."""
    return shutil.copytree(interrupted, tmp_path / "moved")


def error_of(place):
    code, output = train(place / "photos", place / "run", "--resume")
    assert code == 2, output
    assert sorted(path.name for path in (place / "run").iterdir()) == ["resume.safetensors"]
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    return line


def test_a_moved_folder_with_the_same_photos_goes_on(place):
    photo(place / "photos" / "test" / "good" / "another.bmp", 12)  # not trained on: free to change
    code, output = train(place / "photos", place / "run", "--resume")
    assert code == 0, output
    assert json.loads((place / "run" / "metrics.json").read_text())["run"]["steps"] == 2


def test_photos_gone_and_new(place):
    good = place / "photos" / "train" / "good"
    (good / "0.bmp").unlink()
    (good / "1.bmp").unlink()
    photo(good / "new.bmp", 20)
    line = error_of(place)
    assert "2 gone (train/good/0.bmp, train/good/1.bmp), 1 new (train/good/new.bmp)" in line
    assert "resume.safetensors" in line and "bring them back, or start anew with another --out" in line


@pytest.mark.parametrize("name", [f"train/good/{number}.bmp" for number in range(4)])
def test_every_good_photo_replaced_under_its_name_is_seen(place, name):
    """Whichever is the held-back one; the size in bytes stays."""
    path = place / "photos" / name
    before = path.stat().st_size
    photo(path, 30)
    assert path.stat().st_size == before
    assert f"1 changed ({name});" in error_of(place)


def test_another_mask_is_another_photo(place):
    mask = place / "photos" / "ground_truth" / "crack" / "x_mask.bmp"
    write_image(mask, np.full((40, 40), 255, np.uint8))
    assert "1 changed (train/crack/x.bmp);" in error_of(place)


def test_a_defect_that_became_good_is_two_differences(place):
    train_folder = place / "photos" / "train"
    (train_folder / "crack" / "x.bmp").rename(train_folder / "good" / "x.bmp")
    line = error_of(place)
    assert "1 gone (train/crack/x.bmp), 1 new (train/good/x.bmp);" in line


def test_another_part_is_another_photo(place):
    """Else a photo that was trained on could be held back now."""
    files = sorted((place / "photos").rglob("*.bmp"))
    lines = [f"{path.relative_to(place / 'photos').as_posix()},{path.stem}\n" for path in files]
    (place / "photos" / "parts.csv").write_text("file,part\n" + "".join(lines))
    assert "changed (train/" in error_of(place)


def test_many_differences_name_the_first(place):
    for number in range(5):
        photo(place / "photos" / "train" / "good" / f"more{number}.bmp", number)
    first = ", ".join(f"train/good/more{number}.bmp" for number in range(3))
    assert f"5 new ({first}, ...);" in error_of(place)


def test_labels_and_order_count(interrupted):
    """A list that came with the data set may give the same names another label, or another order, and
    with it other held-back photos."""
    dataset = open_dataset(interrupted / "photos")
    before = resume.photos_of(dataset)
    turned = dataclasses.replace(dataset, train=dataset.train[::-1])
    relabelled = dataclasses.replace(
        dataset, train=tuple(dataclasses.replace(sample, label=1) for sample in dataset.train)
    )
    assert "another order" in resume._differences(before, resume.photos_of(turned))
    assert "4 changed (train/good/0.bmp" in resume._differences(before, resume.photos_of(relabelled))


def rewrite(place, change_tensors=lambda tensors: None, change_header=lambda header: None):
    path = place / "run" / "resume.safetensors"
    tensors, header = checkpoint.load(path)
    change_tensors(tensors)
    change_header(header)
    save_file(tensors, path, {"ssn_edge": json.dumps(header)})


@pytest.mark.parametrize("change, expected", [
    (lambda header: header.pop("photos"), "kept no record of its photos"),
    (lambda header: header.update(photos=[3]), "damaged (its record of the photos"),
    (lambda header: header.update(photos=[["a"]]), "damaged (its record of the photos"),
    (lambda header: header.pop("settings"), "damaged (no settings"),
    (lambda header: header.pop("step"), "damaged (its step is None"),
    (lambda header: header.update(step=-1), "damaged (its step is -1"),
    (lambda header: header.update(step=2), "damaged (history has shape [1, 4] in place of [2, 4]"),
])
def test_headers_that_do_not_fit(place, change, expected):
    rewrite(place, change_header=change)
    line = error_of(place)
    assert expected in line and "another --out" in line


def test_a_missing_head_is_one_line(place):
    rewrite(place, lambda tensors: tensors.pop("discriminator.fc_score.weight"))
    line = error_of(place)
    assert "resume.safetensors: damaged (no discriminator.fc_score.weight in it); start anew" in line


@pytest.fixture(scope="module")
def file(interrupted):
    settings = Settings("resnet18", "random", size=(32, 32), steps=2, batch=2)
    photos = resume.photos_of(open_dataset(interrupted / "photos"))
    return resume.ResumeFile(interrupted / "run" / "resume.safetensors", settings, photos)


def restored(file, recipe=None):
    """(model, optimizer, progress) as training would go on with; the backbone is not in the file."""
    torch.manual_seed(1)
    model = SuperSimpleNet(None, CHANNELS, (32, 32))
    optimizer = training_step.make_optimizer(model)
    return model, optimizer, file.restore(model, optimizer, fit.trained(optimizer, recipe or Recipe()))


def test_a_whole_file_is_restored(file):
    model, optimizer, progress = restored(file)
    tensors, _ = checkpoint.load(file.path)
    heads = {name for name in tensors if not name.startswith(("optimizer.", "history"))}
    assert heads == set(model.state_dict()) and len(heads) == 21
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, tensors[name], rtol=0, atol=0)
    assert len(optimizer.state) == 13 and all(entry["step"] == 1 for entry in optimizer.state.values())
    assert progress.step == len(progress.history) == 1


KINDS = {  # how their names begin, and how many there are
    "feature_adaptor.": 2, "feature_s": 2, "discriminator.seg.": 8, "discriminator.dec_head.": 7,
    "discriminator.fc_score.": 2, "history": 1, "optimizer.": 39,
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_tensor_can_be_missing(file, tmp_path, kind):
    """Each of them in turn: weights, statistics, losses, every moment of the optimizer."""
    tensors, header = checkpoint.load(file.path)
    names = [name for name in tensors if name.startswith(kind)]
    assert len(names) == KINDS[kind] and len(tensors) == sum(KINDS.values())
    damaged = dataclasses.replace(file, path=tmp_path / "resume.safetensors")
    for name in names:
        checkpoint.save(damaged.path, {k: v for k, v in tensors.items() if k != name}, header)
        with pytest.raises(ModelError, match=rf"resume.safetensors: damaged \(no {name} in it\); start anew"):
            restored(damaged)


DAMAGES = {
    "shape": (lambda value: value[..., None], "has shape"),
    "nan": (lambda value: torch.full_like(value, float("nan")), "is not finite"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [
    "feature_adaptor.projection.weight", "discriminator.seg.1.running_var", "feature_scale", "history",
    "optimizer.3.exp_avg_sq", "optimizer.3.step",
])
def test_tensors_of_another_shape_or_not_finite(file, tmp_path, name, damage):
    change, expected = DAMAGES[damage]
    tensors, header = checkpoint.load(file.path)
    damaged = dataclasses.replace(file, path=tmp_path / "resume.safetensors")
    checkpoint.save(damaged.path, {**tensors, name: change(tensors[name])}, header)
    with pytest.raises(ModelError, match=f"{name} {expected}.*start anew"):
        restored(damaged)


@pytest.mark.parametrize("name", ["discriminator.more.weight", "optimizer.99.step", "backbone.conv1.weight"])
def test_unexpected_tensors(file, tmp_path, name):
    tensors, header = checkpoint.load(file.path)
    damaged = dataclasses.replace(file, path=tmp_path / "resume.safetensors")
    checkpoint.save(damaged.path, {**tensors, name: torch.zeros(1)}, header)
    with pytest.raises(ModelError, match=f"{name} is not expected in it"):
        restored(damaged)


def test_without_its_loss_the_classification_head_has_no_moments(interrupted, tmp_path, monkeypatch):
    """What an ablation leaves untrained may be missing from the optimizer, and only that."""
    monkeypatch.setattr(fit, "stop_on_signals", stopped_at_once)
    code, output = train(interrupted / "photos", tmp_path / "run", "--ablation", "no_cls")
    assert code == 130, output
    stored = resume.ResumeFile(tmp_path / "run" / "resume.safetensors", Settings("resnet18"), ())
    assert restored(stored, ABLATIONS["no_cls"])[2].step == 1
    with pytest.raises(ModelError, match="no optimizer.7.step in it"):
        restored(stored)
