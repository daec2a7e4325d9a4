"""Keys of choices, planted links and the log as a whole: each moves its statistic, and nothing that it should not."""

import datetime

import polars as pl
import pytest

from simulator.world.clicks import Cause
from simulator.world.item_table import dataset_schema, ground_truth_links
from tests.simulator.effects import (
    ABOUT,
    HISTORY,
    PLACES,
    SESSIONS,
    TRAITS,
    WHICH_ITEMS,
    Effect,
    cause_share,
    excess_sd,
)
from tests.simulator.worlds import log, small_config, small_history, small_world

NO_LINKS = ("links.strength=0",)
STRONG = ("links.strength=0.5", "links.density=1", "sessions.clicks=10")
ONE_REPEATS = ("choice.repeat=0.4", "choice.taste=0.2", "sessions.per_user=8")


def links(*overrides: str) -> pl.DataFrame:
    return ground_truth_links(small_config(*overrides), small_world(*overrides).catalogue)


def name_length(*overrides: str) -> float:
    return len(dataset_schema(small_config(*overrides)).name)


def first_click_day(*overrides: str) -> float:
    """Days since 2024-01-01, days from four to four."""
    epoch = datetime.datetime(2024, 1, 1, 4, tzinfo=datetime.UTC).timestamp()
    return float((log(*overrides)["timestamp"].min() - epoch) // 86_400)


def last_click_day(*overrides: str) -> float:
    return float(log(*overrides)["day"].max())


def users_in_the_log(*overrides: str) -> float:
    return -float(len(small_history(*overrides).users))


def unlike_seed_0(*overrides: str) -> float:
    """Share of users whose first item is not that of the world with seed 0."""
    mine, theirs = (log(*world).group_by("user_id").agg(pl.first("item_id")) for world in (overrides, ()))
    return float(mine.join(theirs, on="user_id").select((pl.col("item_id") != pl.col("item_id_right")).mean()).item())


def staples_per_user(*overrides: str) -> float:
    """Distinct items among the repeat clicks of users with at least ten of them."""
    repeats = (
        log(*overrides)
        .filter(pl.col("cause") == Cause.REPEAT)
        .group_by("user_id")
        .agg(pl.n_unique("item_id"), pl.len())
    )
    return float(repeats.filter(pl.col("len") >= 10)["item_id"].mean())


def fresh_between_users(*overrides: str) -> float:
    return excess_sd(log(*overrides), Cause.FRESH)


def followers_apart(*overrides: str) -> float:
    """Sd between users of the share of linked clicks, beyond chance."""
    return excess_sd(log(*overrides), Cause.LINK)


def source_groups(*overrides: str) -> float:
    return float(links(*overrides)["source_group"].n_unique())


def targets_per_source(*overrides: str) -> float:
    return len(links(*overrides)) / source_groups(*overrides)


def returned(*overrides: str) -> float:
    """Share of links that run back as well."""
    pairs = set(links(*overrides)["source_group", "target_group"].iter_rows())
    return sum((target, source) in pairs for source, target in pairs) / len(pairs)


def share(cause: Cause, name: str) -> Effect:
    """More of one choice at the expense of taste; where taste itself is meant, at that of popularity."""
    other = "popular" if name == "taste" else "taste"
    rest = {"taste": 0.70, "popular": 0.70, "fresh": 0.65, "similar": 0.70, "repeat": 0.60}[name]  # of the two together
    less, more = (f"choice.{name}={value:g} choice.{other}={rest - value:g}" for value in (0.05, 0.45))
    return Effect(less, more, cause_share(cause), 0.25, WHICH_ITEMS, NO_LINKS)


def repeats(*overrides: str) -> float:
    """Share of the clicks on what the user clicked before."""
    clicks = log(*overrides)
    return 1.0 - len(clicks.select("user_id", "item_id").unique()) / len(clicks)


EFFECTS = {
    "name": Effect("w", "world_2", name_length, 6, "name"),
    "seed": Effect(0, 9, unlike_seed_0, 0.9, f"users links {HISTORY} {PLACES} {ABOUT} {TRAITS}"),
    "start": Effect("2024-01-01", "2024-02-12", first_click_day, 42, "times starts item.published"),
    "days": Effect(7, 14, last_click_day, 7, f"users {HISTORY}"),
    "window_days": Effect(14, 28, users_in_the_log, 300, f"users {HISTORY} item.published", ("days=14",)),
    "choice.taste": share(Cause.TASTE, "taste"),
    "choice.popular": share(Cause.POPULAR, "popular"),
    "choice.fresh": share(Cause.FRESH, "fresh"),
    "choice.similar": share(Cause.SIMILAR, "similar"),
    "choice.repeat": share(Cause.REPEAT, "repeat"),
    "choice.once": Effect("log", "none", repeats, 0.1, SESSIONS, ("choice.repeat=0", "choice.taste=0.6")),
    "choice.staples": Effect(1, 8, staples_per_user, 2, WHICH_ITEMS, ONE_REPEATS),
    "choice.novelty_sd": Effect(0, 1, fresh_between_users, 0.05, WHICH_ITEMS),
    "links.density": Effect(0.1, 0.5, source_groups, 19, f"links {WHICH_ITEMS}"),
    "links.targets": Effect(1, 3, targets_per_source, 2, f"links {WHICH_ITEMS}"),
    "links.mutual": Effect(0, 1, returned, 0.99, f"links {WHICH_ITEMS}"),
    "links.strength": Effect(0, 0.6, cause_share(Cause.LINK), 0.08, WHICH_ITEMS),
    "links.susceptibility_sd": Effect(0, 1, followers_apart, 0.05, WHICH_ITEMS, STRONG),
}


@pytest.mark.parametrize("key", EFFECTS)
def test_the_key_moves_its_statistic_and_nothing_else(key):
    EFFECTS[key].check(key)
