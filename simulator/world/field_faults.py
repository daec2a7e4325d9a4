"""Absent and wrong values of the item table (``signals.missing``, ``signals.noise``); the latent truth stays."""

import numpy as np
import polars as pl

from simulator.draws import Draws
from simulator.world.items import counts
from simulator.world.world_config import WorldConfig


def with_faults(config: WorldConfig, frame: pl.DataFrame) -> pl.DataFrame:
    """The item table with some values null, and some those of another item.

    Subcategory, tags, provider, title and further fields are affected, each value by draws of its own; category, time
    of publication and content vectors are not. A wrong value is the one that another item of the start has.

    Args:
        config: The world's keys.
        frame: The table without faults, one row per item in order of its id.
    """
    return frame.with_columns(
        _faulty(config, frame[name]) for name in ("subcategory", "tags", "provider", *config.items.fields, "title")
    )


def _faulty(config: WorldConfig, values: pl.Series) -> pl.Series:
    ids, name = np.arange(len(values)), values.name
    if config.signals.noise > 0.0:
        wrong, other = Draws(config.seed, f"noise in {name}").two_uniforms(ids)
        n_start = counts(config)[0]  # items that do not grow with the days of the log
        at_start = ids < n_start
        step = (other * (n_start - at_start)).astype(np.int64)
        source = np.where(at_start, (ids + 1 + step) % n_start, step)  # never an item's own, but where it is alone
        values = values.gather(np.where(wrong < config.signals.noise, source, ids))
    if config.signals.missing > 0.0:
        absent = Draws(config.seed, f"missing {name}").uniform(ids) < config.signals.missing
        values = pl.select(pl.when(pl.Series(~absent)).then(values).alias(name)).to_series()
    return values
