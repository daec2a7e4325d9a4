"""Small worlds for tests, built once per set of keys."""

import functools
import json
from typing import Any

import polars as pl

from micrec.settings import apply_overrides, merge, validate
from simulator.world.world import Shard, World
from simulator.world.world_config import WorldConfig

SMALL = {
    "users": {"count": 1_500},
    "items": {"count": 800, "categories": 8, "subcategories": 2, "groups": 3},
    "sessions": {"per_user": 4.0, "clicks": 5.0},
}


def small_config(*overrides: str, **keys: Any) -> WorldConfig:
    """The small world with keys changed, as ``--set`` would."""
    return validate(WorldConfig, apply_overrides(merge(SMALL, keys), overrides), where="test")


@functools.lru_cache(maxsize=64)
def _world(config: str) -> World:
    return World.build(WorldConfig.model_validate_json(config))


def small_world(*overrides: str) -> World:
    return _world(json.dumps(small_config(*overrides).model_dump(mode="json"), sort_keys=True))


@functools.lru_cache(maxsize=64)
def small_history(*overrides: str) -> Shard:
    world = small_world(*overrides)
    return world.history(0, world.config.users.count)


def log(*overrides: str) -> pl.DataFrame:
    """Clicks with their causes and all hidden traits of item and user; sessions are numbered."""
    world, shard = small_world(*overrides), small_history(*overrides)
    catalogue = world.catalogue
    items = pl.DataFrame(
        {
            "item_id": range(len(catalogue)),
            "subcategory": catalogue.subcategory,
            "group": catalogue.group,
            "age_base": catalogue.published_s,
            "quality": world.quality,
            "evergreen": catalogue.evergreen,
        }
    )
    started = (pl.col("timestamp").diff().fill_null(0) > 3_600) | pl.col("user_id").diff().fill_null(1).ne(0)
    return (
        shard.clicks.with_columns(shard.causes["cause"], started.cum_sum().alias("session"))
        .join(items, on="item_id", how="left", maintain_order="left")
        .with_columns(
            ((pl.col("timestamp") - world.start_s) // 86_400).alias("day"),
            (pl.col("timestamp") - world.start_s - pl.col("age_base")).alias("age_s"),
            (pl.col("subcategory") // world.config.items.subcategories).alias("category"),
        )
    )
