"""Popular items that share tags, or other traits, with the latest clicks."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from micrec.bounds import Length
from simulator.channels.channel import ChannelConfig, ChannelTrainer, ItemStats
from simulator.channels.item_cf import padded_rows
from simulator.channels.lists import Lookup, sum_by_item
from simulator.ports import Candidates, Matcher, ObservedLog, Requests
from simulator.world.world_config import OpenShare, Share


class TagChannelConfig(ChannelConfig):
    """Keys of the tag channel."""

    fields: tuple[str, ...] = Field(
        ("tags", "subcategory"), description="Item fields whose values are tags, lists or single values."
    )
    tags: Length = Field(8, description="Strongest tags of a request that are looked up.")
    postings: Length = Field(200, description="Most items kept per tag, the most clicked.")
    half_life_h: PositiveFloat = Field(48.0, description="Half-life in hours of a click in that order.")
    order: Share = Field(0.5, description="Share by which the last tag of an item weighs less than its first.")
    recency: OpenShare = Field(0.9, description="Weight of each click of the history relative to the one after it.")

    def item_fields(self) -> dict[str, tuple[str, ...]]:
        return {"fields": self.fields}


class TagTrainer(ChannelTrainer[TagChannelConfig]):
    """An inverted index: the most clicked items of each tag.

    A request's weight of a tag is the sum over its latest clicks of recency times the tag's idf, log(n / items with the
    tag), relative to its strongest tag. An item's score sums the weights of its tags, each less by its place in the
    list.
    """

    kind = "tag"

    def learn(self, log: ObservedLog) -> dict[str, NDArray]:
        keys, stats = self.keys, ItemStats(log)
        rows, tags, n_tags = _pairs(stats, keys.fields)
        n_items = np.bincount(tags, minlength=n_tags)
        clicks = stats.clicks(keys.half_life_h)
        order = np.lexsort((rows, -clicks[rows], tags))
        starts = np.cumsum(n_items) - n_items
        place = np.arange(len(order)) - starts[tags[order]]
        kept = order[place < keys.postings]
        lengths = np.minimum(n_items, keys.postings)
        by_item = np.lexsort((tags, rows))
        return {
            "items": stats.ids,
            "item_offsets": _offsets(np.bincount(rows, minlength=len(stats))),
            "item_tags": tags[by_item].astype(np.int32),
            "idf": np.log(len(stats) / np.maximum(n_items, 1)).astype(np.float32),
            "tag_offsets": _offsets(lengths),
            "postings": rows[kept].astype(np.int32),
            "weights": (1.0 - keys.order * place[place < keys.postings] / keys.postings).astype(np.float32),
        }

    def serve(self, arrays: Mapping[str, NDArray]) -> Matcher:
        return _Tag(self, arrays)


def _pairs(stats: ItemStats, fields: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Row of each item and number of each of its tags, distinct pairs; and how many tags there are."""
    parts = []
    for name in fields:
        values = stats.field(name)
        frame = pl.DataFrame({"row": np.arange(len(stats)), "tag": values})
        if isinstance(values.dtype, pl.List):
            frame = frame.explode("tag")
        parts.append(frame.drop_nulls().select("row", pl.format("{}\x1f{}", pl.lit(name), "tag").alias("tag")))
    pairs = pl.concat(parts).unique(maintain_order=True)
    labels = pairs["tag"].unique().sort()
    numbers = pairs["tag"].cast(pl.Enum(labels)).to_physical().cast(pl.Int64).to_numpy()
    return pairs["row"].to_numpy(), numbers, len(labels)


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


class _Tag:
    def __init__(self, trainer: TagTrainer, arrays: Mapping[str, NDArray]) -> None:
        items, tags, idf = arrays["items"], arrays["item_tags"].astype(np.int64), arrays["idf"]
        self._trainer, self._lookup = trainer, Lookup(items)
        self._tags, self._idf = padded_rows(arrays["item_offsets"], tags, idf[tags])
        self._items, self._weights = padded_rows(arrays["tag_offsets"], items[arrays["postings"]], arrays["weights"])

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        keys, recent, flat = self._trainer.keys, requests.recent_items, (len(requests.recent_items), -1)
        rows = self._lookup.rows(recent)
        recency = keys.recency ** np.arange(recent.shape[1], dtype=np.float32)
        idf = self._idf[rows] * recency[:, None]
        profile = sum_by_item(self._tags[rows].reshape(flat), idf.reshape(flat), keys.tags)
        found = profile.items >= 0
        strength = np.where(found, profile.scores, 0.0) / np.where(found[:, :1], profile.scores[:, :1], 1.0)
        scores = self._weights[profile.items] * strength[:, :, None]  # tag -1 is the empty last row
        postings = self._items[profile.items].reshape(flat)
        return sum_by_item(postings, scores.reshape(flat), k, self._trainer.hidden(requests))
