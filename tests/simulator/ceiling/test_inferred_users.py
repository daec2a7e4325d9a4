"""Interests inferred from a history: against exact enumeration where that can be done, and against the truth."""

import functools
import itertools

import numpy as np
import pytest

from simulator.ceiling.click_evidence import PastClicks, click_evidence
from simulator.ceiling.inferred_users import InferredUsers
from simulator.ceiling.known_users import KnownUsers
from tests.simulator.worlds import small_history, small_world

END_S = 13 * 86_400.0
N = 300
TOPICS = (*("items.topics=4", "taste.depth={topic: 0.7, subcategory: 0.3}"), "taste.drift_days=0")
TINY_TOPICS = ("taste.interests=2", "items.categories=3", "items.subcategories=2", "items.topics=2", *TOPICS[1:])
FAVOURITES = ("items.topics=3", "taste.depth={topic: 0.3, subcategory: 0.0, item: 0.7}", "taste.drift_days=0")
TINY = ("taste.drift_days=0", "taste.interests=2", "items.categories=4")  # 8 subcategories: 64 assignments
STAPLES = ("choice.repeat=0.6", "choice.taste=0.1", "choice.fresh=0.05", "choice.similar=0.1", "taste.drift_days=0")


@functools.lru_cache
def histories(overrides):
    """Users and their clicks before ``END_S``, and what the world's own draws say of their interests then."""
    world, clicks = small_world(*overrides), small_history(*overrides).clicks
    time_s = clicks["timestamp"].to_numpy().astype(float) - world.start_s
    user = clicks["user_id"].to_numpy()
    kept = (user < N) & (time_s < END_S)
    history = PastClicks(user[kept], clicks["item_id"].to_numpy()[kept], time_s[kept])
    truth = KnownUsers(world.config, world.catalogue, world.shelf).traits(np.arange(N), END_S)
    return world, history, truth


def enumerated(world, history, prior, user):
    """Expected weight of each topic, by the likelihood of every assignment: sessions whole, no shortcuts."""
    config = world.config
    topics = config.items.topics
    evidence = click_evidence(config, world.catalogue, world.shelf.bucket_s, history)
    weights = np.exp(-config.taste.focus * np.arange(config.taste.interests))
    weights /= weights.sum()
    topic = world.catalogue.topic[history.item]
    rows = np.flatnonzero(history.user == user)
    expected, total = np.zeros(prior.shape[1]), 0.0
    for assignment in itertools.product(range(prior.shape[1]), repeat=len(weights)):
        chance = np.prod(prior[user, list(assignment)])
        for session in np.unique(evidence.session[rows]):
            of_session = 0.0
            for weight, _opened in zip(weights, assignment, strict=True):
                product = 1.0
                for row in rows[evidence.session[rows] == session]:
                    by_taste = 0.0
                    for other, interest in zip(weights, assignment, strict=True):
                        liking = (1.0 - config.sessions.focus) * other
                        picks = np.zeros(len(evidence.taste))
                        picks[0] = interest == topic[row]
                        picks[1:] = interest // topics == topic[row] // topics
                        chances = picks @ (evidence.taste[:, row] + evidence.repeat[:, row])
                        by_taste += liking * chances
                        if other == weight:
                            by_taste += config.sessions.focus * chances
                    product *= 1.0 + by_taste / evidence.background[row]
                of_session += weight * product
            chance *= of_session
        expected += chance * np.bincount(assignment, weights, minlength=prior.shape[1])
        total += chance
    return expected / total


@pytest.mark.parametrize("overrides", [TINY, TINY_TOPICS])
def test_the_approximation_is_near_exact_enumeration(overrides):
    """64 and 144 assignments for each of 60 users."""
    world, history, _ = histories(overrides)
    beliefs = InferredUsers(world.config, world.catalogue, world.shelf.bucket_s).beliefs(np.arange(N), history, END_S)
    users = np.unique(history.user)[:60]
    exact = np.stack([enumerated(world, history, beliefs.prior, user) for user in users])
    away = 0.5 * np.abs(exact - beliefs.interests[users]).sum(axis=1)
    found = 0.5 * np.abs(exact - beliefs.prior[users]).sum(axis=1)
    assert away.mean() < 0.08
    assert np.quantile(away, 0.9) < 0.15
    assert found.mean() > 5 * away.mean()  # what there was to find


@pytest.mark.parametrize("overrides", [(), TINY, TOPICS, FAVOURITES, ("taste.drift_days=10",)])
def test_beliefs_are_calibrated(overrides):
    """Where a weight of about x is expected, it is x on average."""
    world, history, truth = histories(overrides)
    beliefs = InferredUsers(world.config, world.catalogue, world.shelf.bucket_s).beliefs(np.arange(N), history, END_S)
    assert beliefs.interests.sum(axis=1) == pytest.approx(np.ones(N))
    for low, high in itertools.pairwise((0.0, 0.05, 0.25, 0.5, 1.0)):
        cells = (beliefs.interests >= low) & (beliefs.interests < high)
        if cells.sum() >= 50:
            noise = truth.interests[cells].std() / np.sqrt(cells.sum())
            assert beliefs.interests[cells].mean() == pytest.approx(truth.interests[cells].mean(), abs=0.03 + 4 * noise)


def test_more_history_comes_nearer_to_the_truth():
    world, history, truth = histories(TINY)
    inferred = InferredUsers(world.config, world.catalogue, world.shelf.bucket_s)
    seen = np.bincount(history.user, minlength=N) > 0

    def error(part):
        beliefs = inferred.beliefs(np.arange(N), PastClicks(*(values[part] for values in history)), END_S)
        return ((beliefs.interests - truth.interests) ** 2).sum(axis=1)[seen].mean()

    parts = [history.time_s < day * 86_400.0 for day in (0.0, 4.0, 13.0)]
    errors = [error(part) for part in parts]
    assert errors[0] > 1.3 * errors[1] > 1.3 * 1.2 * errors[2]


def test_without_a_history_the_fields_decide():
    world, _, _ = histories(())
    empty = PastClicks(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    beliefs = InferredUsers(world.config, world.catalogue, world.shelf.bucket_s).beliefs(np.arange(5), empty, END_S)
    assert (beliefs.interests == beliefs.prior).all()
    shares = beliefs.prior.reshape(5, world.config.items.categories, -1)
    assert shares.sum(axis=(1, 2)) == pytest.approx(np.ones(5))
    assert (shares == shares[:, :, :1]).all()  # a field tells categories alone


def test_favourites_are_found():
    world, history, truth = histories(FAVOURITES)
    beliefs = InferredUsers(world.config, world.catalogue, world.shelf.bucket_s).beliefs(np.arange(N), history, END_S)
    true_share = np.zeros((N, len(world.catalogue)))
    np.add.at(true_share, (np.arange(N)[:, None], truth.own_items), truth.own_taste)
    believed = np.take_along_axis(true_share, beliefs.own_items, axis=1)
    for low, high in ((0.01, 0.05), (0.08, 1.0)):
        cells = (beliefs.own_taste >= low) & (beliefs.own_taste < high)
        assert cells.sum() > 100
        assert beliefs.own_taste[cells].mean() == pytest.approx(believed[cells].mean(), abs=0.03)


def test_staples_are_found():
    world, history, truth = histories(STAPLES)
    beliefs = InferredUsers(world.config, world.catalogue, world.shelf.bucket_s).beliefs(np.arange(N), history, END_S)
    true_share = np.zeros((N, len(world.catalogue)))
    np.add.at(true_share, (np.arange(N)[:, None], truth.own_items), truth.own_repeat)
    believed = np.take_along_axis(true_share, beliefs.own_items, axis=1)
    for low, high in ((0.01, 0.06), (0.1, 1.0)):
        cells = (beliefs.own_repeat >= low) & (beliefs.own_repeat < high)
        assert cells.sum() > 100
        assert beliefs.own_repeat[cells].mean() == pytest.approx(believed[cells].mean(), abs=0.02)
