"""Keys of users, tastes and sessions: each moves its statistic, and nothing that it should not."""

import numpy as np
import polars as pl
import pytest

from simulator.world.clicks import Cause
from tests.simulator.effects import HISTORY, SESSIONS, WHICH_ITEMS, Effect
from tests.simulator.worlds import log, small_history

FIXED = ("taste.drift_days=0", "sessions.per_user=8", "sessions.focus=0", "choice.taste=0.8", "choice.popular=0",
         "choice.repeat=0", "choice.similar=0.1", "users.churn_per_day=0")  # fmt: skip
ONE_FIELD = ("users.fields.kind.values=6", "users.fields.kind.exponent=0", "users.fields.kind.effect=1")
EVENING = "sessions.hourly=[1,1,1,0,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,{0},{0},{0},1,1]"
WEEKEND = "sessions.weekly=[1,1,1,1,1,{0},{0}]"


def users_seen(*overrides: str) -> float:
    return len(small_history(*overrides).users)


def visits(*overrides: str) -> pl.DataFrame:
    """One row per session."""
    clicks = log(*overrides)
    return clicks.group_by("session", maintain_order=True).agg(
        pl.first("user_id", "timestamp", "day"), pl.len().alias("clicks")
    )


def taste_clicks(*overrides: str) -> pl.DataFrame:
    return log(*overrides).filter(pl.col("cause") == Cause.TASTE)


def late_comers(*overrides: str) -> float:
    """Share of users first seen in the second half."""
    return float((visits(*overrides).group_by("user_id").agg(pl.min("day"))["day"] >= 7).mean())


def sessions_cv(*overrides: str) -> float:
    counts = visits(*overrides)["user_id"].value_counts()["count"].to_numpy()
    return float(counts.std() / counts.mean())


def leavers(*overrides: str) -> float:
    """Share of the users of the first four days who are not seen in the last four."""
    days = visits(*overrides).group_by("user_id").agg(pl.min("day").alias("first"), pl.max("day").alias("last"))
    return float((days.filter(pl.col("first") < 4)["last"] < 10).mean())


def field_values(*overrides: str) -> float:
    return small_history(*overrides).users["kind"].n_unique()


def commonest_value(*overrides: str) -> float:
    return float(small_history(*overrides).users["kind"].value_counts()["count"].max()) / users_seen(*overrides)


def told_by_field(*overrides: str) -> float:
    """Total variation between the category shares of taste clicks of a value's users and of all, averaged."""
    clicks = taste_clicks(*overrides).join(small_history(*overrides).users, on="user_id")
    table = clicks.pivot("category", index="kind", values="item_id", aggregate_function="len").drop("kind")
    counts = table.fill_null(0).to_numpy().astype(float)
    shares, overall = counts / counts.sum(axis=1, keepdims=True), counts.sum(axis=0) / counts.sum()
    return float(np.average(0.5 * np.abs(shares - overall).sum(axis=1), weights=counts.sum(axis=1)))


def subcategories_per_user(*overrides: str) -> float:
    users = taste_clicks(*overrides).group_by("user_id").agg(pl.n_unique("subcategory"), pl.len())
    return float(users.filter(pl.col("len") >= 20)["subcategory"].mean())


def top_interest_share(*overrides: str) -> float:
    """Share of a user's favourite subcategory among the taste clicks."""
    places = taste_clicks(*overrides).group_by("user_id", "subcategory").len()
    users = places.group_by("user_id").agg((pl.max("len") / pl.sum("len")).alias("top"), pl.sum("len"))
    return float(users.filter(pl.col("len") >= 20)["top"].mean())


def same_taste_a_week_on(*overrides: str) -> float:
    """Chance that taste clicks of a user's first and last three days are of one subcategory."""
    clicks = taste_clicks(*overrides)
    first = clicks.filter(pl.col("day") < 3).group_by("user_id", "subcategory").len()
    last = clicks.filter(pl.col("day") >= 11).group_by("user_id", "subcategory").len()
    both = first.join(last, on="user_id")
    same = pl.col("subcategory") == pl.col("subcategory_right")
    pairs = pl.col("len").cast(pl.Int64) * pl.col("len_right").cast(pl.Int64)
    return float(both.select((pairs * same).sum() / pairs.sum()).item())


def first_category(*overrides: str) -> float:
    return float((taste_clicks(*overrides)["category"] == 0).mean())


def sessions_per_user(*overrides: str) -> float:
    return visits(*overrides)["session"].len() / users_seen(*overrides)


def clicks_per_session(*overrides: str) -> float:
    return float(visits(*overrides)["clicks"].mean())


def session_length_between_users(*overrides: str) -> float:
    """Correlation of the lengths of two sessions of one user: a user's first against the second."""
    lengths = (
        visits(*overrides)
        .group_by("user_id", maintain_order=True)
        .agg("clicks")
        .filter(pl.col("clicks").list.len() > 1)
    )
    first, second = (np.log(lengths["clicks"].list.get(place).to_numpy()) for place in (0, 1))
    return float(np.corrcoef(first, second)[0, 1])


def one_interest_in_a_session(*overrides: str) -> float:
    """Share of taste clicks that follow another at once and stay in its subcategory."""
    clicks = log(*overrides)
    taste, same = pl.col("cause") == Cause.TASTE, pl.col("session") == pl.col("session").shift()
    pairs = clicks.filter(taste & taste.shift() & same)
    both = clicks.filter(taste & taste.shift() & same & (pl.col("subcategory") == pl.col("subcategory").shift()))
    return len(both) / len(pairs)


def pause_s(*overrides: str) -> float:
    """Seconds between the end of a dwell and the next click, in sessions of at most half an hour."""
    clicks = log(*overrides)
    span = (pl.max("timestamp") - pl.min("timestamp")).over("session")
    pause = (pl.col("timestamp").shift(-1) - pl.col("timestamp") - pl.col("dwell_s")).alias("pause")
    same = pl.col("session") == pl.col("session").shift(-1)
    return float(
        clicks.with_columns(pause, same.alias("same"), span.alias("span"))
        .filter(pl.col("same") & (pl.col("span") < 1_800))["pause"]
        .mean()
    )


def in_the_evening(*overrides: str) -> float:
    hour = visits(*overrides)["timestamp"] // 3_600 % 24
    return float(hour.is_between(19, 21).mean())


def at_the_weekend(*overrides: str) -> float:
    return float((visits(*overrides)["day"] % 7 >= 5).mean())


EFFECTS = {
    "users.count": Effect(700, 1500, users_seen, 800, f"users {HISTORY}"),
    "users.new_share": Effect(0.1, 0.9, late_comers, 0.2, HISTORY),
    "users.activity_sd": Effect(0.2, 1.5, sessions_cv, 0.3, HISTORY),
    "users.churn_per_day": Effect(0, 0.2, leavers, 0.2, HISTORY),
    "users.fields.*.values": Effect(6, 12, field_values, 6, f"users {WHICH_ITEMS}", ONE_FIELD),
    "users.fields.*.exponent": Effect(0, 1.5, commonest_value, 0.2, f"users {WHICH_ITEMS}", ONE_FIELD),
    "users.fields.*.effect": Effect(0, 2, told_by_field, 0.2, WHICH_ITEMS, ONE_FIELD),
    "taste.interests": Effect(2, 8, subcategories_per_user, 2, WHICH_ITEMS, (*FIXED, "taste.focus=0")),
    "taste.focus": Effect(0, 3, top_interest_share, 0.2, WHICH_ITEMS, FIXED),
    "taste.drift_days": Effect(3, 0, same_taste_a_week_on, 0.1, WHICH_ITEMS, FIXED),
    "taste.category_exponent": Effect(0, 2, first_category, 0.2, WHICH_ITEMS),
    "sessions.per_user": Effect(2, 6, sessions_per_user, 3.5, HISTORY),
    "sessions.clicks": Effect(3, 7, clicks_per_session, 3.6, SESSIONS),
    "sessions.patience_sd": Effect(0, 1, session_length_between_users, 0.2, SESSIONS),
    "sessions.focus": Effect(0, 1, one_interest_in_a_session, 0.2, WHICH_ITEMS),
    "sessions.browse_s": Effect(0, 20, pause_s, 15, "times"),
    "sessions.hourly": Effect(EVENING.format(1), EVENING.format(8), in_the_evening, 0.3, HISTORY),
    "sessions.weekly": Effect(WEEKEND.format(1), WEEKEND.format(4), at_the_weekend, 0.2, HISTORY),
}


@pytest.mark.parametrize("key", EFFECTS)
def test_the_key_moves_its_statistic_and_nothing_else(key):
    EFFECTS[key].check(key)
