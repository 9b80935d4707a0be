"""Groups of points that are known, and the rule that refuses where there is none to be seen."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the proposal needs scipy")

from ssn_train.parts import likeness  # noqa: E402


def rows_of(parts, shots, spread, seed=0, size=400):
    """Unit rows: ``parts`` random directions, ``shots`` each with noise of ``spread`` of their length,
    shuffled; and which part each is of."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((parts, size))
    truth = rng.permutation(np.repeat(np.arange(parts), shots))
    found = centres[truth] + spread * rng.standard_normal((len(truth), size))
    found -= found.mean(0)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), truth


def same(groups):
    groups = np.array(groups)
    return groups[:, None] == groups


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("parts, shots", [(6, 2), (30, 4), (12, 9)])
def test_clear_groups_are_found(parts, shots, spread):
    rows, truth = rows_of(parts, shots, spread)
    found = likeness.propose(rows)
    assert found.clear and (same(found.groups) == same(truth)).all()
    assert list(dict.fromkeys(found.groups)) == list(range(parts))  # numbered as they come
    distances = np.linalg.norm(rows[:, None].astype(float) - rows, axis=2)
    inside = same(truth) & ~np.eye(len(rows), dtype=bool)
    assert found.farthest == pytest.approx(distances[inside].max(), abs=1e-3)
    assert found.nearest == pytest.approx(distances[~same(truth)].min(), abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [10, 60, 300])
def test_photos_that_have_nothing_in_common_show_no_gap(count, seed):
    assert not likeness.propose(rows_of(count, 1, 0, seed)[0]).clear


def test_shots_as_different_as_parts_show_no_gap():
    assert not likeness.propose(rows_of(30, 4, 2.0)[0]).clear


def test_a_group_of_more_than_a_fifth_is_none():
    rows, _ = rows_of(4, 10, 0.1)
    found = likeness.propose(rows)
    assert not found.clear and np.bincount(found.groups).max() <= 8


def test_few_twins_among_single_photos_are_no_parts():
    """One file that is there twice says nothing of the other photos."""
    rows = rows_of(40, 1, 0)[0]
    assert not likeness.propose(np.concatenate([rows, rows[:3]])).clear


@pytest.mark.parametrize("count", [1, 2, 3, 4, 20])
def test_photos_that_are_all_the_same_or_few(count):
    found = likeness.propose(np.zeros((count, 5), np.float32))
    assert not found.clear and len(found.groups) == count


def test_rows_have_unit_length_and_no_scale():
    """Neither a channel's scale and offset nor one brightness for all photos counts."""
    cells = np.random.default_rng(0).standard_normal((20, 3, 16)).astype(np.float32)
    rows = likeness.unit_rows(cells)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    scaled = cells * np.array([2, 30, 0.5], np.float32)[:, None] + np.array([1, -5, 9], np.float32)[:, None]
    np.testing.assert_allclose(likeness.unit_rows(scaled), rows, atol=1e-4)
    assert np.isfinite(likeness.unit_rows(np.ones((4, 3, 16), np.float32))).all()
