"""Totals of every user of a log that may be larger than memory: rows go by in batches, one line per user is kept.

A streaming group-by keeps the rows of rarely met users until its end, which for a log in no order is most of the log.
Here each batch adds to arrays with one place per user (and day), so memory grows with the users alone. Rows are added
in the order of the log: sums are the same bits on any machine.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

BATCH_ROWS = 1 << 20
_MOST_PLACES = 1 << 26  # of a look-up table for integer ids
THERE = "\x1fthere"  # column of a batch: whether the user was active, where not every row says so

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class UserTotals:
    """Sums, first values and days of every user seen so far, in the order of their first rows.

    Args:
        sums: Columns to add up, 64-bit floats.
        daily: Those of ``sums`` to be kept by day as well.
        labels: Columns of which a user should have one value, integers.
        numbers: The same, 64-bit floats; nan and null are one value.
        days: Days of the window; 0 where the log has none.
    """

    def __init__(
        self,
        sums: Sequence[str],
        daily: Sequence[str] = (),
        labels: Sequence[str] = (),
        numbers: Sequence[str] = (),
        days: int = 0,
    ) -> None:
        self.days = days
        self._codes: _UserCodes | None = None
        by_day = daily if days else ()
        self._sums = {name: np.zeros((1, 0)) for name in sums if name not in by_day}
        self._daily = {name: np.zeros((days, 0)) for name in by_day}
        self._first: dict[str, NDArray[np.generic]] = {name: np.zeros((1, 0), np.int16) for name in labels}
        self._first |= {name: np.zeros((1, 0)) for name in numbers}
        self._varies = {name: np.zeros((1, 0), np.bool_) for name in self._first}
        self._rows = np.zeros((1, 0), np.int64)
        self._seen = np.zeros((days, 0), np.bool_)
        self._active: NDArray[np.bool_] | None = None

    def add(self, batch: pl.DataFrame) -> Ints:
        """Take in rows with ``user_id``, the columns named above, ``day`` (1, 2, ...) if there are days, and perhaps
        ``THERE``; returns the code of each row's user."""
        if self._codes is None:
            self._codes = _UserCodes(batch.schema["user_id"])
        before = len(self._codes)
        codes = self._codes.of(batch["user_id"])
        self._make_room(len(self._codes))
        size = self._rows.shape[1]
        np.add.at(self._rows[0], codes, 1)
        fresh = np.flatnonzero(codes >= before)[::-1]  # of several values for one place the last one stays: the first
        for name, first in self._first.items():
            values = batch[name].to_numpy()
            first[0, codes[fresh]] = values[fresh]
            known = first[0, codes]
            other = (values != known) & ~((values != values) & (known != known))
            self._varies[name][0, codes[other]] = True
        for name, total in self._sums.items():
            _add_at(total[0], codes, batch[name].to_numpy())
        if not self.days:
            return codes
        places = (batch["day"].to_numpy().astype(np.int64) - 1) * size + codes
        for name, total in self._daily.items():
            _add_at(total.reshape(-1), places, batch[name].to_numpy())
        self._seen.reshape(-1)[places] = True
        if THERE in batch.columns:
            if self._active is None:
                self._active = np.zeros_like(self._seen)
            self._active.reshape(-1)[places[batch[THERE].to_numpy()]] = True
        return codes

    def __len__(self) -> int:
        return len(self._codes) if self._codes is not None else 0

    def ids(self) -> pl.Series:
        """Every user once, in the order in which the other results come."""
        return self._codes.ids() if self._codes is not None else pl.Series("user_id", [], pl.Int64)

    def rows(self) -> Ints:
        """Rows of each user."""
        return self._of(self._rows)[0]

    def first(self, name: str) -> NDArray[np.generic]:
        """Value of a label or number in each user's first row."""
        return self._of(self._first[name])[0]

    def varies(self, name: str) -> NDArray[np.bool_]:
        """Whether a user's rows differ in a label or number."""
        return self._of(self._varies[name])[0]

    def total(self, name: str) -> Floats:
        """Sum of each user."""
        if name in self._sums:
            return self._of(self._sums[name])[0]
        with np.errstate(over="ignore"):
            return self._of(self._daily[name]).sum(axis=0)

    def on_days(self, name: str) -> Floats:
        """Sum of each user on each day, shape (days, U)."""
        return self._of(self._daily[name])

    def seen(self) -> NDArray[np.bool_]:
        """On which days a user has rows, shape (days, U)."""
        return self._of(self._seen)

    def active(self) -> NDArray[np.bool_]:
        """On which days a user was active, shape (days, U): those of ``THERE``, or else those with rows."""
        return self.seen() if self._active is None else self._of(self._active)

    def _of(self, array: NDArray[Any]) -> NDArray[Any]:
        return array[:, : len(self._codes) if self._codes is not None else 0]

    def _make_room(self, users: int) -> None:
        if users <= self._rows.shape[1]:
            return
        size = max(users, 2 * self._rows.shape[1])  # memory that nothing was written to takes no place
        for table in (self._sums, self._daily, self._first, self._varies):
            for name, array in table.items():
                table[name] = _widened(array, size)
        self._rows, self._seen = _widened(self._rows, size), _widened(self._seen, size)
        self._active = _widened(self._active, size) if self._active is not None else None


class _UserCodes:
    """0, 1, ... for user ids in the order in which they were first met.

    Integer ids that spread no wider than ``_MOST_PLACES`` are looked up in a table, all others joined.
    """

    def __init__(self, kind: pl.DataType) -> None:
        self._known = pl.DataFrame(schema={"user_id": kind, "code": pl.Int64})
        self._table = np.zeros(0, np.int32) if kind.is_integer() else None  # code + 1 of id low, low + 1, ...
        self._low = 0

    def __len__(self) -> int:
        return self._known.height

    def ids(self) -> pl.Series:
        return self._known["user_id"]

    def of(self, ids: pl.Series) -> Ints:
        """Code of each id; new ones are taken in."""
        if self._table is not None and len(ids):
            self._spread(int(ids.min()), int(ids.max()))  # type: ignore[arg-type]
        if self._table is None or not len(ids):
            return self._joined(ids.alias("user_id").to_frame())
        places = self._places(ids)
        codes = self._table[places]
        if not codes.all():
            new = ids.filter(pl.Series(codes == 0)).unique(maintain_order=True)
            self._table[self._places(new)] = np.arange(len(self), len(self) + len(new)) + 1
            self._take_in(new)
            codes = self._table[places]
        return codes.astype(np.int64) - 1

    def _joined(self, table: pl.DataFrame) -> Ints:
        codes = table.join(self._known, on="user_id", how="left", maintain_order="left")["code"]
        if codes.null_count():
            missing = table.filter(codes.is_null())
            before = len(self)
            self._take_in(missing["user_id"].unique(maintain_order=True))
            found = missing.join(self._known[before:], on="user_id", how="left", maintain_order="left")["code"]
            filled = codes.fill_null(-1).to_numpy().copy()
            filled[filled < 0] = found.to_numpy()
            return filled
        return codes.to_numpy()

    def _places(self, ids: pl.Series) -> Ints:
        values = ids.to_numpy()
        if values.dtype != np.uint64:
            values = values.astype(np.int64, copy=False)
        return (values - values.dtype.type(self._low)).astype(np.int64)

    def _spread(self, low: int, high: int) -> None:
        """Widen the look-up table to these ids, or give it up."""
        assert self._table is not None
        if len(self):
            low, high = min(low, self._low), max(high, self._low + len(self._table) - 1)
        if high - low >= _MOST_PLACES:
            self._table = None
        elif high - low >= len(self._table):
            wide = np.zeros(high - low + 1, np.int32)
            start = self._low - low if len(self) else 0
            wide[start : start + len(self._table)] = self._table
            self._table, self._low = wide, low

    def _take_in(self, new: pl.Series) -> None:
        if new.dtype == pl.String:  # a copy: a part of a text column keeps all of the batch's text in memory
            new = pl.Series("user_id", new.to_list(), pl.String)
        code = pl.int_range(len(self), len(self) + len(new), dtype=pl.Int64, eager=True).alias("code")
        self._known = pl.concat([self._known, pl.DataFrame([new.alias("user_id"), code])], rechunk=True)


def _add_at(total: Floats, places: Ints, values: Floats) -> None:
    """Add each value at its place; most counts of an event log are 0 and are passed over."""
    some = np.flatnonzero(values)
    if 2 * len(some) < len(values):
        places, values = places[some], values[some]
    with np.errstate(over="ignore"):  # whoever reads the sums looks for what is not finite
        np.add.at(total, places, values)


def _widened(array: NDArray[Any], size: int) -> NDArray[Any]:
    wide = np.zeros((array.shape[0], size), array.dtype)
    wide[:, : array.shape[1]] = array
    return wide
