"""A whole world in memory, and the dataset that models see of it: the same clicks as in a folder."""

from typing import NamedTuple

import polars as pl

from micrec.data.dataset import Dataset
from micrec.data.store import dataset_of_frames
from simulator.world.clicks import Cause
from simulator.world.item_table import dataset_schema, item_frame, published_items
from simulator.world.world import World
from simulator.world.world_config import WorldConfig


class DrawnWorld(NamedTuple):
    """All tables of a world in memory, clicks and causes in time order."""

    world: World
    users: pl.DataFrame
    traits: pl.DataFrame
    clicks: pl.DataFrame
    causes: pl.Series


def draw_world(config: WorldConfig) -> DrawnWorld:
    """Draw the history of all users."""
    world = World.build(config)
    shard = world.history(0, config.users.count)
    names = pl.Series([cause.name.lower() for cause in Cause])
    clicks = shard.clicks.with_columns(cause=names.gather(shard.causes["cause"].cast(pl.UInt32)))
    clicks = clicks.sort("timestamp", maintain_order=True)
    return DrawnWorld(world, shard.users, shard.ground_truth_users, clicks.drop("cause"), clicks["cause"])


def drawn_dataset(drawn: DrawnWorld) -> Dataset:
    """What models may see of a drawn world."""
    config = drawn.world.config
    items = item_frame(config, drawn.world.catalogue).head(published_items(config))
    return dataset_of_frames(dataset_schema(config), drawn.users, items, drawn.clicks)
