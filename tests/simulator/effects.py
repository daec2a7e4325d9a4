"""What a key of the world file does: which statistic it moves, which way, and which parts of a world it may touch."""

import functools
import hashlib
import typing
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from pydantic import BaseModel

from simulator.world.item_table import dataset_schema, ground_truth_items, ground_truth_links, item_frame
from simulator.world.tags import ItemTags, draw_tags
from simulator.world.world_config import WorldConfig
from tests.simulator.worlds import log, small_config, small_history, small_world

Statistic = Callable[..., float]  # of the world that the overrides given as arguments make


class Effect(NamedTuple):
    """``statistic`` is at least ``by`` larger where the key has the value ``more`` than where it has ``less``.

    ``moves`` names every facet (see :func:`facets`) that differs between the two; all others are the same to the bit.
    A share of a sum cannot change alone: ``less`` and ``more`` are then whole overrides.
    """

    less: object
    more: object
    statistic: Statistic
    by: float
    moves: str
    base: tuple[str, ...] = ()  # the world both are set in

    def check(self, key: str) -> None:
        """The statistic moves as stated, and so do the facets, no more and no fewer."""
        less, more = self.worlds(key)
        assert self.statistic(*more) - self.statistic(*less) >= self.by
        before, after = facets(*less), facets(*more)
        moved = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert moved == set(self.moves.split())

    def worlds(self, key: str) -> list[tuple[str, ...]]:
        """Overrides of the two worlds; a ``*`` in the key stands for the field ``kind``."""
        name = key.replace("*", "kind")
        return [
            (*self.base, *(value.split() if "=" in str(value) else [f"{name}={value}"]))
            for value in (self.less, self.more)
        ]


WHICH_ITEMS = "items causes times dwell_s like follow"  # another item clicked: another cause next, another quality
SESSIONS = f"lengths {WHICH_ITEMS}"
HISTORY = f"starts {SESSIONS}"
PLACES = "item.category item.subcategory item.link_group item.topic item.provider item.duplicate_of"  # where items are
ABOUT = "item.tags item.title"  # what is said of the places
TRAITS = "item.appeal item.quality item.evergreen item.clickbait item.published"


def leaves(model: type[BaseModel] = WorldConfig, prefix: str = "") -> Iterator[str]:
    """Every key that holds a value; the values of a table of named fields go by ``*``."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if typing.get_origin(kind) is dict:
            yield from leaves(typing.get_args(kind)[1], f"{prefix}{name}.*.")
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


@functools.lru_cache(maxsize=32)
def items_of(*overrides: str) -> pl.DataFrame:
    """Visible and hidden traits of all items."""
    config, world = small_config(*overrides), small_world(*overrides)
    visible = item_frame(config, world.catalogue)
    return visible.join(ground_truth_items(config, world.catalogue), on="item_id", maintain_order="left")


def tags_of(*overrides: str) -> ItemTags:
    return draw_tags(small_config(*overrides), small_world(*overrides).catalogue)


@functools.lru_cache(maxsize=200)
def facets(*overrides: str) -> dict[str, str]:
    """Digests of the independent parts of a world: what its items are, who its users are, what they did."""
    config, shard = small_config(*overrides), small_history(*overrides)
    catalogue = small_world(*overrides).catalogue
    clicks = log(*overrides)
    visits = clicks.group_by("session", maintain_order=True).agg(pl.first("user_id", "timestamp"), pl.len())
    parts = {
        "name": dataset_schema(config).name,
        "links": ground_truth_links(config, catalogue)["source_group", "target_group"],
        "users": shard.users,
        "starts": visits["user_id", "timestamp"],
        "lengths": visits["user_id", "len"],
        "items": clicks["user_id", "item_id"],
        "causes": clicks["user_id", "cause"],
        "times": clicks["user_id", "timestamp"],
        **{name: clicks["user_id", name] for name in ("dwell_s", "like", "follow")},
        **{f"item.{name}": items_of(*overrides)[["item_id", name]] for name in items_of(*overrides).columns[1:]},
    }
    return {name: _digest(part) for name, part in parts.items()}


def _digest(part: object) -> str:
    text = part.serialize() if isinstance(part, pl.DataFrame) else str(part).encode()
    return hashlib.sha256(text).hexdigest()


def cause_share(cause: int) -> Statistic:
    """Share of clicks of that cause."""
    return lambda *overrides: float((log(*overrides)["cause"] == cause).mean())


def gini(counts: np.ndarray) -> float:
    ranked = np.sort(counts)
    return float(1 - 2 * np.cumsum(ranked).sum() / ranked.sum() / len(ranked) + 1 / len(ranked))


def excess_sd(clicks: pl.DataFrame, cause: int, *, least: int = 10) -> float:
    """Sd of the users' shares of a cause beyond that of coins, among users of at least ``least`` clicks."""
    users = clicks.group_by("user_id").agg((pl.col("cause") == cause).sum().alias("hits"), pl.len().alias("n"))
    users = users.filter(pl.col("n") >= least)
    hits, n = users["hits"].to_numpy(), users["n"].to_numpy()
    mean = hits.sum() / n.sum()
    variance = (((hits / n - mean) ** 2) * n).sum() / n.sum() - mean * (1 - mean) * len(n) / n.sum()
    return float(np.sign(variance) * np.sqrt(abs(variance)))
