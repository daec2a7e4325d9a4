"""Utilities against a slow reading of the keys, one user and item at a time; links against worlds without them."""

import math

import numpy as np
import polars as pl
import pytest

from simulator.draws import mixed, to_uniform
from simulator.population.attraction import LATELY, VARIANTS
from simulator.world.clicks import Cause
from simulator.world.users import UserDraws
from tests.simulator.population.driving import anything, from_pool, keys, live, population
from tests.simulator.worlds import log, small_history, small_world

HOUR_S = 3_600.0


def interests_at(world, user, time_s):
    """Topic of each interest, its subcategory where there are no topics."""
    draws, config = UserDraws(world.config), world.config
    per_epoch = draws.topics(np.array([user]), draws.interests(np.array([user]), draws.epochs(config.days)))[0]
    return [
        int(per_epoch[draws.epoch_at(np.array([user]), np.array([slot]), np.array([time_s]))[0], slot])
        for slot in range(config.taste.interests)
    ]


def met(world, item, topic, favourites):
    """Share of taste.depth at which an item meets an interest."""
    config, shares = world.config, world.config.taste.depth
    subcategory, of_topic = int(world.catalogue.subcategory[item]), int(world.catalogue.topic[item])
    own = topic // config.items.topics
    total = shares.category * (own // config.items.subcategories == subcategory // config.items.subcategories)
    total += shares.subcategory * (own == subcategory)
    return total + shares.topic * (topic == of_topic) + shares.item * (item in favourites)


def readiness_factor(config):
    """What susceptibility must be multiplied by for a mean readiness, at most 1 each, of links.strength; by halving."""
    z = np.linspace(-8.0, 8.0, 16_001)
    density = np.exp(-0.5 * z * z) / np.exp(-0.5 * z * z).sum()
    sd = config.links.susceptibility_sd
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = 0.5 * (low + high)
        mean = (np.minimum(middle * np.exp(sd * z - 0.5 * sd * sd), 1.0) * density).sum()
        low, high = (middle, high) if mean < config.links.strength else (low, middle)
    return middle


def reference(world, weights, user, key, start_s, now_s, item, clicked, before, looked, staples, own=None):
    """Log odds of one item and what a link adds, as the keys describe them.

    ``clicked`` are the visit's clicks, newest first; ``before`` is the latest click before the visit and its time;
    ``own`` are the favourites of each interest, where there are some.
    """
    config, catalogue = world.config, world.catalogue
    factor = VARIANTS[weights.variant]
    focus, slots = config.sessions.focus, config.taste.interests
    share = [math.exp(-config.taste.focus * k) for k in range(slots)]
    share = [x / sum(share) for x in share]
    opened = int(np.searchsorted(np.cumsum(share), to_uniform(mixed(key, np.asarray(-1)))))
    subcategory, group = int(catalogue.subcategory[item]), int(catalogue.group[item])
    total = 0.0
    for slot, interest in enumerate(interests_at(world, user, start_s)):
        chance = focus * (slot == opened) + (1 - focus) * share[slot]
        depth = met(world, item, interest, own[slot] if own else ())
        total += weights.taste * factor.get("taste", 1.0) * math.sqrt(chance) * depth
    age_h = max(0.0, (now_s - float(catalogue.published_s[item])) / HOUR_S)
    half_lives = age_h / config.items.half_life_h
    logs = [math.log(a) for a in catalogue.appeal]
    mean = sum(logs) / len(logs)
    sd = math.sqrt(sum((x - mean) ** 2 for x in logs) / len(logs))
    faded = logs[item] - (0.0 if catalogue.evergreen[item] else half_lives * math.log(2.0))
    total += weights.popularity * factor.get("popularity", 1.0) * max(-3.0, (faded - mean) / sd)
    habits = UserDraws(config).habits(np.array([user]))
    total += weights.freshness * float(habits.novelty[0]) * 2.0**-half_lives
    total += weights.clickbait * bool(catalogue.clickbait[item])
    total += weights.weariness * looked
    total += weights.staple * (item in staples)
    lately = clicked[:LATELY]
    if lately:
        total += weights.similarity * (int(catalogue.group[lately[0]]) == group)
    total += weights.clicked * (item in lately)
    total += weights.satiation * sum(int(catalogue.subcategory[c]) == subcategory for c in lately)
    gradient_stats = [weights.link_fading**k for k in range(len(lately))]
    sources = list(lately)
    if before is not None:
        sources.append(before[0])
        gradient_stats.append(
            weights.link_fading ** len(clicked) * 0.5 ** ((now_s - before[1]) / HOUR_S / weights.link_memory_h)
        )
    ready = min(1.0, readiness_factor(config) * float(habits.susceptibility[0]))
    hits = [
        pull
        for c, pull in zip(sources, gradient_stats, strict=True)
        if group in catalogue.link_targets[catalogue.group[c]]
    ]
    return total, weights.link * factor.get("link", 1.0) * ready * max(hits, default=0.0)


TOPICS = (
    "items.topics=3", "taste.drift_days=0", "taste.depth.category=0.1", "taste.depth.subcategory=0.2",
    "taste.depth.topic=0.4", "taste.depth.item=0.3",
)  # fmt: skip


@pytest.mark.parametrize(("variant", "depth"), [*((name, ()) for name in VARIANTS), ("balanced", TOPICS)])
def test_utilities_are_what_the_keys_say(variant, depth):
    world = ("items.evergreen_share=0.5", "links.targets=2", "links.density=1", "items.new_share=0.4", *depth)
    truth = small_history(*world).ground_truth_users
    favourites = dict(truth.select("user_id", "interest_items").iter_rows()) if depth else {}
    overrides = (f"utility.variant={variant}", "utility.weariness=-0.05")
    of = population(*overrides, world=world)
    hidden, weights = small_world(*world), keys(*overrides).utility
    live(of, 2)
    visits = of.begin_day(2)
    checked = linked = 0
    for row in range(0, len(visits.user), 12):
        user, rows = int(visits.user[row]), np.array([row])
        carried = (int(of._carried.item[user]), float(of._carried.item_s[user]))
        rested = float(of._carried.fatigue[user]) * 0.5 ** (
            (visits.start_s[row] - of._carried.fatigue_s[user]) / HOUR_S / keys().lifecycle.rest_h
        )
        clicked, looked = [], 0
        if visits.ordinal[row] > 0:
            continue  # what these bring along is tested with the responses
        for request in range(4):
            now_s = visits.start_s[rows] + 100.0 * request
            items = anything(of, visits, rows, now_s, request)
            done = of.respond(rows, items, now_s, np.array([request]))
            clicked = [*items[0][done.clicked[0]][::-1].tolist(), *clicked]
            looked += int(done.examined.sum())
        now_s = visits.start_s[rows] + 400.0
        situation = of._visiting.situation(rows, now_s)
        staples = set(situation.staples[:, 0].tolist())
        wanted = [int(t) for c in clicked[:2] for t in hidden.catalogue.link_targets[hidden.catalogue.group[c]]]
        targets = np.flatnonzero(np.isin(hidden.catalogue.group, wanted))[:4]
        pool = np.concatenate(
            [np.arange(0, 800, 90), targets, np.array(clicked[:3], int), list(staples)[:2], *favourites.get(user, [])]
        )
        got = of._attraction(pool[:, None], situation)
        decay = 0.5 ** ((now_s[0] - visits.start_s[row]) / HOUR_S / keys().lifecycle.rest_h)
        for place, item in enumerate(pool):
            before = carried if carried[0] >= 0 else None
            want, pull = reference(
                hidden, weights, user, visits.key[row], float(visits.start_s[row]), float(now_s[0]), int(item),
                clicked, before, looked + rested * decay, staples, favourites.get(user),
            )  # fmt: skip
            assert got.utility[place, 0] == pytest.approx(want, abs=2e-4)
            assert (0.0 if got.link is None else got.link[place, 0]) == pytest.approx(pull, abs=2e-4)
            checked, linked = checked + 1, linked + (pull > 0.01)
    assert checked > 300
    assert (linked > 20) == (variant != "organic_links")


def test_staples_are_those_of_the_history():
    """With no drift, whatever a user clicked as a staple in the history is a staple on the platform."""
    world = ("taste.drift_days=0", "choice.repeat=0.5", "choice.taste=0.1")
    shard, of = small_history(*world), population(world=world)
    clicks = shard.clicks.with_columns(shard.causes["cause"]).filter(pl.col("cause") == int(Cause.REPEAT))
    rows = np.arange(1_500)
    traits = of._traits
    staples = traits.staples(rows, traits.interests_at(rows, np.zeros(1_500)))
    assert len(clicks) > 1_000
    found = (staples[:, clicks["user_id"].to_numpy()] == clicks["item_id"].to_numpy()).any(axis=0)
    assert found.mean() > 0.97  # the rest met an item twice in a session and took another


def test_favourites_are_those_of_the_history_as_interests_drift():
    """Every taste click of the history is on a favourite that the platform knows for the start of the session."""
    world = ("items.topics=3", "taste.drift_days=4", "taste.depth.subcategory=0", "taste.depth.item=1")
    clicks, of = log(*world), population(world=world)
    started = clicks.with_columns(start=pl.col("timestamp").min().over("session") - small_world(*world).start_s)
    taste = started.filter(pl.col("cause") == int(Cause.TASTE))
    rows, time_s = taste["user_id"].to_numpy(), taste["start"].to_numpy() + 0.999  # seconds are cut off in the log
    own = of._traits.favourites(rows, of._traits.interests_at(rows, time_s), time_s)
    assert len(taste) > 10_000
    assert (own == taste["item_id"].to_numpy()).any(
        axis=(0, 1)
    ).mean() > 0.9999  # an interest may change in that second


def test_strength_zero_is_a_world_without_links():
    off = live(population(world=("links.strength=0",)), 3)
    assert off.equals(live(population(world=("links.density=0",)), 3))
    assert (off["cause"] != int(Cause.LINK)).all()


def test_links_of_the_history_alone_leave_slates_alone():
    only_there = live(population("utility.variant=organic_links"), 3)
    assert only_there.equals(live(population("utility.link=0"), 3))
    assert not only_there.equals(live(population(), 3))
    assert (only_there["cause"] != int(Cause.LINK)).all()


@pytest.mark.parametrize(("strength", "sd"), [(0.0, 0.5), (0.3, 1.5), (0.8, 0.5), (1.0, 0.5)])
def test_strength_is_the_mean_readiness_as_in_the_history(strength, sd):
    """Users who would be more than ready leave the rest to the others."""
    world = ("users.count=8000", f"links.strength={strength}", f"links.susceptibility_sd={sd}")
    traits = population(world=world)._traits
    follows = traits.follows
    assert abs(follows.mean() - strength) <= 4 * follows.std() / np.sqrt(8_000)
    assert (follows <= 1.0).all()
    below = follows < 1.0
    each = follows[below] / traits.habits.susceptibility[below]
    assert each == pytest.approx(readiness_factor(small_world(*world).config), rel=1e-5)
    assert below.all() == (strength == 0.0)


def rate_after_source(strength):
    """Clicks per look at link targets in the request after their source was clicked, and at other items."""
    world = ("users.count=4000", f"links.strength={strength}", "links.density=1", "links.susceptibility_sd=0")
    of = population(world=world)
    catalogue = small_world(*world).catalogue
    group = pl.DataFrame({"item": np.arange(len(catalogue)), "group": catalogue.group.astype(np.int64)})
    seen = live(of, 5, from_pool(np.flatnonzero(catalogue.published_s < 0))).join(group, on="item")
    latest = (
        seen.filter("clicked")
        .sort("place")
        .group_by("day", "visit", "request")
        .agg(pl.col("group").last().alias("source"))
        .with_columns(pl.col("request") + 1)
    )
    pairs = pl.DataFrame({"source": np.arange(len(catalogue.link_targets)), "target": catalogue.link_targets[:, 0]})
    after = seen.filter("examined").join(latest, on=["day", "visit", "request"]).join(pairs, on="source")
    linked = after.filter(pl.col("group") == pl.col("target"))
    other = after.filter(pl.col("group") != pl.col("target"))
    return linked["clicked"].mean() / other["clicked"].mean(), (seen["cause"] == int(Cause.LINK)).sum()


def test_targets_are_clicked_more_after_their_source_the_stronger_the_links():
    lifts, causes = zip(*(rate_after_source(strength) for strength in (0.0, 0.3, 1.0)), strict=True)
    assert 0.6 < lifts[0] < 1.5
    assert 1.8 < lifts[1] < lifts[2]
    assert causes[0] == 0
    assert 0 < causes[1] < causes[2]


@pytest.mark.parametrize("kind", ["position", "cascade", "choice"])
def test_clicks_by_links_are_those_that_would_not_have_happened(kind):
    """The same slates in the same situations, answered once more with the pull of links taken away."""
    world = ("links.strength=1", "links.density=1")
    of = population(f"examination.kind={kind}", world=world)
    visits = of.begin_day(0)
    rows, zeros = np.arange(len(visits.user)), np.zeros(len(visits.user), int)
    catalogue = small_world(*world).catalogue
    of.respond(rows, anything(of, visits, rows, visits.start_s, 0), visits.start_s, zeros)
    source = of._visiting.lately[:, 0]
    wanted = catalogue.link_targets[catalogue.group[source], 0]
    slates = anything(of, visits, rows, visits.start_s, 1)
    for row in np.flatnonzero(source >= 0):
        members = np.flatnonzero((catalogue.group == wanted[row]) & (catalogue.published_s < 0))
        slates[row, : len(members[:3])] = members[:3]
    done = of.respond(rows, slates, visits.start_s, zeros + 1)
    again = population(f"examination.kind={kind}", world=world)
    again.begin_day(0)
    again.respond(rows, anything(again, visits, rows, visits.start_s, 0), visits.start_s, zeros)
    again._attraction._has_links = False
    without = again.respond(rows, slates, visits.start_s, zeros + 1)
    by_link = done.cause == int(Cause.LINK)
    assert by_link.sum() > 30
    assert (by_link == (done.clicked & ~without.clicked)).all()
