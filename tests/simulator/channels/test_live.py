"""What channels know within the day: items published since the morning, and follows of a moment ago."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.channels import channel_trainer
from simulator.channels.follow import distinct
from simulator.ports import Announced, LiveMatcher, Requests
from tests.simulator.channels.logs import DAY_S, START_S, check_lists, random_log, random_requests

HOUR_S = 3_600


def channel(kind, log, folder, **options):
    trainer = channel_trainer(kind, options)
    trainer.train(log, previous=None, folder=folder, seed=0)
    return trainer.load(folder)


def morning_of(log, days):
    """The log as it stood after so many days, and what is announced of the day that begins."""
    now = START_S + days * DAY_S
    then = dataclasses.replace(
        log,
        items=log.items.filter(pl.col("published") <= now),
        clicks=log.clicks.filter(pl.col("timestamp") < now),
        impressions=log.impressions.filter(pl.col("timestamp") < now),
        now_s=float(days * DAY_S),
    )
    out = log.items.filter(pl.col("published") < now + DAY_S)
    return then, Announced(out["item_id"].to_numpy(), (out["published"] - START_S).cast(pl.Float64).to_numpy())


@pytest.mark.parametrize("explore", [0.0, 0.7])
def test_fresh_offers_an_item_from_the_moment_of_its_publication(explore, tmp_path):
    log, announced = morning_of(random_log(), 3)
    model = channel("fresh", log, tmp_path / "v1", explore=explore, hide_recent=False)
    assert isinstance(model, LiveMatcher)
    late = announced.items[announced.at_s > log.now_s]
    assert len(late) >= 3
    requests = random_requests(log, 50)._replace(now_s=log.now_s + np.linspace(0, DAY_S, 50))
    known = set(log.items["item_id"].to_list())
    check_lists(model.retrieve(requests, 80), known, 80)  # as yet nothing has been announced
    model.announce(announced)
    lists = model.retrieve(requests, 80)
    check_lists(lists, known | set(late.tolist()), 80)
    at_s = dict(zip(announced.items.tolist(), announced.at_s.tolist(), strict=True))
    for items, now_s in zip(lists.items, requests.now_s, strict=True):
        assert set(items.tolist()) & set(late.tolist()) == {item for item in late.tolist() if at_s[item] <= now_s}
    alone = model.retrieve(Requests(*(column[:7] for column in requests)), 80)
    np.testing.assert_array_equal(alone.items, lists.items[:7])


@pytest.mark.parametrize("explore", [0.0, 0.7])
@pytest.mark.parametrize("max_age_h", [5.0, 30.0])
def test_fresh_offers_nothing_older_than_its_age_at_the_moment_of_the_request(explore, max_age_h, tmp_path):
    log, announced = morning_of(random_log(), 3)
    model = channel("fresh", log, tmp_path / "v1", explore=explore, hide_recent=False, max_age_h=max_age_h)
    model.announce(announced)
    requests = random_requests(log, 60)._replace(now_s=log.now_s + np.linspace(0, DAY_S, 60))
    published_s = dict(zip(announced.items.tolist(), announced.at_s.tolist(), strict=True))
    for items, now_s in zip(model.retrieve(requests, 200).items, requests.now_s, strict=True):
        shown = set(items[items >= 0].tolist())
        assert shown == {item for item, at_s in published_s.items() if 0 <= now_s - at_s <= max_age_h * HOUR_S}


def test_a_new_item_stands_where_its_age_and_the_average_rate_put_it(tmp_path):
    """By log of rate and age at the request, computed here anew."""
    log, announced = morning_of(random_log(), 3)
    model = channel("fresh", log, tmp_path / "v1", explore=0.0, hide_recent=False, half_life_h=24.0, max_age_h=72.0)
    model.announce(announced)
    now_s = log.now_s + DAY_S
    lists = model.retrieve(random_requests(log, 1)._replace(now_s=np.array([now_s])), 80)
    impressions = log.impressions.join(log.items, on="item_id", how="semi")  # this log shows items before they are out
    shown = impressions.group_by("item_id").agg(pl.len(), pl.col("clicked").sum())
    counts = {item: (n, hits) for item, n, hits in shown.iter_rows()}
    average = (impressions["clicked"].sum() + 1) / (len(impressions) + 20)
    expected = {}
    for item, at_s in zip(announced.items.tolist(), announced.at_s.tolist(), strict=True):
        if at_s >= now_s - 72 * HOUR_S:
            n, hits = counts.get(item, (0, 0))
            expected[item] = np.log((hits + 50 * average) / (n + 50)) - np.log(2) * (now_s - at_s) / (24 * HOUR_S)
    order = sorted(expected, key=lambda item: -expected[item])
    assert lists.items[0, : len(order)].tolist() == order


def test_without_live_or_for_the_next_version_nothing_is_added(tmp_path):
    log, announced = morning_of(random_log(), 3)
    requests = random_requests(log, 20)._replace(now_s=np.full(20, log.now_s + DAY_S))
    still = channel("fresh", log, tmp_path / "v1", live=False)
    before = still.retrieve(requests, 30)
    still.announce(announced)
    np.testing.assert_array_equal(still.retrieve(requests, 30).items, before.items)
    tomorrow, _ = morning_of(random_log(), 4)
    model = channel("fresh", tomorrow, tmp_path / "v2")
    before = model.retrieve(requests, 30)
    model.announce(announced)  # all of it is in the version already
    np.testing.assert_array_equal(model.retrieve(requests, 30).items, before.items)


@pytest.mark.parametrize("likes", [False, True])
def test_follow_serves_whom_the_request_says_are_followed_then_whom_the_log_says(likes, tmp_path):
    log = random_log()
    model = channel("follow", log, tmp_path / "v1", providers=3, likes=likes, hide_recent=False, items=4)
    requests = random_requests(log, 40)
    rng = np.random.default_rng(1)
    follows = np.where(rng.random((40, 5)) < 0.4, -1, rng.integers(0, 90, (40, 5)))  # from 80 on unknown items
    lists = model.retrieve(requests._replace(follows=follows), 20)
    provider = log.items["provider"].to_list()
    for row, user in enumerate(requests.user_ids.tolist()):
        theirs = log.clicks.filter(pl.col("user_id") == user).filter(pl.col("follow") | (pl.col("like") & likes))
        past = [provider[item] for item in reversed(theirs["item_id"].to_list())]
        kept = list(dict.fromkeys(past))[:3]
        names = list(dict.fromkeys([provider[item] for item in follows[row].tolist() if 0 <= item < 80] + kept))[:3]
        shown = {provider[item] for item in lists.items[row].tolist() if item >= 0}
        assert shown == set(names)
    none = model.retrieve(requests._replace(follows=np.full((40, 5), -1)), 20)
    np.testing.assert_array_equal(none.items, model.retrieve(requests, 20).items)


@given(st.lists(st.lists(st.integers(-1, 4), min_size=6, max_size=6), min_size=1, max_size=5), st.integers(1, 7))
@settings(max_examples=80, deadline=None)
def test_distinct_values_keep_their_order(rows, most):
    found = distinct(np.array(rows), most)
    for row, values in zip(rows, found.tolist(), strict=True):
        assert [value for value in values if value >= 0] == list(dict.fromkeys(v for v in row if v >= 0))[:most]
