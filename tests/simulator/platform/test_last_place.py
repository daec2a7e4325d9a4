"""Propensities are exact, policies are logged without touching anything, and their truth is what users would do."""

import numpy as np
import polars as pl
import pytest

from simulator.draws import mixed
from simulator.platform.choice import explore
from simulator.platform.last_place import explored_among, policy_columns, propensities
from tests.abtest.online.tiny_runs import run, tiny

EXPLORE = ("platform.pipeline.explore=0.5", "platform.pipeline.explore_among=4")
POLICIES = "platform.pipeline.policies=[ranking,item_cf]"


@pytest.mark.parametrize("among", [None, 3])
def test_logged_chances_are_the_frequencies(among):
    """20,000 requests with ten candidates and four places: each candidate is last as often as its chance says."""
    n, k, rate = 20_000, 4, 0.6
    ranking, chance = np.tile(np.arange(10), (n, 1)), np.ones((n, k), np.float32)
    many = np.full(n, 10)
    explore(ranking, chance, rate, k, many, mixed(np.arange(n, dtype=np.uint64), np.asarray(5)), among)
    places = np.tile(np.arange(k - 1, 10), (n, 1))
    wanted = propensities(places, k, rate, explored_among(many, k, among))[0]
    assert wanted.sum() == pytest.approx(1.0)
    shown = np.bincount(ranking[:, k - 1], minlength=10)[k - 1 :] / n
    assert np.abs(shown - wanted).max() < 4 * np.sqrt(0.25 / n)
    assert (chance[:, k - 1] == wanted[ranking[:, k - 1] - k + 1]).all()


def test_a_policy_takes_the_best_ranked_candidate_of_its_channel():
    channel = np.array([[0, 0, 1, 0, 1], [0, 0, 0, 0, 0]], np.int8)
    ranking = np.array([[4, 3, 2, 1, 0], [0, 1, 2, 3, 4]])
    found = policy_columns(["ranking", "b", "a"], ["a", "b"], ranking, channel, 2)
    assert found.tolist() == [[1, 2, 1], [1, 1, 1]]  # without a candidate of its own: ranking's


def test_no_chance_beyond_what_exploration_reaches():
    places, among = np.array([[3, 4, 6, 7]]), np.array([3])
    assert propensities(places, 4, 0.3, among)[0].tolist() == pytest.approx([0.7, 0.1, 0.1, 0.0])
    assert propensities(places, 4, 0.3, np.array([0]))[0].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_logging_policies_changes_nothing_else():
    """Asking users what they would have done leaves them as they are."""
    plain, logged = run(*EXPLORE), run(*EXPLORE, POLICIES)
    for table in ("requests", "impressions", "behaviours"):
        assert plain.table(table).equals(logged.table(table))


def test_where_a_policy_agrees_with_what_was_shown_its_truth_is_what_happened():
    found = run(*EXPLORE, POLICIES)
    keys = ["day", "visit", "request"]
    last = tiny().platform.pipeline.slate_size - 1
    policies = found.table("policies").join(
        found.table("ground_truth_policies").select(*keys, "policy", truth="clicked"), on=[*keys, "policy"]
    )
    shown = found.table("impressions").filter(pl.col("position") == last)
    both = policies.join(shown.select(*keys, "clicked", shown="item_id", chance="propensity"), on=keys)
    assert len(both) == len(policies) == 2 * len(shown)
    same = both.filter(pl.col("item_id") == pl.col("shown"))
    assert 0 < len(same) < len(both)
    assert (same["truth"] == same["clicked"]).all()
    assert same["propensity"].to_numpy() == pytest.approx(same["chance"].to_numpy())


def test_two_channels_draft_on_the_platform():
    """A channel and its twin share one model, and the log credits both; ranking knows them as one."""
    twin = "platform.pipeline.channels.twin={kind: item_cf, k: 40, quota: 20}"
    found = run(twin, "platform.pipeline.merge.draft=[item_cf,twin]")
    models = {path.name for path in found.folder.glob("day-*/models/*")}
    assert not any(name.startswith("twin") for name in models)
    shown = found.table("impressions").group_by("channel").len()
    counts = dict(shown.iter_rows())
    assert counts["item_cf"] + counts["twin"] > 500
    assert 0.9 < counts["item_cf"] / counts["twin"] < 1.1
