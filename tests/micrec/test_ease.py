"""EASE and recent popularity against dense loops that share no code with them."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp

from micrec.baselines.ease import EaseSettings, ease, item_gram
from micrec.baselines.recent_popularity import recent_popularity
from micrec.config import EvalConfig
from micrec.data.dataset import Clicks
from tests.micrec.test_baselines import inputs_of, make_task

DAY_MS = 86_400_000
N = 7


@pytest.fixture(scope="module")
def log():
    """Clicks of 30 users on 6 of 7 items over 200 days."""
    rng = np.random.default_rng(3)
    users, items = rng.integers(0, 30, 400), rng.integers(0, 6, 400)
    users[:30] = np.arange(30)
    days = np.sort(rng.uniform(0, 200, 400))
    clicks = Clicks(users.astype(np.int32), items.astype(np.int32), (days * DAY_MS).astype(np.int64))
    pairs = list(zip(users.tolist(), items.tolist(), strict=True))
    return clicks, make_task(pairs, [(0, 1), (5, 2)], N, EvalConfig(cutoffs=(2,)))


def test_each_column_solves_the_regression_without_its_own_item():
    """B_j minimises |x_j - X b|² + lambda |b|² with b_j = 0: ridge on the other items alone (Steck 2019, section 3)."""
    rng = np.random.default_rng(0)
    x = rng.poisson(1.0, (40, 5)).astype(np.float32)
    weights = item_gram(sp.csr_array(x), 5).solve(3.0).rows(np.arange(5), 0.25)
    for j in range(5):
        others = [i for i in range(5) if i != j]
        a = x[:, others].astype(float)
        solved = np.linalg.solve(a.T @ a + 3.0 * np.eye(4), a.T @ x[:, j].astype(float))
        assert weights[others, j] == pytest.approx(solved, rel=1e-4)
        assert weights[j, j] == 0.25


def test_scores_are_those_of_the_formula_in_loops(log):
    clicks, task = log
    now = clicks.time_ms[-1]
    x = np.zeros((30, N))
    faded, recent = np.zeros((30, N)), np.zeros(N)
    for user, item, time in zip(clicks.user_ids, clicks.item_ids, clicks.time_ms, strict=True):
        days = (now - time) / DAY_MS
        x[user, item] += 1
        faded[user, item] += 2 ** (-days / EaseSettings().half_life_days)
        recent[item] += 2 ** (-days / 14)
    x, faded = np.log(1 + x[:, :6]), np.log(1 + faded[:, :6])
    p = np.linalg.inv(x.T @ x + 500.0 * np.eye(6))
    b = -p / np.diag(p)[None, :]
    np.fill_diagonal(b, 0.3)
    expected = faded @ b + 2e-4 * recent[:6] / recent[:6].mean() * faded.sum(axis=1)[:, None]
    scores = ease(inputs_of(task, clicks, valid_fraction=0.0)).users(0, len(task)).numpy()
    assert scores[:, :6] == pytest.approx(expected[task.user_ids], rel=1e-4)
    assert (scores[:, 6] < expected.min()).all()  # nobody has clicked it


def test_settings_that_are_given_are_used_and_told(log):
    clicks, task = log
    inputs = inputs_of(task, clicks, valid_fraction=0.2)
    given = {"ridge": 7.0, "self-weight": 0.9, "half-life days": 11.0, "drift": 0.5}
    fixed = ease(dataclasses.replace(inputs, settings=given))
    assert fixed.settings == given
    assert (fixed.users(0, len(task)) != ease(inputs).users(0, len(task))).any()
    chosen = ease(inputs)
    again = ease(dataclasses.replace(inputs, settings=chosen.settings))
    assert (again.users(0, len(task)) == chosen.users(0, len(task))).all()


def test_neighbours_are_the_rows_of_the_weights(log):
    clicks, task = log
    near = ease(inputs_of(task, clicks, valid_fraction=0.0)).neighbours(np.array([2, 6])).numpy()
    x = np.zeros((30, 6))
    np.add.at(x, (clicks.user_ids, clicks.item_ids), 1)
    p = np.linalg.inv(np.log1p(x).T @ np.log1p(x) + 500.0 * np.eye(6))
    b = -p / np.diag(p)[None, :]
    np.fill_diagonal(b, 0.3)
    assert near[0, :6] == pytest.approx(b[2], rel=1e-4)
    assert near[1, :6] == pytest.approx(np.zeros(6))


def test_recent_popularity_halves_in_two_weeks():
    """Item 0 has three clicks of 28 days ago, worth 3/4; item 1 has one of now."""
    times = np.array([0, 0, 0, 28]) * DAY_MS
    clicks = Clicks(np.zeros(4, np.int32), np.array([0, 0, 0, 1], np.int32), times.astype(np.int64))
    task = make_task([(0, 0)] * 3 + [(0, 1)], [(0, 1)], 3, EvalConfig(cutoffs=(1,)))
    scores = recent_popularity(inputs_of(task, clicks, valid_fraction=0.0)).users(0, 1)[0].tolist()
    assert scores[1] > scores[0] > scores[2]
