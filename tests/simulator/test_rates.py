"""Rates out = rates in: what a history holds is what its keys say, within the error of the sample.

Clicks of one user share the user's habits, so every error is taken over users, not clicks.
"""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from simulator.world.clicks import Cause
from simulator.world.items import counts
from tests.simulator.worlds import log, small_config, small_history, small_world

BASE = ("users.count=4000",)
WORLDS = {
    "default": BASE,
    "generous": (*BASE, "behaviour.like_rate=0.2", "behaviour.follow_rate=0.05", "behaviour.follow_given_like=0.2"),
    "no habits": (*BASE, "behaviour.like_user=0", "behaviour.like_quality=0", "behaviour.like_dwell=0"),
    "quality": (*BASE, "behaviour.like_quality=0.7", "behaviour.dwell_quality=0.6", "items.quality_appeal=0.8"),
    "bait": (*BASE, "items.clickbait_share=0.3", "behaviour.like_quality=-0.4", "behaviour.dwell_log_sd=1.37"),
    "news": (*BASE, "items.evergreen_share=0", "items.new_share=0.7", "behaviour.dwell_log_mean=2.88"),
    "linked": (*BASE, "links.strength=0.9", "links.density=1", "users.churn_per_day=0.2", "behaviour.like_rate=0.1",
               "behaviour.follow_given_like=0.01"),
}  # fmt: skip


def share_is(clicks: pl.DataFrame, hit: pl.Expr, rate: float, *, errors: float = 4.0) -> bool:
    """Whether the share of clicks is ``rate`` within that many standard errors, users being the sample."""
    users = clicks.group_by("user_id").agg(hit.sum().cast(pl.Float64).alias("hits"), pl.len().alias("n"))
    residual = users["hits"].to_numpy() - rate * users["n"].to_numpy()
    return bool(abs(residual.sum()) <= errors * np.sqrt((residual**2).sum()))


@pytest.mark.parametrize("world", WORLDS)
def test_behaviour_rates(world):
    keys, clicks = small_config(*WORLDS[world]).behaviour, log(*WORLDS[world])
    assert share_is(clicks, pl.col("like"), keys.like_rate)
    assert share_is(clicks, pl.col("follow"), keys.follow_rate)
    assert share_is(clicks.filter("like"), pl.col("follow"), keys.follow_given_like)
    depth = ((pl.col("dwell_s").log() - keys.dwell_log_mean) / keys.dwell_log_sd).alias("depth")
    clicks = clicks.with_columns(depth)
    assert share_is(clicks, pl.col("depth"), 0.0)
    assert share_is(clicks, pl.col("depth") ** 2, 1.0)


@pytest.mark.parametrize("world", WORLDS)
def test_dwell_is_log_normal(world):
    """Every decile holds a tenth of the clicks."""
    keys = small_config(*WORLDS[world]).behaviour
    for tenth in range(1, 10):
        edge = np.exp(keys.dwell_log_mean + keys.dwell_log_sd * stats.norm.ppf(tenth / 10))
        assert share_is(log(*WORLDS[world]), pl.col("dwell_s") < edge, tenth / 10)


@pytest.mark.parametrize("world", ["default", "quality", "bait"])
def test_dwell_depends_as_the_weights_say(world):
    """Regression of log dwell on the two hidden traits, as both are standard normal over clicks and independent."""
    keys = small_config(*WORLDS[world]).behaviour
    habits = small_history(*WORLDS[world]).ground_truth_users.select("user_id", habit="dwell")
    clicks = log(*WORLDS[world]).join(habits, on="user_id", maintain_order="left")
    depth = (np.log(clicks["dwell_s"].to_numpy()) - keys.dwell_log_mean) / keys.dwell_log_sd
    traits = np.stack([np.ones(len(clicks)), clicks["habit"], clicks["quality"]], axis=1)
    weights = np.linalg.lstsq(traits, depth, rcond=None)[0]
    np.testing.assert_allclose(weights, [0.0, keys.dwell_user, keys.dwell_quality], atol=4 * clustered_error(clicks))


def clustered_error(clicks: pl.DataFrame) -> float:
    """Standard error of a weight of standard normal traits, no smaller than that of users as a sample."""
    sizes = clicks.group_by("user_id").len()["len"].to_numpy().astype(float)
    return float(np.sqrt((sizes**2).sum()) / sizes.sum())


@pytest.mark.parametrize("world", ["generous", "linked"])
def test_like_rises_with_dwell_habit_and_quality_as_the_model_implies(world):
    """The chance to like given a trait is that of a normal tail (probit), whatever else the world does."""
    keys = small_config(*WORLDS[world]).behaviour
    habits = small_history(*WORLDS[world]).ground_truth_users.select("user_id", habit="like")
    clicks = (
        log(*WORLDS[world])
        .join(habits, on="user_id", maintain_order="left")
        .with_columns(depth=(pl.col("dwell_s").log() - keys.dwell_log_mean) / keys.dwell_log_sd)
    )
    above = stats.norm.isf(keys.like_rate)
    with_depth = keys.like_dwell + keys.like_quality * keys.dwell_quality  # covariance of liking with each trait
    with_quality = keys.like_quality + keys.like_dwell * keys.dwell_quality
    for trait, weight in (("habit", keys.like_user), ("depth", with_depth), ("quality", with_quality)):
        chance = stats.norm.sf((above - weight * clicks[trait].to_numpy()) / np.sqrt(1 - weight**2))
        scored = clicks.with_columns(chance=chance)
        for low, high in ((-9, -0.7), (-0.7, 0.7), (0.7, 9)):
            part = scored.filter(pl.col(trait).is_between(low, high))
            surplus = pl.col("like").cast(pl.Float64) - pl.col("chance")
            assert share_is(part, surplus, 0.0), (trait, low)


def test_quality_is_standard_normal_over_clicks():
    """Whatever quality is over items; that is what the rates of likes rest on."""
    for world in ("default", "quality", "bait", "news"):
        quality = log(*WORLDS[world])["quality"].to_numpy()
        assert abs(quality.mean()) < 0.05, world
        assert abs(quality.std() - 1) < 0.05, world


SHARES = {
    "default": ("links.strength=0",),
    "linked": ("links.strength=0.6", "links.density=0.5"),
    "fresh": ("links.strength=0.3", "choice.fresh=0.7", "choice.taste=0.1", "choice.popular=0", "choice.novelty_sd=1"),
    "no taste": ("choice.taste=0", "choice.popular=0.3", "choice.fresh=0.2", "choice.similar=0.4", "choice.repeat=0.1"),
}


@pytest.mark.parametrize("world", SHARES)
def test_choices_have_their_shares_where_no_link_is_followed(world):
    """After the first click of a session, which has nothing to be similar to; there taste takes the part of similar."""
    choice = small_config(*SHARES[world]).choice
    clicks = log(*SHARES[world]).with_columns(first=pl.int_range(pl.len()).over("session") == 0)
    shares = dict(zip(Cause, (choice.taste, choice.popular, choice.fresh, choice.similar, choice.repeat), strict=False))
    later = clicks.filter(~pl.col("first") & (pl.col("cause") != Cause.LINK))
    opening = clicks.filter("first")
    for cause, share in shares.items():
        assert share_is(later, pl.col("cause") == cause, share), cause
        at_first = {Cause.TASTE: choice.taste + choice.similar, Cause.SIMILAR: 0.0}.get(cause, share)
        assert share_is(opening, pl.col("cause") == cause, at_first), cause


@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("sessions.per_user=1.5", "users.activity_sd=0"),
        ("sessions.per_user=12", "users.churn_per_day=0", "users.new_share=0"),
        ("sessions.per_user=3", "users.churn_per_day=0.3", "users.new_share=1"),
        ("sessions.per_user=3", "window_days=28", "days=28", "users.activity_sd=1.5"),
    ],
)
def test_sessions_per_user(keys):
    """Every user comes at least once, and as often as configured on average."""
    world = (*BASE, *keys)
    config, clicks = small_config(*world), log(*world)
    sessions = clicks.group_by("user_id").agg(pl.n_unique("session"))["session"].to_numpy()
    assert len(sessions) == config.users.count == len(small_history(*world).users)
    error = sessions.std() / np.sqrt(len(sessions))
    assert abs(sessions.mean() - config.sessions.per_user) < 4 * error + 0.005 * config.sessions.per_user


@pytest.mark.parametrize(("mean", "sd"), [(2.0, 0.0), (5.0, 0.3), (20.0, 1.0)])
def test_clicks_per_session(mean, sd):
    world = (*BASE, f"sessions.clicks={mean}", f"sessions.patience_sd={sd}")
    sessions = log(*world).group_by("user_id", "session").len().with_columns(pl.col("len").cast(pl.Float64))
    assert share_is(sessions, pl.col("len") / mean, 1.0)
    if sd == 0:  # geometric from 1 on
        counts = np.bincount(sessions["len"].cast(pl.Int64).to_numpy(), minlength=6)[1:6]
        expected = len(sessions) / mean * (1 - 1 / mean) ** np.arange(5)
        np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(expected.max()))


@pytest.mark.parametrize("share", [0.0, 0.15, 0.8])
def test_items_are_out_when_they_should_be(share):
    world = ("items.count=1400", f"items.new_share={share}")
    config, catalogue = small_config(*world), small_world(*world).catalogue
    start, daily = counts(config)
    assert start + 14 * daily == len(catalogue) == 1400
    assert abs(daily * 14 / 1400 - share) <= 7 / 1400
    assert (catalogue.published_s[:start] < 0).all()
    day = catalogue.published_s[start:] // 86_400
    assert (day == np.repeat(np.arange(14), daily)).all()


@pytest.mark.parametrize("world", ["default", "news", "linked"])
def test_nothing_is_clicked_before_it_is_out(world):
    assert log(*WORLDS[world])["age_s"].min() >= 0


def test_hours_and_days_have_their_share():
    """As every visit is one of a Poisson process where nobody is new and nobody leaves."""
    world = (*BASE, "sessions.per_user=6", "users.new_share=0", "users.churn_per_day=0")
    sessions = small_config(*world).sessions
    starts = log(*world).group_by("session").agg(pl.first("timestamp", "day", "user_id"))
    hour = np.bincount(starts["timestamp"].to_numpy() // 3_600 % 24, minlength=24) / len(starts)
    np.testing.assert_allclose(hour, np.array(sessions.hourly) / sum(sessions.hourly), atol=0.006)
    assert hour[3] == 0
    day = np.bincount(starts["day"].to_numpy() % 7, minlength=7) / len(starts)
    np.testing.assert_allclose(day, np.array(sessions.weekly) / sum(sessions.weekly), atol=0.008)
