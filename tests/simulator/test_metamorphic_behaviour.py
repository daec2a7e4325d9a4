"""Keys of behaviour: each moves its statistic, and never which items are clicked."""

import polars as pl
import pytest

from tests.simulator.effects import Effect
from tests.simulator.worlds import log, small_history

LIKES = ("behaviour.like_rate=0.2", "behaviour.follow_given_like=0.01", "sessions.per_user=8")


def log_dwell(*overrides: str) -> pl.DataFrame:
    traits = small_history(*overrides).ground_truth_users.select("user_id", user_dwell="dwell", user_like="like")
    return log(*overrides).join(traits, on="user_id", maintain_order="left").with_columns(pl.col("dwell_s").log())


def correlation(first: str, second: str):
    return lambda *overrides: float(log_dwell(*overrides).select(pl.corr(first, second)).item())


def dwell_mean(*overrides: str) -> float:
    return float(log_dwell(*overrides)["dwell_s"].mean())


def dwell_sd(*overrides: str) -> float:
    return float(log_dwell(*overrides)["dwell_s"].std())


def like_rate(*overrides: str) -> float:
    return float(log(*overrides)["like"].mean())


def follow_rate(*overrides: str) -> float:
    return float(log(*overrides)["follow"].mean())


def follows_of_likes(*overrides: str) -> float:
    return float(log(*overrides).filter(pl.col("like"))["follow"].mean())


EFFECTS = {
    "behaviour.dwell_log_mean": Effect(2, 4, dwell_mean, 1.9, "dwell_s times"),
    "behaviour.dwell_log_sd": Effect(0.5, 1.2, dwell_sd, 0.6, "dwell_s times"),
    "behaviour.dwell_user": Effect(0, 0.7, correlation("dwell_s", "user_dwell"), 0.6, "dwell_s times like follow"),
    "behaviour.dwell_quality": Effect(0, 0.7, correlation("dwell_s", "quality"), 0.6, "dwell_s times like follow"),
    "behaviour.like_rate": Effect(0.05, 0.25, like_rate, 0.17, "like follow", ("behaviour.follow_given_like=0.005",)),
    "behaviour.like_user": Effect(0, 0.8, correlation("like", "user_like"), 0.3, "like follow", LIKES),
    "behaviour.like_quality": Effect(0, 0.6, correlation("like", "quality"), 0.25, "like follow", LIKES),
    "behaviour.like_dwell": Effect(0, 0.6, correlation("like", "dwell_s"), 0.25, "like follow", LIKES),
    "behaviour.follow_rate": Effect(0.02, 0.1, follow_rate, 0.06, "follow"),
    "behaviour.follow_given_like": Effect(
        0.1, 0.4, follows_of_likes, 0.2, "follow", ("behaviour.like_rate=0.2", "behaviour.follow_rate=0.1")
    ),
}


@pytest.mark.parametrize("key", EFFECTS)
def test_the_key_moves_its_statistic_and_nothing_else(key):
    EFFECTS[key].check(key)
