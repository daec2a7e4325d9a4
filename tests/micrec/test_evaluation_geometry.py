"""The geometry of embeddings against float64 loops, by hand on small cases, and as part of a cell."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from micrec.config import Config
from micrec.evaluation import geometry as module
from micrec.evaluation.geometry import (
    alignment,
    anisotropy,
    by_clicks,
    effective_rank,
    geometry,
    nearer,
    nearest_interest,
    rank_correlation,
    uniformity,
    unit,
)
from micrec.evaluation.pairs import Pairs
from micrec.experiment import run_model
from micrec.settings import merge
from tests.micrec.factories import random_dataset
from tests.micrec.serving import SMALL


def directions(rng, n, dim=5):
    drawn = rng.normal(size=(n, dim)) + 0.3
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def reference_uniformity(rows, weights):
    """Wang and Isola's log E exp(-2 |x - y|^2) over ordered pairs of distinct rows, one at a time."""
    total = weight = 0.0
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            if i != j:
                w = weights[i] * weights[j]
                total += w * math.exp(-2.0 * sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
                weight += w
    return math.log(total / weight)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 20), st.integers(1, 9))
def test_uniformity_equals_the_loops(seed, n, block):
    rng = np.random.default_rng(seed)
    rows, weights = directions(rng, n), rng.integers(0, 5, n) + 1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        plain = uniformity(torch.from_numpy(rows).float())
        weighted = uniformity(torch.from_numpy(rows).float(), weights=weights)
    assert plain == pytest.approx(reference_uniformity(rows, np.ones(n)), abs=1e-5)
    assert weighted == pytest.approx(reference_uniformity(rows, weights), abs=1e-5)


def test_uniformity_by_hand():
    """Two opposite points are 2 apart: exp(-2 * 4); two equal ones 0."""
    line = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(line) == pytest.approx(-8.0)
    assert uniformity(line[[0, 0]]) == pytest.approx(0.0)
    assert math.isnan(uniformity(line[:1]))
    assert uniformity(line[[0, 1, 1]], weights=np.array([1.0, 0.0, 3.0])) == pytest.approx(-8.0)


def test_alignment_and_nearer_equal_the_loops():
    rng = np.random.default_rng(1)
    first, second, random = (directions(rng, 50) for _ in range(3))
    random[:10] = second[:10]  # ties
    distances = [sum((a - b) ** 2) for a, b in zip(first, second, strict=True)]
    gaps = [np.dot(a, b) - np.dot(a, r) for a, b, r in zip(first, second, random, strict=True)]
    expected = np.mean([0.5 if abs(gap) < 1e-12 else float(gap > 0) for gap in gaps])
    tensors = [torch.from_numpy(rows).float() for rows in (first, second, random)]
    assert alignment(*tensors[:2]) == pytest.approx(np.mean(distances), rel=1e-5)
    assert nearer(*tensors) == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30))
def test_anisotropy_is_the_mean_cosine_of_pairs(seed, n):
    rows = directions(np.random.default_rng(seed), n)
    cosines = [float(a @ b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
    assert anisotropy(torch.from_numpy(rows).float()) == pytest.approx(np.mean(cosines), abs=1e-6)


def test_effective_rank_by_svd_and_by_hand():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(200, 6)) * np.array([5.0, 3.0, 1.0, 1.0, 0.2, 0.0]) + 4.0
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    shares = values[values > 1e-9] / values.sum()
    assert effective_rank(torch.from_numpy(rows)) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))
    corners = torch.cat([torch.eye(3), -torch.eye(3)])
    assert effective_rank(corners) == pytest.approx(3.0)
    assert effective_rank(corners[:, [0, 0, 0]]) == pytest.approx(1.0)
    assert math.isnan(effective_rank(torch.ones(4, 3)))


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 6, 40), rng.integers(0, 6, 40)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert math.isnan(rank_correlation(1.0 + 1e-8 * rng.random(40), b))  # lengths of a normalised model
    assert math.isnan(rank_correlation(a, np.ones(40)))


def test_a_sample_stands_for_all(monkeypatch):
    """2,000 items are more than are compared; the sampled figures are near those of all pairs."""
    monkeypatch.setattr(module, "MOST_PAIRED", 800)
    rng = np.random.default_rng(4)
    rows = directions(rng, 2_000, dim=3)
    clicks = (rows[:, 0] > 0.5) * 40 + 1  # what is popular sits together
    kept, weights = by_clicks(np.arange(2_000), clicks, rng)
    assert len(kept) <= 800
    potential = np.exp(-2.0 * (2.0 - 2.0 * rows @ rows.T).clip(0.0)) - np.eye(2_000)
    share = clicks / clicks.sum()
    expected = math.log(share @ potential @ share / (1 - share @ share))
    assert uniformity(torch.from_numpy(rows[kept]), weights=weights) == pytest.approx(expected, abs=0.06)
    assert uniformity(torch.from_numpy(rows)) < expected - 0.2


def test_all_figures_of_items_with_training_clicks():
    """Item 3 was never clicked, and lies where it would change every figure."""
    users = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    items = torch.tensor([[2.0, 0.0], [0.0, 4.0], [-8.0, 0.0], [0.0, -100.0]])
    task = SimpleNamespace(candidates=np.array([True, True, True, False]), train_clicks=np.array([1, 2, 3, 0]))
    pairs = {"clicks": Pairs(np.array([0, 1]), np.array([0, 1])), "titles": Pairs(np.array([0]), np.array([2]))}
    found = geometry(users, items, task, pairs, rng=np.random.default_rng(0))
    assert found["uniformity"] == pytest.approx(math.log((2 * math.exp(-4) + math.exp(-8)) / 3), rel=1e-5)
    assert found["alignment_clicks"] == 0.0
    assert found["alignment_titles"] == 4.0
    assert found["nearer_titles"] in (0.0, 0.5)
    assert found["anisotropy"] == pytest.approx(-1 / 3)
    assert found["norm_popularity"] == pytest.approx(1.0)


def test_the_nearest_of_many_interests_counts():
    rng = np.random.default_rng(5)
    interests, items = torch.from_numpy(rng.normal(size=(7, 3, 4))), torch.from_numpy(rng.normal(size=(7, 4)))
    interests, items = unit(interests), unit(items)
    expected = [max(rows.tolist(), key=lambda row, item=item: float(np.dot(row, item)))
                for rows, item in zip(interests, items.numpy(), strict=True)]  # fmt: skip
    assert torch.equal(nearest_interest(interests, items), torch.tensor(expected))


def test_a_cell_holds_them_and_the_same_pairs_for_every_seed(tmp_path):
    data = random_dataset(tmp_path / "data", np.random.default_rng(0), n_items=60, n_clicks=1500)
    config = Config.model_validate(merge(Config().model_dump(), SMALL))
    metrics = run_model(data, config).metrics
    kinds = ("clicks", "sessions", "titles", "categories")
    names = {f"{name}_{kind}" for name in ("alignment", "nearer") for kind in kinds}
    names |= {"uniformity", "uniformity_clicks", "anisotropy", "effective_rank", "norm_popularity"}
    assert names <= set(metrics)
    assert "alignment_links" not in metrics
    assert run_model(data, config).metrics == metrics
