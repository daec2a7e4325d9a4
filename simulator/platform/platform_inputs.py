"""Inputs of a platform: the tables that it may see, and the log from before its first day."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from simulator.ports import Announced
from simulator.world.item_table import dataset_schema, item_frame
from simulator.world.users import UserDraws, user_frame
from simulator.world.visits import DAY_S
from simulator.world.world import World

CLICKS = {
    "user_id": pl.Int64,
    "item_id": pl.Int64,
    "timestamp": pl.Int64,
    "dwell_s": pl.Float32,
    "like": pl.Boolean,
    "follow": pl.Boolean,
}


@dataclass(frozen=True)
class PlatformInputs:
    """What a platform knows on its first morning, without any hidden truth.

    Attributes:
        users: ``user_id`` 0 … U - 1 and the fields of the user table: what users say of themselves.
        items: ``item_id`` 0 … N - 1 and the fields of the item table, with ``published`` (s since 1970-01-01 UTC).
        history: Clicks from before the first day, columns as in ``CLICKS``, in time order.
        start_s: Start of the log, seconds since 1970-01-01 UTC.
        first_day: Number of the platform's first day.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    history: pl.DataFrame
    start_s: int
    first_day: int = 0

    @classmethod
    def of(cls, world: World, *, first_day: int = 0) -> Self:
        """The platform in a world, whose organic clicks of the days before ``first_day`` are its history.

        Columns are taken by name from the dataset's schema: hidden traits have no way in.
        """
        schema = dataset_schema(world.config)
        clicks = no_clicks()
        if first_day:
            before_s = world.start_s + first_day * DAY_S
            shard = world.history(0, world.config.users.count)
            clicks = shard.clicks.filter(pl.col("timestamp") < before_s).select(
                pl.col(name).cast(dtype) for name, dtype in CLICKS.items()
            )
            clicks = clicks.sort("timestamp", "user_id", maintain_order=True)
        ids = np.arange(world.config.users.count)
        return cls(
            users=user_frame(world.config, ids, UserDraws(world.config)).select("user_id", *schema.users),
            items=item_frame(world.config, world.catalogue).select("item_id", *schema.items),
            history=clicks,
            start_s=world.start_s,
            first_day=first_day,
        )

    def published_by(self, day: int) -> Announced:
        """Items that are published before ``day`` begins, and when."""
        items = self.items.filter(pl.col("published") < self.start_s + day * DAY_S)
        at_s = (items["published"] - self.start_s).cast(pl.Float64).to_numpy()
        return Announced(items["item_id"].cast(pl.Int64).to_numpy(), at_s)


def no_clicks() -> pl.DataFrame:
    """An empty history."""
    return pl.DataFrame(schema=CLICKS)
