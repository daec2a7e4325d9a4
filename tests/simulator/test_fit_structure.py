"""What ranks recommenders, read from logs: by hand, against loops, and found again in worlds whose keys are known."""

import functools
import itertools

import numpy as np
import pytest

from micrec.data.dataset import Clicks
from simulator.fit.fit import fit_world
from simulator.fit.item_moments import power_law_exponent
from simulator.fit.simulate import world_log
from simulator.fit.structure_moments import (
    comes_back,
    drift_at_last,
    drift_later,
    drift_midway,
    drift_soon,
    hardly_clicked,
    kept_together,
    linked,
    own_repeats,
    popularity_drift,
    top_share,
)
from simulator.fit.world_keys import value_of
from simulator.realism.log import sorted_log
from simulator.realism.statistics import Missing
from simulator.world.world import World
from tests.simulator.worlds import small_config

HOUR_MS = 3_600_000


def log_of(rows, n_items, category=None):
    """A log of (user, item, hours)."""
    rows = sorted(rows, key=lambda row: row[2])
    user, item, hours = (np.array(column) for column in zip(*rows, strict=True))
    clicks = Clicks(user.astype(np.int32), item.astype(np.int32), np.round(hours * HOUR_MS).astype(np.int64))
    return sorted_log("by hand", clicks, n_items, category=category)


def world(*overrides):
    return world_log(World.build(small_config(*overrides)))


def random_log(seed):
    rng = np.random.default_rng(seed)
    n = 1_500
    rows = zip(rng.integers(0, 40, n), rng.integers(0, 12, n), rng.random(n) * 200.0, strict=True)
    return log_of(list(rows), 12, category=np.arange(12, dtype=np.int32) % 3 + 1)


def test_top_share_by_hand():
    rows = [(user, 0, user) for user in range(30)] + [(user, 1 + user % 7, user + 0.5) for user in range(70)]
    assert top_share(log_of(rows, 100)) == pytest.approx(0.3)  # one item of a hundred
    assert hardly_clicked(log_of(rows, 100)) == pytest.approx(0.92)  # all but eight have none


def test_drift_against_a_loop_over_pairs():
    log = random_log(0)
    first = ~log.repeated
    place = (log.time_s - log.time_s.min()) / (log.time_s.max() - log.time_s.min())
    bins, items = np.minimum((place[first] * 20).astype(int), 19), log.item[first]
    met = {"near": [], "far": []}
    for a, b in itertools.combinations(range(len(items)), 2):
        apart = abs(bins[a] - bins[b])
        if apart == 0 or apart >= 10:
            met["far" if apart else "near"].append(items[a] == items[b])
    assert popularity_drift(log) == pytest.approx(1.0 - np.mean(met["far"]) / np.mean(met["near"]))


def test_popularity_that_turns_over_has_drift_one_and_one_that_stays_none():
    rows = [(user, user * 20 // 2_000, user / 10.0) for user in range(2_000)]  # an item for each twentieth
    assert popularity_drift(log_of(rows, 20)) == pytest.approx(1.0)
    rng = np.random.default_rng(1)
    stays = [(user, item, user / 10.0) for user, item in enumerate(rng.integers(0, 10, 4_000))]
    assert abs(popularity_drift(log_of(stays, 10))) < 0.05


def test_popularity_that_comes_back_drifts_less_at_last():
    """Ten items, each the only one for a tenth of the log, and the first one for the last tenth again."""
    turns = [*range(9), 0]
    log = log_of([(user, turns[user * 10 // 4_000], user / 10.0) for user in range(4_000)], 10)
    assert drift_soon(log) == pytest.approx(1.0 - (10 / 19 * 38 + 0) / 74, abs=0.06)  # bins one apart share
    assert drift_midway(log) == pytest.approx(1.0)
    assert drift_later(log) > drift_at_last(log)


def test_own_repeats_are_those_beyond_popularity():
    everyone = [(user, 0, 30.0 * visit + user / 100.0) for user in range(50) for visit in range(10)]
    assert own_repeats(log_of(everyone, 1)) == 0.0  # all repeat, whoever they are
    own = [(user, user, 30.0 * visit + user / 100.0) for user in range(50) for visit in range(10)]
    repeats = own_repeats(log_of(own, 50))
    assert 0.6 < repeats < 0.9  # 9 of 10 clicks, less what chance repeats: 1 in 50 for each of the earlier clicks


def test_steps_made_by_others_against_a_loop():
    """The share of pairs that others stepped between; the drawn targets are close to their mean over all draws."""
    log = random_log(2)
    category = log.category
    steps = [
        (log.item[row], log.item[row + 1], log.user[row], log.session[row] == log.session[row + 1])
        for row in range(len(log) - 1)
        if log.user[row] == log.user[row + 1] and log.item[row] != log.item[row + 1]
    ]
    makers = {}
    for source, target, user, _ in steps:
        makers.setdefault(frozenset((source, target)), set()).add(user)
    for moment, same in ((kept_together, True), (linked, False)):
        judged = [(s, t, u) for s, t, u, within in steps if within and (category[s] == category[t]) == same]
        if len(judged) < 200:
            with pytest.raises(Missing):
                moment(log)
            continue
        made = np.mean([bool(makers[frozenset((s, t))] - {u}) for s, t, u in judged])
        targets = {c: [t for _, t, _ in judged if category[t] == c] for c in (1, 2, 3)}
        drawn = [
            np.mean([bool(makers.get(frozenset((s, d)), set()) - {u}) for d in targets[category[t]] if d != s])
            for s, t, u in judged
        ]
        assert moment(log) == pytest.approx(made - np.mean(drawn), abs=0.03)


@pytest.mark.parametrize(
    ("moment", "key", "low", "high"),
    [
        (top_share, "items.popularity_exponent", 0.2, 0.9),
        (hardly_clicked, "items.rare_share", 0.0, 0.6),
        (popularity_drift, "items.evergreen_share", 0.9, 0.1),
        (drift_midway, "items.seasons.share", 0.0, 0.8),
        (kept_together, "choice.similar", 0.0, 0.4),
        (linked, "links.strength", 0.0, 0.9),
        (own_repeats, "choice.repeat", 0.0, 0.4),
        (comes_back, "taste.depth.topic", 0.0, 1.0),
    ],
)
def test_moments_rise_with_their_keys(moment, key, low, high):
    more = ["items.new_share=0.4", "items.half_life_h=48", "items.topics=5", "links.density=1", *SEASONS]
    assert moment(world(*more, *_with(key, high))) > moment(world(*more, *_with(key, low))) + 0.005


def _with(key, value):
    """Overrides for a key; taste and the subcategory make room for shares."""
    if key.startswith("choice."):
        return [f"{key}={value}", f"choice.taste={0.55 + float(BASE_CHOICE[key]) - value}"]
    if key == "taste.depth.topic":
        return [f"{key}={value}", f"taste.depth.subcategory={1.0 - value}"]
    if key == "items.seasons.share":  # where items appear and fade as well, the two are hard to tell apart
        return [f"{key}={value}", *NOTHING_APPEARS]
    return [f"{key}={value}"]


SEASONS = ["items.seasons.days=4", "items.seasons.every_days=28"]  # of those items that have any
NOTHING_APPEARS = ["items.new_share=0", "choice.fresh=0", "choice.popular=0.25"]
PLAIN = {"items.seasons.share": NOTHING_APPEARS, "links.strength": ["links.strength=0"]}  # else as the config has it
BASE_CHOICE = {"choice.similar": 0.15, "choice.repeat": 0.05}


@functools.cache
def hidden_and_fitted(*overrides):
    """A world, and what fit makes of its log; the world without further overrides is fitted once for all keys."""
    hidden = ["items.new_share=0.4", "items.half_life_h=48", "links.density=1", "users.count=1000", *SEASONS]
    config = small_config(*hidden, *overrides)
    return config, fit_world(world_log(World.build(config)), small_config(), without=("behaviour",)).config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("items.popularity_exponent", 0.3),
        ("items.rare_share", 0.6),
        ("items.evergreen_share", 0.2),
        ("items.seasons.share", 0.8),
        ("choice.repeat", 0.35),
        ("choice.similar", 0.4),
        ("links.strength", 0.8),
    ],
)
def test_fit_finds_more_of_what_there_is_more_of(key, value):
    (before, found_before), (after, found) = (
        hidden_and_fitted(*PLAIN.get(key, ())),
        hidden_and_fitted(*_with(key, value)),
    )
    change = value_of(after, key) - value_of(before, key)
    assert (value_of(found, key) - value_of(found_before, key)) / change > 0.3


def test_power_law_exponent_gives_the_share_of_the_head():
    appeal = np.sort(np.random.default_rng(0).random(2_000_000) ** -0.4)[::-1]
    assert power_law_exponent(appeal[:20_000].sum() / appeal.sum(), 0.01) == pytest.approx(0.4, abs=0.01)
