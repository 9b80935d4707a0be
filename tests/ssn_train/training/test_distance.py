"""``--method distance`` against scikit-learn, through every plan, and from photos to a verdict."""

import json

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from random_model import photos
from sklearn.covariance import LedoitWolf

from ssn_edge import Detector
from ssn_export.cli import main as export_main
from ssn_export.graph import float64_reference
from ssn_export.graph.deployed import PLANS, Deployed
from ssn_train.cli import main as train_main
from ssn_train.network import backbones
from ssn_train.network.design import Design
from ssn_train.network.model import SuperSimpleNet
from ssn_train.steps.positions import Reader
from ssn_train.training import distance

SHAPE = Design(("block5", "block6"), scale=1, cls_width=0, adaptor=False, distance=True)


def filled(model, features, monkeypatch, most=100_000):
    """The model fitted to all positions of its features [B, C, h, w]."""
    monkeypatch.setattr(distance, "MOST", most)
    levels = [np.ascontiguousarray(level.permute(0, 2, 3, 1)) for level in features]
    size = model.shape.map_size(levels[0].shape[1:3])
    distance.fill(model, Reader(levels, size, model.feature_shift, model.feature_scale), len(levels[0]), 0)


def test_the_map_is_scikit_learns_distance(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(30, c, n, n + 1, generator=generator) for c, n in ((5, 6), (4, 3))]
    features[0][:, 1] += 0.9 * features[0][:, 0]  # correlated
    model = SuperSimpleNet(None, (5, 4), (64, 64), shape=SHAPE).eval()
    model.set_statistics(torch.randn(9), torch.rand(9) + 0.5)
    filled(model, features, monkeypatch)
    with torch.inference_mode():
        pooled, _ = model.head_inputs(features)
        found, score = model.discriminator(pooled, pooled)
    rows = pooled.permute(0, 2, 3, 1).reshape(-1, 9).double().numpy()
    expected = np.sqrt(LedoitWolf().fit(rows).mahalanobis(rows) / 9).reshape(30, 6, 7)
    np.testing.assert_allclose(found[:, 0].numpy(), expected, rtol=2e-4)
    np.testing.assert_allclose(score.numpy(), expected.max(axis=(1, 2)), rtol=2e-4)


def test_positions_are_drawn_where_there_are_many(monkeypatch):
    features = [torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in (1, 2)]
    maps = []
    for most in (100_000, 1_000, 1_000):
        model = SuperSimpleNet(None, (3, 3), (64, 64), shape=SHAPE).eval()
        filled(model, features, monkeypatch, most)
        maps.append(model.predict(features)[0].detach().numpy())
    np.testing.assert_array_equal(maps[1], maps[2])
    assert 0 < np.abs(maps[0] - maps[1]).max() < 0.3  # a thousand of 2,560: another estimate of the same


def test_every_plan_is_the_distance(monkeypatch):
    torch.manual_seed(0)
    backbone = backbones.create("efficientnet_lite0", SHAPE.levels)
    model = SuperSimpleNet(backbone.module, backbone.channels, (96, 128), shape=SHAPE).eval()
    features = model.features(torch.randn(40, 3, 96, 128))
    mean, std = (torch.cat([f(level, (0, 2, 3)) for level in features]) for f in (torch.mean, torch.std))
    model.set_statistics(mean, std + 1e-3)
    filled(model, features, monkeypatch)
    truth = float64_reference.reference(model, backbone, photos(2, (96, 128)))
    for plan in PLANS:
        module = Deployed(model, backbone, plan, mean.tolist()).double()
        with torch.inference_mode():
            maps, scores = module(torch.from_numpy(truth.images))
        np.testing.assert_allclose(maps, truth.maps, rtol=0, atol=1e-10 * np.abs(truth.maps).max())
        np.testing.assert_allclose(scores, truth.scores, atol=1e-10)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for folder, count in (("good", 24), ("bad", 4)):
        (root / folder).mkdir()
        for number in range(count):
            image = cv2.GaussianBlur(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8), (0, 0), 2)
            if folder == "bad":
                cv2.circle(image, (48, 48), 14, (255, 255, 255), -1)
            cv2.imwrite(str(root / folder / f"{number:02d}.png"), image)
    return root


def test_from_photos_to_a_verdict(data, tmp_path):
    run, model = tmp_path / "run", tmp_path / "model.ssn"
    arguments = [str(data), "--unsupervised", "--method", "distance", "--size", "96x96", "--cross-fit", "0"]
    done = CliRunner().invoke(train_main, [*arguments, "--out", str(run)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    document = json.loads((run / "metrics.json").read_text())
    assert document["run"]["steps"] == 0 and document["verdict"]["source"] == "map_max"
    assert document["metrics"]["I-AUROC (map maximum)"] == 1.0
    assert (run / "report.html").exists() and not (run / "loss.png").exists()
    assert not (run / "resume.safetensors").exists()
    done = CliRunner().invoke(export_main, [str(run), "--out", str(model), "--fp16"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    info = CliRunner().invoke(export_main, [str(model), "--info"], catch_exceptions=False).output
    assert "distance of 304 features" in info
    with Detector.open(model) as detector:
        for folder, expected in (("good", False), ("bad", True)):
            for path in sorted((data / folder).iterdir())[-2:]:
                assert detector.detect(cv2.imread(str(path))).is_defect == expected, path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "learns from good photos alone, and there are labelled defects"),
        (["--unsupervised", "--steps", "5"], "--steps: has no effect with --method distance"),
        (["--unsupervised", "--verdict-source", "score"], "--verdict-source: has no effect"),
        (["--unsupervised", "--published"], "not the paper's"),
    ],
)
def test_what_it_refuses(data, tmp_path, options, message):
    run = tmp_path / "run"
    done = CliRunner().invoke(train_main, [str(data), "--method", "distance", "--out", str(run), *options])
    assert done.exit_code == 2 and message in done.output and not run.exists()
