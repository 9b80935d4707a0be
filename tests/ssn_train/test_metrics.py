"""Metrics against the published figures, closed forms, and a brute-force integral."""

import math

import numpy as np
import pytest

from ssn_train import metrics

PLAIN = ("separable_some", "multi_region", "all_anomalous")


@pytest.mark.parametrize("case", [*PLAIN, "ties_coarse"])
def test_published_metrics(golden, case):
    """AUPRO only where there are no ties: the published one resamples its curve by index."""
    z = golden("metrics")
    maps, masks = z[f"{case}/in/anomaly_map"][:, 0], z[f"{case}/in/mask"] > 0
    labels, scores = z[f"{case}/in/label"].astype(int), z[f"{case}/in/score_logit"]
    has_mask = np.ones(len(labels), bool)
    ours = metrics.summary(labels, scores, maps, masks, has_mask)
    names = {"P-AUROC": "P-AUROC", "AP-loc": "AP-loc"}
    if case != "all_anomalous":  # one class only: the published code says 0, we say NaN
        names.update({"I-AUROC": "I-AUROC", "AP-det": "AP-det"})
    for ours_name, name in names.items():
        assert ours[ours_name] == pytest.approx(float(z[f"{case}/out/{name}"]), abs=1e-5)
    if case in PLAIN:
        assert ours["AUPRO"] == pytest.approx(float(z[f"{case}/out/AUPRO"]), abs=1e-4)


def brute_force_aupro(maps, masks, limit=0.3, steps=4000):
    """Thresholds one by one, a rectangle at a time; single-region masks only."""
    order = np.sort(np.unique(maps))[::-1]
    points = [(0.0, 0.0)]
    for threshold in order:
        called = maps >= threshold
        fpr = called[~masks].mean()
        pro = np.mean([c[m].mean() for c, m in zip(called, masks) if m.any()])
        points.append((fpr, pro))
    x, y = np.array(points).T
    return np.interp(np.linspace(0, limit, steps), x, y).mean()


@pytest.mark.parametrize("levels", [None, 40])
def test_aupro_against_brute_force(levels):
    rng = np.random.default_rng(0)
    masks = np.zeros((3, 20, 24), bool)
    masks[0, 3:9, 4:9] = masks[1, 12:18, 2:20] = True
    maps = rng.normal(size=masks.shape) + masks
    if levels:
        maps = np.round(maps * levels / 8) / levels * 8
    assert metrics.aupro(maps, masks) == pytest.approx(brute_force_aupro(maps, masks), abs=2e-3)


def test_aupro_of_perfect_and_impossible_maps():
    masks = np.zeros((2, 16, 16), bool)
    masks[0, 2:5, 3:9] = masks[0, 10:12, 3:9] = True
    assert metrics.aupro(masks.astype(float), masks) == pytest.approx(1.0)
    assert math.isnan(metrics.aupro(np.zeros(masks.shape), masks))
    assert math.isnan(metrics.aupro(np.random.default_rng(0).random(masks.shape), np.zeros_like(masks)))
    assert metrics.aupro(-masks.astype(float), masks) == pytest.approx(0.0)


def test_best_f1_finds_the_separating_threshold():
    found = metrics.best_f1(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.7, 0.9]))
    assert found == {"threshold": 0.7, "f1": 1.0}


def test_one_class_gives_nan():
    assert math.isnan(metrics.auroc(np.zeros(4), np.arange(4)))
    assert math.isnan(metrics.average_precision(np.ones(4), np.arange(4)))
