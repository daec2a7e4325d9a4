"""Expected clicks of a session against the generator's own draws, and against the chain walked step by step."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import chisquare

from simulator.ceiling import expected_clicks as closed_form
from simulator.ceiling.expected_clicks import expected_clicks, session_attempts
from simulator.ceiling.known_users import KnownUsers
from simulator.ceiling.world_period import session_model
from tests.simulator.ceiling.brute_force import counted, drawn_clicks
from tests.simulator.worlds import log, small_history, small_world

USERS = np.arange(4)
TIME_S = 301 * 3_600.0  # a moment when the newest items are in full swing
SESSIONS = 30_000  # of each user
WORLDS = {
    "usual": (),
    "links": ("links.strength=0.8", "links.density=0.6", "links.targets=2"),
    "staples": ("choice.repeat=0.5", "choice.taste=0.1"),
    "long": ("sessions.clicks=11",),
    "seasons": ("items.seasons={share: 0.7, days: 60, off_season: 0.05}", "choice.repeat=0.2", "choice.taste=0.4"),
    "topics": ("items.topics=3", "taste.depth={topic: 0.6, subcategory: 0.2, category: 0.2}"),
    "favourites": (
        "items.topics=3",
        "taste.depth={topic: 0.4, subcategory: 0.2, item: 0.4}",
        "choice.repeat=0.2",
        "choice.taste=0.4",
    ),
    "single-minded": ("items.topics=3", "taste.depth={subcategory: 0, topic: 1}", "signals.sessions=0.5"),
}


def closed(world, **changes):
    """The shared model and the users' traits at ``TIME_S``."""
    model = session_model(world.config, world.catalogue, np.array([TIME_S]), np.ones(1))
    traits = KnownUsers(world.config, world.catalogue, world.shelf).traits(USERS, TIME_S)
    return model, dataclasses.replace(traits, **changes)


def pooled_p(observed, expected):
    """p-value of Pearson's test, cells of fewer than five expected clicks pooled."""
    small = expected < 5.0
    seen = np.append(observed[~small], observed[small].sum())
    foreseen = np.append(expected[~small], expected[small].sum())
    kept = foreseen > 0
    assert seen[~kept].sum() == 0
    return chisquare(seen[kept], foreseen[kept] * seen[kept].sum() / foreseen[kept].sum()).pvalue


@pytest.mark.parametrize("name", WORLDS)
def test_first_clicks_fall_as_foretold(name):
    """120,000 sessions: what opens them has no memory, so the closed form is exact."""
    world = small_world(*WORLDS[name])
    model, traits = closed(world, goes_on=np.zeros(len(USERS)))
    row, position, item = drawn_clicks(world, USERS, TIME_S, SESSIONS)
    opening = position == 0
    observed = counted(row[opening], item[opening], len(USERS), len(world.catalogue))
    expected = expected_clicks(model, traits).astype(np.float64)
    assert expected.sum(axis=1) == pytest.approx(np.ones(len(USERS)), abs=1e-5)
    for of_user, foretold in zip(observed, expected, strict=True):
        assert pooled_p(of_user, foretold * SESSIONS) > 1e-3


@pytest.mark.parametrize("name", WORLDS)
def test_whole_sessions_fall_nearly_as_foretold(name):
    """What a session avoids is counted on average: near enough that lists lose next to nothing."""
    world = small_world(*WORLDS[name])
    model, traits = closed(world)
    row, _, item = drawn_clicks(world, USERS, TIME_S, SESSIONS)
    frequency = counted(row, item, len(USERS), len(world.catalogue)) / SESSIONS
    expected = expected_clicks(model, traits)
    assert expected.sum(axis=1) == pytest.approx(frequency.sum(axis=1), rel=0.015)
    away = 0.5 * np.abs(expected - frequency).sum(axis=1) / frequency.sum(axis=1)
    assert away.mean() < 0.03  # a third to a half of it is the noise of the draws
    for n in (10, 50):
        best = np.sort(frequency, axis=1)[:, -n:].sum(axis=1)
        found = np.take_along_axis(frequency, np.argsort(-expected, axis=1)[:, :n], axis=1).sum(axis=1)
        assert (found > 0.995 * best).all()


def test_avoiding_what_was_seen_matters_and_is_taken_in(monkeypatch):
    world = small_world(*WORLDS["long"])
    model, traits = closed(world)
    row, _, item = drawn_clicks(world, USERS, TIME_S, SESSIONS)
    frequency = counted(row, item, len(USERS), len(world.catalogue)) / SESSIONS
    with_it = np.abs(expected_clicks(model, traits) - frequency).sum(axis=1)
    monkeypatch.setattr(closed_form, "_kept", lambda users, sources, others: np.ones_like(others))
    without = np.abs(expected_clicks(model, traits) - frequency).sum(axis=1)
    assert (with_it < 0.7 * without).all()


def test_length_of_a_session_is_that_of_its_geometric_law():
    model, traits = closed(small_world(*WORLDS["links"]))
    attempts = session_attempts(model, traits)
    total = sum(part.reshape(len(USERS), -1).sum(axis=1) for part in attempts)
    assert total == pytest.approx(1.0 / (1.0 - traits.goes_on), rel=1e-6)


def test_visits_of_groups_are_those_of_the_chain_walked_step_by_step():
    """Position by position with a dense matrix, for each user by itself."""
    world = small_world(*WORLDS["links"])
    model, traits = closed(world)
    found = session_attempts(model, traits)
    groups, targets = world.catalogue.group, world.catalogue.link_targets
    n = len(targets)
    weights = model.weights
    for user in range(len(USERS)):
        taste_share, popular, fresh, similar, repeat = traits.causes[user]
        taste, staples, everything, newest = (np.zeros(n) for _ in range(4))
        for item, group in enumerate(groups):
            segment = weights.taste[0].segment[item]
            taste[group] += traits.interests[user, segment] * weights.taste[0].share[item]
            everything[group] += weights.everything.share[item]
            newest[group] += weights.fresh.share[item]
        for item, share in zip(traits.own_items[user], traits.own_repeat[user], strict=True):
            staples[groups[item]] += share
        base = taste_share * taste + popular * everything + fresh * newest + repeat * staples
        linked, alike = np.zeros(n), np.zeros(n)
        here, alive = base + similar * taste, 1.0
        for _ in range(600):
            alive *= traits.goes_on[user]
            after = np.zeros(n)
            for group in np.flatnonzero(here):
                to = targets[group][targets[group] >= 0]
                follows = traits.follows[user] if len(to) else 0.0
                for target in to:
                    after[target] += here[group] * follows / len(to)
                    linked[target] += alive * here[group] * follows / len(to)
                after += here[group] * (1.0 - follows) * base
                after[group] += here[group] * (1.0 - follows) * similar
                alike[group] += alive * here[group] * (1.0 - follows) * similar
            here = after
            if alive < 1e-9:
                break
        assert found.linked[user] == pytest.approx(linked, abs=1e-6)
        assert found.similar[user] == pytest.approx(alike, abs=1e-6)


def test_what_cannot_be_clicked_again_leaves_its_share_to_the_rest_of_its_segment():
    """Against the rule by hand: at most seven draws of the segment, six of everything, or no click."""
    world = small_world(
        "choice={taste: 0.6, popular: 0.4, fresh: 0, similar: 0, repeat: 0, once: log}", "links.strength=0"
    )
    model, traits = closed(world, goes_on=np.zeros(len(USERS)))
    causes = np.broadcast_to(np.array([0.6, 0.4, 0.0, 0.0, 0.0]), (len(USERS), 5))
    traits = dataclasses.replace(traits, causes=causes)
    rng = np.random.default_rng(0)
    n = len(world.catalogue)
    clicked = sp.csr_array((rng.random((len(USERS), n)) < np.linspace(0, 0.9, len(USERS))[:, None]).astype(float))
    division, everything = model.weights.taste[0], model.weights.everything.share
    for user, foretold in enumerate(expected_clicks(model, traits, clicked)):
        seen = clicked[[user]].toarray()[0] > 0
        by_hand = np.zeros(n)
        sources = [(0.4, everything)] + [
            (0.6 * weight, np.where(division.segment == segment, division.share, 0.0))
            for segment, weight in enumerate(traits.interests[user])
        ]
        for weight, share in sources:
            for _ in range(7):
                by_hand += weight * np.where(seen, 0.0, share)
                weight *= share[seen].sum()
            for _ in range(6):
                by_hand += weight * np.where(seen, 0.0, everything)
                weight *= everything[seen].sum()
        assert foretold[seen].sum() == 0.0
        assert foretold == pytest.approx(by_hand, abs=2e-6, rel=1e-3)


def test_no_session_holds_an_item_twice_where_once_is_all():
    """Staples still come back in later sessions."""
    keys = ("choice.repeat=0.5", "choice.taste=0.1", "sessions.clicks=11", "items.count=100")
    once, many = (log(f"choice.once={value}", *keys) for value in ("session", "none"))
    assert not once.select("user_id", "session", "item_id").is_duplicated().any()
    assert many.select("user_id", "session", "item_id").is_duplicated().mean() > 0.05
    assert once.select("user_id", "item_id").is_duplicated().mean() > 0.3


def test_nobody_clicks_an_item_twice_where_once_is_all():
    shard = small_history("choice.once=log", "choice.repeat=0", "choice.taste=0.6", "items.count=100")
    assert not shard.clicks.select("user_id", "item_id").is_duplicated().any()
    assert len(shard.causes) == len(shard.clicks)
    users = shard.clicks.group_by("user_id").len()["len"]
    assert users.max() <= 100  # a catalogue of a hundred is clicked through
    many = small_history("choice.once=none", "choice.repeat=0", "choice.taste=0.6", "items.count=100")
    assert len(shard.clicks) > 0.8 * len(many.clicks)
