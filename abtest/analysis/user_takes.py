"""The largest, first, last and different values of every user, gathered batch by batch as ``UserTotals`` does sums."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from abtest.analysis.user_columns import MOMENT, TAKEN, UserColumn

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so that products by it differ where users do


class UserTakes:
    """What is taken of every user seen so far; users without any value have 0.

    Args:
        columns: Those that are no sums.
    """

    def __init__(self, columns: Sequence[UserColumn]) -> None:
        self.columns = tuple(columns)
        self._values: dict[str, Floats] = {one.name: np.zeros(0) for one in self.columns}
        self._times: dict[str, Ints] = {
            one.name: np.zeros(0, np.int64) for one in self.columns if one.take in ("first", "last")
        }
        self._pairs = {one.name: _Pairs() for one in self.columns if one.take == "distinct"}
        self._rows = 0

    def add(self, batch: pl.DataFrame, codes: Ints, users: int) -> None:
        """Take in a batch of rows.

        Args:
            batch: With the columns that ``with_row_columns`` made.
            codes: Code of each row's user, as ``UserTotals.add`` returns them.
            users: Users seen so far.
        """
        for one in self.columns:
            self._make_room(one, users)
            cells = batch[TAKEN + one.name]
            there = cells.is_not_null().to_numpy()
            if not there.any():
                continue
            if one.take == "distinct":
                hashes = cells.filter(pl.Series(there)).hash(0).to_numpy()
                new = self._pairs[one.name].add(hashes, codes[there])
                self._values[one.name][:users] += np.bincount(new, minlength=users)
            elif one.take in ("any", "max"):
                np.maximum.at(self._values[one.name], codes[there], cells.drop_nulls().to_numpy())
            else:
                self._take_by_time(one, batch, codes, there)
        self._rows += len(batch)

    def of(self, name: str, users: int) -> Floats:
        """The value of each user, in the order of their codes."""
        values = np.zeros(users)
        known = self._values[name][:users]
        values[: len(known)] = np.where(np.isfinite(known), known, 0.0)
        return values

    def _take_by_time(self, one: UserColumn, batch: pl.DataFrame, codes: Ints, there: NDArray[np.bool_]) -> None:
        """Rows of equal time count in the order of the log."""
        who, cells = codes[there], batch[TAKEN + one.name].drop_nulls().to_numpy()
        order = next((name for name in (MOMENT, "day") if name in batch.columns), None)
        when = np.zeros(len(who), np.int64) if order is None else batch[order].to_numpy().astype(np.int64)[there]
        values, times = self._values[one.name], self._times[one.name]
        sign = 1 if one.take == "last" else -1
        at = np.arange(len(who))[:: 1 if one.take == "last" else -1]
        best = at[np.argsort(sign * when[at], kind="stable")]  # of several for one place, the last written one stays
        chosen = np.full(len(values), -1, np.int64)
        chosen[who[best]] = best
        users = np.flatnonzero(chosen >= 0)
        picked = chosen[users]
        later = sign * when[picked] >= sign * times[users] if one.take == "last" else when[picked] < times[users]
        later |= np.isneginf(values[users])
        values[users[later]], times[users[later]] = cells[picked[later]], when[picked[later]]

    def _make_room(self, one: UserColumn, users: int) -> None:
        if users <= len(self._values[one.name]):
            return
        size = max(users, 2 * len(self._values[one.name]))
        empty = 0.0 if one.take == "distinct" else -np.inf
        self._values[one.name] = _longer(self._values[one.name], size, empty)
        if one.name in self._times:
            self._times[one.name] = _longer(self._times[one.name], size, 0)


class _Pairs:
    """The pairs of user and value seen so far, as 64-bit hashes in sorted runs of falling length.

    Two pairs of 50 million share a hash with a chance of 1 in 15,000, and then one distinct value is missing.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def add(self, hashes: NDArray[np.uint64], codes: Ints) -> Ints:
        """Take in pairs; returns the user of each that is new."""
        keys = (hashes ^ (codes.astype(np.uint64) + np.uint64(1)) * _MIX) * _MIX
        keys ^= keys >> np.uint64(32)
        keys, first = np.unique(keys, return_index=True)
        new = np.ones(len(keys), np.bool_)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            new &= run[at] != keys
        if new.any():
            self._runs.append(keys[new])
        while len(self._runs) > 1 and 2 * len(self._runs[-1]) >= len(self._runs[-2]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]), kind="stable")
        return codes[first[new]]


def _longer(array: NDArray[Any], size: int, empty: float) -> NDArray[Any]:
    longer = np.full(size, empty, array.dtype)
    longer[: len(array)] = array
    return longer
