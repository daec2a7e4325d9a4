"""Every key of the simple world moves its statistic."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from simulator.world.simple import SimpleTables, SimpleWorld, load_simple_world
from tests.simulator.simple_worlds import (
    DAY_S,
    START_S,
    clicks_with_truth,
    links_followed,
    small_world,
    steps,
)

PRESET = Path(__file__).parents[2] / "scenarios" / "worlds" / "simple.yaml"


def gini(counts: np.ndarray) -> float:
    ranked = np.sort(counts)
    return float(1 - 2 * np.cumsum(ranked).sum() / ranked.sum() / len(ranked) + 1 / len(ranked))


def age_gap(world: SimpleTables) -> float:
    """Total variation between the category shares of the age bands and of everybody."""
    clicks = clicks_with_truth(world).join(world.users, on="user_id")
    table = clicks.group_by("age_band").agg(pl.col("category").value_counts(normalize=True)).explode("category")
    shares = table.unnest("category")
    overall = clicks["category"].value_counts(normalize=True, name="overall")
    joined = shares.join(overall, on="category")
    return float((joined["proportion"] - joined["overall"]).abs().sum())


def in_own_interests(world: SimpleTables) -> float:
    clicks = clicks_with_truth(world).join(world.oracle["users"], on="user_id")
    return float(clicks.select(pl.col("interests").list.contains(pl.col("taste_tag"))).to_series().to_numpy().mean())


def clicks_per_user(world: SimpleTables) -> np.ndarray:
    return np.bincount(world.clicks["user_id"], minlength=len(world.users))


def top_tag_share(world: SimpleTables) -> float:
    per_tag = clicks_with_truth(world).group_by("user_id", "taste_tag").len()
    per_user = per_tag.group_by("user_id").agg(pl.col("len").max() / pl.col("len").sum(), n=pl.col("len").sum())
    return float(per_user.filter(pl.col("n") >= 10)["len"].to_numpy().mean())


def quality_correlation(world: SimpleTables) -> float:
    clicks = clicks_with_truth(world)
    return float(np.corrcoef(clicks["dwell_s"].log(), clicks["quality"])[0, 1])


EFFECTS: dict[
    str, tuple[Any, Any, Callable[[SimpleTables], Any]]
] = {  # key: low, high, what must rise from low to high
    "users": (200, 400, lambda w: len(w.users)),
    "items": (300, 600, lambda w: len(w.items)),
    "days": (3, 9, lambda w: (w.clicks["timestamp"].to_numpy().max() - START_S) / DAY_S),
    "categories": (3, 12, lambda w: w.items["category"].n_unique()),
    "subcategories": (1, 4, lambda w: w.items["subcategory"].n_unique()),
    "tags": (30, 90, lambda w: w.items["tags"].explode(empty_as_null=True).n_unique()),
    "tags_per_item": (1.0, 5.0, lambda w: w.items["tags"].list.len().mean()),
    "providers": (10, 90, lambda w: w.items["provider"].n_unique()),
    "popularity_exponent": (0.2, 1.5, lambda w: gini(np.bincount(w.clicks["item_id"], minlength=len(w.items)))),
    "new_items": (0.1, 0.6, lambda w: (w.items["published"] >= START_S).mean()),
    "group_size": (3, 12, lambda w: w.oracle["items"]["link_group"].value_counts()["count"].max()),
    "link_density": (0.2, 0.9, lambda w: w.oracle["links"]["source_item_id"].n_unique()),
    "link_strength": (0.1, 0.7, lambda w: links_followed(w, steps(w)).mean()),
    "interests": (1, 8, lambda w: -top_tag_share(w)),
    "taste_focus": (0.1, 10.0, top_tag_share),
    "session_focus": (0.0, 1.0, lambda w: (steps(w)["taste_tag"] == steps(w)["previous_taste_tag"]).mean()),
    "demographic_effect": (0.0, 2.0, age_gap),
    "popularity_share": (0.0, 0.8, lambda w: -in_own_interests(w)),
    "novelty": (
        0.0,
        0.5,
        lambda w: (clicks_with_truth(w)["timestamp"] - clicks_with_truth(w)["published"] < 2 * DAY_S).mean(),
    ),
    "sessions_per_user": (4.0, 12.0, lambda w: clicks_with_truth(w).select("user_id", "slot").n_unique()),
    "activity_sd": (0.2, 1.5, lambda w: clicks_per_user(w).std() / clicks_per_user(w).mean()),
    "clicks_per_session": (1.5, 5.0, lambda w: clicks_with_truth(w).group_by("user_id", "slot").len()["len"].mean()),
    "dwell_log_mean": (2.0, 3.5, lambda w: w.clicks["dwell_s"].log().mean()),
    "dwell_log_sd": (0.5, 1.2, lambda w: w.clicks["dwell_s"].log().std()),
    "quality_effect": (0.0, 0.8, quality_correlation),
    "like_rate": (0.01, 0.2, lambda w: w.clicks["like"].mean()),
    "follow_rate": (0.01, 0.2, lambda w: w.clicks["follow"].mean()),
}


@pytest.mark.parametrize("key", EFFECTS)
def test_every_key_moves_its_statistic(key: str) -> None:
    low, high, statistic = EFFECTS[key]
    below, above = statistic(small_world(**{key: low})), statistic(small_world(**{key: high}))
    assert above > below + 0.1 * abs(below)


def test_every_key_is_tested_and_documented() -> None:
    assert {*EFFECTS, "seed"} == set(SimpleWorld.model_fields)
    assert all(field.description for field in SimpleWorld.model_fields.values())
    assert yaml.safe_load(PRESET.read_text()) == SimpleWorld().model_dump()
    assert load_simple_world(PRESET) == SimpleWorld()
