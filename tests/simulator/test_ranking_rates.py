"""Click rates of items against known ones: the prior by another optimiser, places and audiences told from worth."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import nbinom, norm

from simulator.ranking.rates import LoggedImpressions, Prior, expected_clicks, fit_prior, log_rates

START = np.array([0.5])


def planted(seed, n=600, strength=6.0, slope=0.8):
    """Items whose rates come from a gamma prior that leans on one trait; a third of them was hardly shown."""
    rng = np.random.default_rng(seed)
    trait = rng.normal(size=(n, 1))
    rate = rng.gamma(strength, np.exp(0.2 + slope * trait[:, 0]) / strength)
    tries = np.where(rng.random(n) < 0.33, 0.5, rng.lognormal(2.5, 1.0, n))
    return rng.poisson(tries * rate), tries, trait, rate


def test_the_prior_is_the_likeliest_by_another_optimiser():
    hits, tries, trait, _ = planted(0, n=150)

    def loss(point):
        level, slope, strength = point[0], point[1], np.exp(point[2])
        mean = tries * np.exp(level + slope * trait[:, 0])
        fit = nbinom.logpmf(hits, strength, strength / (strength + mean)).sum()
        held = norm.logpdf(level, 0, 1) + norm.logpdf(slope, 0.5, 0.5) + norm.logpdf(point[2], np.log(10), 1)
        return -fit - held

    other = minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 5_000})
    prior = fit_prior(hits.astype(float), tries, trait, START)
    np.testing.assert_allclose([*prior.weights, np.log(prior.strength)], other.x, atol=2e-3)


def test_the_prior_is_found_again_and_serves_better_than_one_average():
    hits, tries, trait, rate = planted(1, n=3_000)
    prior = fit_prior(hits.astype(float), tries, trait, START)
    np.testing.assert_allclose(prior.weights, [0.2, 0.8], atol=0.05)
    assert prior.strength == pytest.approx(6.0, rel=0.15)
    mean = prior.mean(trait)
    held = mean * (hits + prior.strength) / (mean * tries + prior.strength)
    average = (hits + 30 * rate.mean()) / (tries + 30)
    error, other = (np.mean((np.log(one) - np.log(rate)) ** 2) for one in (held, average))
    assert error < 0.5 * other


def test_without_impressions_the_prior_is_what_it_starts_from():
    trait = np.linspace(-1, 1, 5)[:, None]
    nothing = LoggedImpressions(*(np.zeros(0, dtype) for dtype in (np.int64, np.int64, float, bool, float)))
    rates = log_rates(nothing, trait, START, positions=5, most_rows=100)
    np.testing.assert_allclose(rates, 0.5 * trait[:, 0], atol=1e-6)
    assert Prior(np.array([0.0, 50.0]), 1.0).mean(trait).max() == pytest.approx(np.exp(5.0))  # not without bounds


def chosen_slates(seed, *, n_items=120, n_slates=9_000, slate=4):
    """Slates as a platform makes them: best on top, and items of little appeal only before users who like their kind.

    A click comes with log odds worth + 2 where the user likes the kind - 0.8 a position.
    """
    rng = np.random.default_rng(seed)
    worth, kind = rng.normal(-1.5, 0.7, n_items), np.arange(n_items) % 8
    likes = rng.integers(0, 8, n_slates)
    pick = np.argsort(rng.random((n_slates, n_items)), axis=1)[:, :30]
    total = worth[pick] + 2.0 * (kind[pick] == likes[:, None])
    order = np.argsort(-total - rng.normal(0, 0.5, total.shape), axis=1)[:, :slate]
    item, logit = np.take_along_axis(pick, order, 1), np.take_along_axis(total, order, 1) - 0.8 * np.arange(slate)
    clicked = rng.random(item.shape) < 1 / (1 + np.exp(-logit))
    taste = (kind[item] == likes[:, None]).astype(float)
    position = np.broadcast_to(np.arange(slate), item.shape)
    columns = (item, position, taste, clicked, np.ones(item.shape))
    return worth, LoggedImpressions(*(column.ravel() for column in columns)), rng.normal(worth[:, None], 0.5)


def test_places_and_audiences_are_told_from_worth():
    """Raw rates of chosen items say little; against what was to be expected they order the items."""
    worth, shown, trait = chosen_slates(2)
    trait = trait - trait.mean(axis=0)
    shows, hits = np.bincount(shown.item, minlength=120), np.bincount(shown.item, shown.clicked, minlength=120)
    often = shows >= 20
    raw = np.corrcoef((hits / np.maximum(shows, 1))[often], worth[often])[0, 1]
    rates = log_rates(shown, trait, START, positions=5, most_rows=100_000)
    assert np.corrcoef(rates[often], worth[often])[0, 1] > max(raw + 0.1, 0.9)
    assert np.corrcoef(rates, worth)[0, 1] > np.corrcoef(trait[:, 0], worth)[0, 1] + 0.05
    chance = expected_clicks(shown, trait, positions=5, most_rows=100_000)
    logit = np.log(chance / (1 - chance))
    places = [logit[(shown.position == place) & (shown.taste == 0.0)].mean() for place in range(4)]
    np.testing.assert_allclose(np.diff(places), -0.8, atol=0.25)
    naive = np.array([shown.clicked[shown.position == place].mean() for place in range(4)])
    assert np.diff(np.log(naive / (1 - naive)))[0] < -0.95  # what the positions seem to be worth


def test_showing_an_item_more_often_does_not_raise_its_rate():
    """Clicks follow exposure; worth does not."""
    rng = np.random.default_rng(3)
    item = np.repeat([0, 1, 2, 3], [4_000, 400, 4_000, 400])
    clicked = rng.random(len(item)) < np.array([0.1, 0.1, 0.3, 0.3])[item]
    shown = LoggedImpressions(item, np.zeros_like(item), np.zeros(len(item)), clicked, np.ones(len(item)))
    rates = log_rates(shown, np.zeros((4, 1)), START, positions=1, most_rows=100_000)
    assert abs(rates[0] - rates[1]) < 0.3
    assert abs(rates[2] - rates[3]) < 0.3
    assert min(rates[2:]) > max(rates[:2]) + 0.7


def test_impressions_that_count_less_move_the_rate_less():
    shown = LoggedImpressions(
        np.repeat([0, 1], 50), np.zeros(100, int), np.zeros(100), np.tile([True, False], 50), np.ones(100)
    )
    shown = shown._replace(clicked=np.repeat([True, False], 50))
    full = log_rates(shown, np.zeros((2, 1)), START, positions=1, most_rows=100)
    faded = log_rates(shown._replace(weight=np.full(100, 0.02)), np.zeros((2, 1)), START, positions=1, most_rows=100)
    assert full[0] > faded[0] > faded[1] > full[1]
