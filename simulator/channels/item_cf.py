"""What was clicked in one session with the latest clicks: item-based collaborative filtering."""

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat

from micrec.bounds import Length, Seconds
from micrec.config import SessionsConfig
from micrec.data.sessions import assign_sessions
from simulator.channels.channel import ChannelConfig, ChannelTrainer, ItemStats
from simulator.channels.lists import Lookup, sum_by_item
from simulator.ports import Candidates, Matcher, ObservedLog, Requests
from simulator.world.world_config import OpenShare


class ItemCfConfig(ChannelConfig):
    """Keys of the item-CF channel."""

    neighbours: Length = Field(50, description="Most similar items kept per item.")
    session_s: Seconds = Field(3_600, description="Longest duration of a session in seconds.")
    shrink: NonNegativeFloat = Field(
        5.0, description="Similarities are multiplied by n / (n + shrink), where n is the number of common sessions."
    )
    recency: OpenShare = Field(0.9, description="Weight of each click of the history relative to the one after it.")
    recent: Length = Field(20, description="Number of latest clicks that are looked up.")
    least: PositiveFloat = Field(1e-4, description="Least similarity kept.")


class ItemCfTrainer(ChannelTrainer[ItemCfConfig]):
    """Cosine of the sessions that hold two items, c_ij / sqrt(c_i c_j), shrunk where c_ij is small."""

    kind = "item_cf"

    def learn(self, log: ObservedLog) -> dict[str, NDArray]:
        stats = ItemStats(log)
        rows = stats.lookup.rows(log.clicks["item_id"].to_numpy())
        known = rows >= 0
        users = log.clicks["user_id"].to_numpy()[known]
        time_ms = (log.clicks["timestamp"].to_numpy()[known] * 1_000).astype(np.int64)
        config = SessionsConfig(max_s=self.keys.session_s)
        sessions = assign_sessions(users, time_ms, config)
        similar = similarities(sessions, rows[known], len(stats), self.keys)
        return {
            "items": stats.ids,
            "offsets": similar.indptr.astype(np.int64),
            "neighbours": similar.indices.astype(np.int32),
            "similarity": similar.data.astype(np.float32),
        }

    def serve(self, arrays: Mapping[str, NDArray]) -> Matcher:
        return _ItemCf(self, arrays)


def similarities(sessions: NDArray[np.int64], items: NDArray[np.int64], n: int, keys: ItemCfConfig) -> sp.csr_array:
    """Similarity of each item, below ``n``, to its nearest; rows by item, columns ascending, shape (n, n)."""
    held = sp.csr_array((np.ones(len(items)), (sessions, items)), shape=(int(sessions.max(initial=-1)) + 1, n))
    held.data[:] = 1.0  # repeats within a session were added up
    together = sp.coo_array(held.T @ held)
    apart = together.row != together.col
    left, right, common = together.row[apart], together.col[apart], together.data[apart]
    total = np.bincount(held.indices, minlength=n)
    value = common / np.sqrt(total[left] * total[right]) * (common / (common + keys.shrink))
    strong = value >= keys.least
    left, right, value = left[strong], right[strong], value[strong]
    order = np.lexsort((right, -value, left))
    place = np.arange(len(order)) - np.searchsorted(left[order], left[order])
    kept = order[place < keys.neighbours]
    nearest = sp.csr_array((value[kept], (left[kept], right[kept])), shape=(n, n))
    nearest.sort_indices()
    return nearest


class _ItemCf:
    """The neighbours as a rectangle, one row per item and a last one, empty, for what is unknown."""

    def __init__(self, trainer: ItemCfTrainer, arrays: Mapping[str, NDArray]) -> None:
        items, offsets = arrays["items"], arrays["offsets"]
        self._trainer, self._lookup = trainer, Lookup(items)
        self._items, self._scores = padded_rows(offsets, items[arrays["neighbours"]], arrays["similarity"])

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        keys = self._trainer.keys
        recent = requests.recent_items[:, : keys.recent]
        rows = self._lookup.rows(recent)  # -1 is the empty last row
        weights = keys.recency ** np.arange(recent.shape[1], dtype=np.float32)
        flat = (len(recent), -1)
        scores = self._scores[rows] * weights[:, None]
        return sum_by_item(self._items[rows].reshape(flat), scores.reshape(flat), k, self._trainer.hidden(requests))


def padded_rows(
    offsets: NDArray[np.int64], items: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of unequal length as rectangles (n + 1, W), items padded by -1, the last row all padding."""
    lengths = np.diff(offsets)
    width = max(1, int(lengths.max(initial=0)))
    inside = np.arange(width) < np.append(lengths, 0)[:, None]
    rectangle, padded_scores = np.full(inside.shape, -1, np.int64), np.zeros(inside.shape, np.float32)
    rectangle[inside], padded_scores[inside] = items, scores
    return rectangle, padded_scores
