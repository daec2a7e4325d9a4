"""Features of a request and an item, as a matrix to learn from and folded into look-ups to score by.

Shape letters: B requests, C candidates, n known items, F features.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.channels.item_cf import padded_rows
from simulator.channels.lists import Lookup
from simulator.ports import Requests
from simulator.ranking.counts import ITEM_FEATURES, USER_FEATURES, Arrays, Field, field_of
from simulator.ranking.ranker_config import RankerConfig

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


BLOCK, BLOCK_ENTRIES = 64, 1 << 22  # requests handled at a time: what they look up stays in the cache


class RequestFeatures(NamedTuple):
    """B requests as the features see them."""

    user: Ids  # (B,) row of the user, the last row for an unknown one
    recent: Ids  # (B, H) rows of the latest clicks, n for unknown items and padding
    crosses: dict[str, Floats]  # by feature, (B, values of the field)
    tags: Floats  # (B, tags) share of the latest clicks, by recency, that have the tag


class ClickFeatures:
    """The features that the counts of a moment give to any request and item."""

    def __init__(self, arrays: Arrays, keys: RankerConfig) -> None:
        self.keys, self._arrays = keys, arrays
        self._items, self._users = Lookup(arrays["items"]), Lookup(arrays["users"])
        self.n = len(arrays["items"])
        self._fields: dict[str, Field] = {name: field_of(name, arrays) for name in keys.fields}
        self._near, self._similarity = padded_rows(
            arrays["near.offsets"], arrays["near.rows"].astype(np.int64), arrays["near.similarity"]
        )
        self._near[self._near < 0] = self.n
        self._n_tags = int(arrays["tags"].max(initial=0)) + 1
        crosses = [f"{kind} {name}" for name in keys.fields for kind in ("history", "recent")]
        self.block = max(1, min(BLOCK, BLOCK_ENTRIES // (self.n + 1)))  # requests whose closeness to all items is held
        self.names = (*ITEM_FEATURES, *USER_FEATURES, *crosses, "crossed", "tags", "sessions", "repeat")

    def rows(self, items: Ids) -> Ids:
        """Row of each item, n if it is unknown."""
        rows = self._items.rows(items)
        return np.where(rows < 0, self.n, rows)

    def request(self, requests: Requests) -> RequestFeatures:
        """Look the requests up."""
        user = self._users.rows(requests.user_ids)
        user = np.where(user < 0, len(self._arrays["users"]), user)
        recent = self.rows(requests.recent_items)
        weights = np.where(recent < self.n, self.keys.recency ** np.arange(recent.shape[1]), 0.0)
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
        crosses: dict[str, Floats] = {}
        for name, field in self._fields.items():
            counts = field.clicks[user].toarray()
            counts[:, 0] = 0.0
            crosses[f"history {name}"] = counts / (counts.sum(axis=1, keepdims=True) + self.keys.prior_clicks)
            crosses[f"recent {name}"] = _scatter(field.codes[recent], weights, len(field.share))
        lifts = self._arrays["cross.table"][self._arrays["cross.rows"][user]]  # (B, user fields, C)
        crosses["crossed"] = lifts.sum(axis=1)
        tags = self._arrays["tags"][recent]  # (B, H, T)
        flat = (len(user), tags.shape[1] * tags.shape[2])
        shares = np.broadcast_to(weights[:, :, None], tags.shape).reshape(flat)
        return RequestFeatures(user, recent, crosses, _scatter(tags.reshape(flat), shares, self._n_tags))

    def matrix(self, requests: Requests, row: Ids, items: Ids) -> Floats:
        """Features of pairs of request ``row[i]`` and item ``items[i]``, shape (m, F)."""
        request, at = self.request(requests), self.rows(items)
        columns = [self._arrays["item_features"][at], self._arrays["user_features"][request.user[row]]]
        for name, table in request.crosses.items():
            columns.append(table[row, self._codes(name)[at]][:, None])
        tags = self._arrays["tags"][at]
        overlap = request.tags[row[:, None], tags].sum(axis=1) * self._arrays["tag_share"][at]
        near = np.empty(len(at), np.float32)
        for start in range(0, len(request.user), self.block):
            inside = (row >= start) & (row < start + self.block)
            closeness = self._closeness(request.recent[start : start + self.block])
            near[inside] = closeness[row[inside] - start, at[inside]]
        repeat = (request.recent[row] == at[:, None]).any(axis=1) & (at < self.n)
        columns += [overlap[:, None], np.sqrt(near)[:, None], repeat[:, None]]
        return np.concatenate(columns, axis=1).astype(np.float32)

    def fold(self, weights: NDArray[np.float64]) -> "Scorer":
        """A linear model of the features, ``weights`` of shape (F,)."""
        return Scorer(self, dict(zip(self.names, weights.astype(np.float32), strict=True)))

    def _codes(self, cross: str) -> Ids:
        name = self.keys.crossed if cross == "crossed" else cross.partition(" ")[2]
        return self._fields[name].codes

    def _closeness(self, recent: Ids) -> Floats:
        """Summed similarity of each item to the latest clicks, shape (b, n + 1)."""
        weights = self.keys.recency ** np.arange(recent.shape[1], dtype=np.float32)
        near, similarity = self._near[recent], self._similarity[recent] * weights[:, None]  # (b, H, neighbours)
        closeness = np.zeros((len(recent), self.n + 1), np.float32)
        flat = near + (np.arange(len(recent)) * (self.n + 1))[:, None, None]
        np.add.at(closeness.ravel(), flat.ravel(), similarity.ravel())
        return closeness


class Scorer:
    """Sums of weighted features by look-up: one number per item, per user, and per request and field value."""

    def __init__(self, features: ClickFeatures, weights: dict[str, np.float32]) -> None:
        self._features, self._weights = features, weights
        arrays = features._arrays
        self._item = arrays["item_features"] @ np.array([weights[name] for name in ITEM_FEATURES])
        self._user = arrays["user_features"] @ np.array([weights[name] for name in USER_FEATURES])
        self._tag_share = arrays["tag_share"] * weights["tags"]

    def score(self, requests: Requests, items: Ids) -> Floats:
        """Linear scores, shape (B, C); those of padding mean nothing."""
        features = self._features
        size = features.block
        parts = [
            self._score(features.request(slice_of(requests, start, start + size)), items[start : start + size])
            for start in range(0, len(items), size)
        ]
        return np.concatenate(parts) if parts else np.zeros(items.shape, np.float32)

    def _score(self, request: RequestFeatures, items: Ids) -> Floats:
        features, weights = self._features, self._weights
        at = features.rows(items)
        row = np.arange(len(items))[:, None]
        score = self._item[at] + self._user[request.user][:, None]
        for name, field in features._fields.items():
            table = request.crosses[f"history {name}"] * weights[f"history {name}"]
            table += request.crosses[f"recent {name}"] * weights[f"recent {name}"]
            if name == features.keys.crossed:
                table += request.crosses["crossed"] * weights["crossed"]
            score += table[row, field.codes[at]]
        tags = features._arrays["tags"]
        overlap = np.zeros_like(score)
        for column in range(tags.shape[1]):
            overlap += request.tags[row, tags[at, column]]
        score += overlap * self._tag_share[at]
        score += weights["sessions"] * np.sqrt(features._closeness(request.recent)[row, at])
        repeats = np.zeros(at.shape, np.bool_)
        for column in range(request.recent.shape[1]):
            repeats |= at == request.recent[:, column, None]
        score += weights["repeat"] * (repeats & (at < features.n))
        return score


def slice_of(requests: Requests, start: int, stop: int) -> Requests:
    """Some of the requests."""
    return Requests._make(part[start:stop] for part in requests)


def _scatter(codes: Ids, weights: NDArray, size: int) -> Floats:
    """Sum of weights by code in each row, (B, L) into (B, size); nothing for code 0."""
    flat = codes + (np.arange(len(codes)) * size)[:, None]
    table = np.bincount(flat.ravel(), weights.ravel(), minlength=len(codes) * size).reshape(len(codes), size)
    table[:, 0] = 0.0
    return table.astype(np.float32)
