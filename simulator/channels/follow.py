"""What the providers that a user follows have published; a follow counts from the next request on."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from micrec.bounds import Length
from simulator.channels.channel import HOUR_S, ChannelConfig, ChannelTrainer, ItemStats
from simulator.channels.item_cf import padded_rows
from simulator.channels.lists import Lookup, sum_by_item
from simulator.ports import Candidates, Matcher, ObservedLog, Requests


class FollowConfig(ChannelConfig):
    """Keys of the follow channel."""

    provider: str = Field("provider", description="Item field that names who is followed.")
    providers: Length = Field(20, description="Most followed providers per user, the latest.")
    order: Literal["newest", "popular"] = Field("newest", description="Which of a provider's items come first.")
    half_life_h: PositiveFloat = Field(
        72.0, description="Half-life in hours of an item's score, or, for order popular, of a click."
    )
    items: Length = Field(50, description="Most items kept per provider.")
    likes: bool = Field(False, description="Whether a like follows the provider too.")


class FollowTrainer(ChannelTrainer[FollowConfig]):
    """Items of the followed providers, newest first or most clicked first.

    Whom a user follows, the request says, up to the second; behind them come those whom only the log knows: the likes,
    where they count, and the follows of requests that carry none.
    """

    kind = "follow"

    def learn(self, log: ObservedLog) -> dict[str, NDArray]:
        keys, stats = self.keys, ItemStats(log)
        names = stats.field(keys.provider).cast(pl.String)
        labels = names.unique().drop_nulls().sort()
        provider = names.cast(pl.Enum(labels)).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        score = self._scores(stats)
        order = np.lexsort((stats.ids, -score, provider))
        order = order[provider[order] >= 0]
        place = np.arange(len(order)) - np.searchsorted(provider[order], provider[order])
        kept = order[place < keys.items]
        users, followed = self._followed(log, np.append(provider, -1)[stats.lookup.rows(_ids(log.clicks))])
        known, counts = np.unique(users, return_counts=True)
        return {
            "items": stats.ids[kept],
            "scores": score[kept].astype(np.float32),
            "known": stats.ids,
            "provider": provider.astype(np.int32),
            "provider_offsets": np.searchsorted(provider[kept], np.arange(len(labels) + 1)),
            "users": known,
            "user_offsets": np.append(0, np.cumsum(counts)),
            "followed": followed.astype(np.int32),
        }

    def _scores(self, stats: ItemStats) -> NDArray[np.float64]:
        """Score of each item in (0, 1], shape (n,)."""
        if self.keys.order == "popular":
            clicks = stats.clicks(self.keys.half_life_h)
            return (clicks + 1.0) / (clicks.max(initial=0.0) + 1.0)
        return np.maximum(np.exp2(-stats.age_s / (self.keys.half_life_h * HOUR_S)), 1e-5)

    def _followed(self, log: ObservedLog, provider: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Users, ascending, and whom they follow, the latest first and at most so many each."""
        signal = log.clicks["follow"].to_numpy()
        if self.keys.likes:
            signal = signal | log.clicks["like"].to_numpy()
        rows = np.flatnonzero(signal & (provider >= 0))
        pairs = pl.DataFrame({"user": log.clicks["user_id"].to_numpy()[rows], "provider": provider[rows], "row": rows})
        latest = (
            pairs.group_by("user", "provider").agg(pl.col("row").max()).sort("user", "row", descending=[False, True])
        )
        latest = latest.filter(pl.col("row").cum_count().over("user") <= self.keys.providers)
        return latest["user"].cast(pl.Int64).to_numpy(), latest["provider"].to_numpy()

    def serve(self, arrays: Mapping[str, NDArray]) -> Matcher:
        return _Follow(self, arrays)


def _ids(clicks: pl.DataFrame) -> NDArray[np.int64]:
    return clicks["item_id"].cast(pl.Int64).to_numpy()


class _Follow:
    def __init__(self, trainer: FollowTrainer, arrays: Mapping[str, NDArray]) -> None:
        self._trainer, self._users = trainer, Lookup(arrays["users"])
        followed = arrays["followed"].astype(np.int64)
        self._followed, _ = padded_rows(arrays["user_offsets"], followed, np.zeros(len(followed), np.float32))
        self._items, self._scores = padded_rows(arrays["provider_offsets"], arrays["items"], arrays["scores"])
        self._known, self._provider = Lookup(arrays["known"]), np.append(arrays["provider"], -1).astype(np.int64)

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        providers = self._followed[self._users.rows(requests.user_ids)]  # -1 is the empty last row
        if requests.follows.size:
            latest = self._provider[self._known.rows(requests.follows)]
            providers = distinct(np.concatenate([latest, providers], axis=1), self._trainer.keys.providers)
        flat = (len(providers), -1)
        items, scores = self._items[providers].reshape(flat), self._scores[providers].reshape(flat)
        return sum_by_item(items, scores, k, self._trainer.hidden(requests))


def distinct(values: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The first ``most`` distinct values of each row in their order, -1 as padding anywhere and at the end."""
    order = np.argsort(values, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    first = ranked >= 0
    first[:, 1:] &= ranked[:, 1:] != ranked[:, :-1]
    keep = np.zeros(values.shape, bool)
    np.put_along_axis(keep, order, first, axis=1)
    width = min(most, int(keep.sum(axis=1).max(initial=0)))
    front = np.argsort(~keep, axis=1, kind="stable")[:, :width]
    return np.where(np.take_along_axis(keep, front, axis=1), np.take_along_axis(values, front, axis=1), -1)
