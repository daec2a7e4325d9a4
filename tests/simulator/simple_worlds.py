"""Simple worlds the tests share, and their logs beside the hidden truth."""

from functools import lru_cache

import numpy as np
import polars as pl

from simulator.world.simple import SimpleTables, SimpleWorld, draw_simple_world

START_S = 1_704_067_200
SLOT_S, HOUR_S, DAY_S = 7_200, 3_600, 86_400
SMALL = {"users": 300, "items": 400, "days": 7, "tags": 40, "sessions_per_user": 6.0, "activity_sd": 0.6}


@lru_cache(maxsize=8)
def default_world() -> SimpleTables:
    return draw_simple_world(SimpleWorld())


def small_world(**keys: object) -> SimpleTables:
    return draw_simple_world(SimpleWorld.model_validate({**SMALL, **keys}))


def clicks_with_truth(world: SimpleTables) -> pl.DataFrame:
    """Clicks in order of user and time, with the slot that names the session and the traits of the item."""
    item_truth = world.items.select("item_id", "category", "published").join(world.oracle["items"], on="item_id")
    slot = ((pl.col("timestamp") - START_S) // SLOT_S).alias("slot")
    ordered = world.clicks.sort("user_id", "timestamp", maintain_order=True).with_columns(slot)
    return ordered.join(item_truth, on="item_id", maintain_order="left")


def steps(world: SimpleTables) -> pl.DataFrame:
    """Consecutive clicks of one session: the traits of the former as ``previous_*``."""
    same = (pl.col("user_id") == pl.col("user_id").shift()) & (pl.col("slot") == pl.col("slot").shift())
    columns = [pl.col(name).shift().alias(f"previous_{name}") for name in ("item_id", "taste_tag", "link_group")]
    return clicks_with_truth(world).with_columns(*columns).filter(same)


def partner_groups(world: SimpleTables) -> pl.DataFrame:
    return world.oracle["links"].select("source_group", "target_group").unique()


def links_followed(world: SimpleTables, pairs: pl.DataFrame) -> np.ndarray:
    """Of the pairs whose former item has a link, whether the latter is of the target group."""
    linked = pairs.join(partner_groups(world), left_on="previous_link_group", right_on="source_group")
    return (linked["link_group"] == linked["target_group"]).to_numpy()
