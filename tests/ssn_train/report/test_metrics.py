"""Metrics against the published figures, closed forms, and a brute-force integral."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ssn_train.report import metrics

ONE_CLASS = ("all_anomalous", "empty_masks_all_normal")
"""Images of one class: the published code says 0 or 1, we say NaN."""

RESAMPLED = ("ties_binary_map", "ties_coarse", "full_mask_image")
"""Where the published AUPRO, which resamples each region's curve by index, is not the integral."""

EQUAL_MAXIMA = ("constant_map", "ties_binary_map")
"""All maps have the same maximum: the published scaling of the scores divides by zero."""


@pytest.mark.parametrize(
    "case",
    [
        "all_anomalous", "constant_map", "empty_masks_all_normal", "full_mask_image", "inverted",
        "multi_region", "perfect", "random", "separable_some", "ties_binary_map", "ties_coarse",
    ],
)
def test_published_metrics(golden, case):
    z = golden("metrics")
    maps, masks = z[f"{case}/in/anomaly_map"][:, 0], z[f"{case}/in/mask"] > 0
    labels, scores = z[f"{case}/in/label"].astype(int), z[f"{case}/in/score_logit"]
    ours = metrics.summary(labels, scores, maps, masks, np.ones(len(labels), bool))
    names = {"P-AUROC": "P-AUROC", "AP-loc": "AP-loc", "I-AUROC": "I-AUROC", "AP-det": "AP-det"}
    if case not in EQUAL_MAXIMA:
        names.update({f"{n} (map maximum)": f"seg-{n}" for n in ("I-AUROC", "AP-det")})
    for ours_name, name in names.items():
        of_pixels = name in ("P-AUROC", "AP-loc")
        if case in ONE_CLASS and (not of_pixels or not masks.any()):
            assert math.isnan(ours[ours_name])
        else:
            assert ours[ours_name] == pytest.approx(float(z[f"{case}/out/{name}"]), abs=1e-5), name
    if case not in RESAMPLED:
        published = float(z[f"{case}/out/AUPRO"])
        assert ours["AUPRO"] == pytest.approx(published, abs=1e-4, nan_ok=True)


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


def exact_aupro(maps, masks, limit=0.3):
    """Every distinct value a threshold, regions by SciPy, the trapezoids of the definition."""
    regions = []
    for i, mask in enumerate(masks):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(i, labels == k) for k in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        called = maps >= threshold
        points.append((called[~masks].mean(), np.mean([called[i][r].mean() for i, r in regions])))
    area = 0.0
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if x0 >= limit:
            break
        y_end = y1 if x1 <= limit else y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (min(x1, limit) - x0) * (y0 + y_end) / 2
    return area / limit


@given(seed=st.integers(0, 10**6), levels=st.sampled_from([2, 5, 30, None]), share=st.floats(0.02, 0.6))
@settings(max_examples=60, deadline=None)
def test_aupro_is_the_exact_integral(seed, levels, share):
    """Several regions, ties between and within normal and defective pixels."""
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 7, 9)) < share
    maps = rng.normal(size=masks.shape) + masks
    maps = maps if levels is None else np.round(maps * levels / 4)
    if masks.any() and not masks.all() and maps.min() < maps.max():
        assert metrics.aupro(maps, masks) == pytest.approx(exact_aupro(maps, masks), abs=1e-12)


def test_aupro_holds_one_copy_of_the_normal_pixels():
    """1,700 maps of 256x256 then stay under 2 GiB, arguments included: 4 + 1 bytes a pixel given."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(60, 128, 128)).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    masks[::2, 20:50, 30:60] = True
    tracemalloc.start()
    metrics.aupro(maps, masks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (peak + maps.nbytes + masks.nbytes) / maps.size * 1700 * 256 * 256 < 2 << 30


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
