"""The ranking model: the chance of a click by what the platform has logged, the same in every arm."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from simulator.arrays import load_arrays, save_arrays
from simulator.ports import HISTORY, Nominations, ObservedLog, Requests
from simulator.ranking.click_features import ClickFeatures, slice_of
from simulator.ranking.counts import Arrays, count, up_to
from simulator.ranking.logistic import fit_logistic
from simulator.ranking.nominations import NominationTable, channels_of, nomination_columns, nomination_names
from simulator.ranking.ranker_config import RankerConfig

KIND = "ranking model"
DAY_S = 86_400.0
CHUNK = 4_096  # requests whose features are made at a time
PRIOR_RATE = 0.05
PRIOR = {  # log odds per unit before any impression has been seen: order by organic clicks and taste
    "item rate": 1.0,
    "history category": 1.0,
    "history subcategory": 2.0,
    "tags": 0.5,
    "sessions": 1.0,
    "user rate": 1.0,
}


class CtrTrainer:
    """Learns from the impressions of the latest days, each day by what was known when it began.

    So a feature never holds the click that it is to predict, and is as old in training as it will be in service, where
    a version lasts a day. Weights start from, and are pulled towards, those of the version before.
    """

    def __init__(self, keys: RankerConfig | None = None) -> None:
        self.keys = keys or RankerConfig()

    def train(self, log: ObservedLog, *, previous: Path | None, folder: Path, seed: int) -> None:
        """Write the version learnt from ``log``; see :class:`simulator.ports.RankerTrainer`."""
        arrays = count(log, self.keys)
        before = {} if previous is None else load_arrays(previous, KIND)[1]["weights"]
        channels = channels_of(log, before) if self.keys.nominations else ()
        counted = ClickFeatures(arrays, self.keys).names
        names = (*counted, *_position_names(self.keys), *nomination_names(channels), "everything")
        prior = np.array([(before or PRIOR).get(name, 0.0) for name in names])
        if not before:
            prior[-1] = np.log(PRIOR_RATE / (1.0 - PRIOR_RATE))
        x, y = self._samples(log, channels)
        weights = prior
        if len(y) >= self.keys.least_rows and y.any():
            strength = np.full(len(names), self.keys.memory if before else self.keys.ridge)
            weights = fit_logistic(x, y, prior, strength)
        facts = {
            "weights": dict(zip(names, weights.tolist(), strict=True)),
            "channels": channels,
            "rows": len(y),
            "now_s": log.now_s,
        }
        save_arrays(folder, KIND, arrays, facts)

    def load(self, folder: Path) -> "CtrRanker":
        """The model in ``folder``.

        Raises:
            MicrecError: If the folder is damaged.
        """
        arrays, facts = load_arrays(folder, KIND)
        return CtrRanker(arrays, facts["weights"], self.keys, facts["channels"])

    def _samples(
        self, log: ObservedLog, channels: tuple[str, ...] = ()
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Features with position and intercept, shape (m, F), and clicks, shape (m,), of the latest impressions."""
        shown = log.impressions.tail(self.keys.most_rows)
        second = shown["timestamp"].cast(pl.Float64).to_numpy() - log.start_s
        parts, outcomes = [], []
        for back in range(self.keys.days, 0, -1):
            begin_s = log.now_s - back * DAY_S
            today = shown.filter((second >= begin_s) & (second < begin_s + DAY_S))
            if not len(today):
                continue
            features = ClickFeatures(count(up_to(log, max(begin_s, 0.0)), self.keys), self.keys)
            parts += _rows(features, log, today, channels)
            outcomes.append(today["clicked"].to_numpy())
        if not parts:
            return np.empty((0, 0), np.float32), np.empty(0, np.bool_)
        return np.concatenate(parts), np.concatenate(outcomes)


class CtrRanker:
    """Scores are chances of a click at the first position."""

    def __init__(
        self, arrays: Arrays, weights: dict[str, float], keys: RankerConfig, channels: Sequence[str] = ()
    ) -> None:
        self._features, self._keys = ClickFeatures(arrays, keys), keys
        self._nominations = NominationTable(weights, channels)
        self._scorer = self._features.fold(np.array([weights[name] for name in self._features.names]))
        self._everything = np.float32(weights["everything"])
        self._position = np.append(0.0, [weights[name] for name in _position_names(keys)]).astype(np.float32)

    def score(self, requests: Requests, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Chance of a click on each candidate, whoever brought it, shape (B, C); -inf where ``items`` is -1."""
        return self._chance(self._scorer.score(requests, items), items)

    def score_nominated(
        self, requests: Requests, items: NDArray[np.int64], nominations: Nominations
    ) -> NDArray[np.float32]:
        """Chance of a click on each candidate, shape (B, C); -inf where ``items`` is -1."""
        return self._chance(self._scorer.score(requests, items) + self._nominations.score(nominations), items)

    def _chance(self, score: NDArray[np.float32], items: NDArray[np.int64]) -> NDArray[np.float32]:
        chance = expit(score + self._everything)
        chance[items < 0] = -np.inf
        return chance

    def predict(
        self,
        requests: Requests,
        items: NDArray[np.int64],
        positions: NDArray[np.integer],
        nominations: Nominations | None = None,
    ) -> NDArray[np.float32]:
        """Chance of a click on items (B, C) shown at ``positions`` (B, C), brought as ``nominations`` say."""
        at = np.minimum(positions, len(self._position) - 1)
        score = self._scorer.score(requests, items) + self._everything + self._position[at]
        if nominations is not None:
            score = score + self._nominations.score(nominations)
        chance: NDArray[np.float32] = expit(score)
        return chance


def requests_at(log: ObservedLog, users: NDArray[np.int64], seconds: NDArray) -> Requests:
    """Requests of users at timestamps (B,), with the clicks that they had made before.

    Args:
        log: Where the clicks are.
        users: User ids, shape (B,).
        seconds: Seconds since 1970, as timestamps of the log, shape (B,).
    """
    clicker = log.clicks["user_id"].cast(pl.Int64).to_numpy()
    order = np.argsort(clicker, kind="stable")
    clicker, item = clicker[order], log.clicks["item_id"].cast(pl.Int64).to_numpy()[order]
    at = log.clicks["timestamp"].cast(pl.Float64).to_numpy()[order] - log.start_s
    now_s = np.asarray(seconds, np.float64) - log.start_s
    first = min(at.min(initial=0.0), now_s.min(initial=0.0))
    span = max(at.max(initial=0.0), now_s.max(initial=0.0)) - first + 1.0  # one clock for all users, one after another
    stop = np.searchsorted(clicker * span + (at - first), users * span + (now_s - first))
    start = np.searchsorted(clicker, users)
    place = stop[:, None] - 1 - np.arange(HISTORY)
    recent = np.append(item, -1)[np.where(place >= start[:, None], place, len(item))]
    return Requests(users, recent, now_s, np.zeros(len(users), np.uint64))


def _rows(
    features: ClickFeatures, log: ObservedLog, shown: pl.DataFrame, channels: tuple[str, ...]
) -> list[NDArray[np.float32]]:
    """Samples of impressions, in their order, by chunks."""
    keys = shown.select(pl.struct("user_id", "timestamp").rle_id()).to_series().cast(pl.Int64).to_numpy()
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    requests = requests_at(log, shown["user_id"].cast(pl.Int64).to_numpy()[first], shown["timestamp"].to_numpy()[first])
    items = shown["item_id"].cast(pl.Int64).to_numpy()
    position = _position_columns(shown["position"].to_numpy(), features.keys)
    effect = np.concatenate([position, nomination_columns(shown, channels)], axis=1)
    parts = []
    for start in range(0, len(first), CHUNK):
        part = slice_of(requests, start, start + CHUNK)
        rows = slice(*np.searchsorted(keys, [start, start + CHUNK]))
        x = features.matrix(part, keys[rows] - start, items[rows])
        parts.append(np.concatenate([x, effect[rows], np.ones((len(x), 1), np.float32)], axis=1))
    return parts


def _position_names(keys: RankerConfig) -> tuple[str, ...]:
    """Names of the effects of positions 1 … against position 0."""
    return tuple(f"position {place}" for place in range(1, keys.positions + 1))


def _position_columns(positions: NDArray[np.integer], keys: RankerConfig) -> NDArray[np.float32]:
    at = np.minimum(positions, keys.positions)
    return (at[:, None] == np.arange(1, keys.positions + 1)).astype(np.float32)
