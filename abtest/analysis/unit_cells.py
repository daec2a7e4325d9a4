"""Moments by arm and slice where units above the user were assigned: households, regions, periods of a switchback.

Sums of every unit by arm and slice are kept, one row each; moments of a cell are those of its units.
A unit may lie in several slices, so that cells of one arm do not add: each is made from its units.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from abtest.stats.clusters import cluster_moments
from abtest.stats.groups import Label
from abtest.stats.moments import Moments
from abtest.stats.strata import USERS, of_stratum
from abtest.stats.terms import Term

UNIT = "\x1funit"  # column of the assigned unit
_CODE, _USERS = "\x1fcode", "\x1fusers"
_INSIDE, _OUTSIDE = "inside\x1f", "outside\x1f"


class UnitCells:
    """Sums of ``columns`` per unit and values of ``keys``; it answers as ``CellMoments`` does.

    Attributes:
        columns: The columns that are summarised.
        keys: The columns that name a cell, the arm first.
    """

    def __init__(
        self, columns: Sequence[str], keys: Sequence[str], places: pl.DataFrame, sums: NDArray[np.float64]
    ) -> None:
        self.columns, self.keys = tuple(columns), tuple(keys)
        self._places = places  # keys as text, code of the unit, users
        self._sums = sums
        self._known: dict[tuple[tuple[str, tuple[str, ...]], ...], Moments] = {}

    @classmethod
    def of(cls, source: pl.LazyFrame, columns: Sequence[str], keys: Sequence[str]) -> "UnitCells":
        """From one row per user with the column ``UNIT``, the keys and the columns."""
        text = [pl.col(key).cast(pl.String) for key in keys]
        values = [pl.col(name).cast(pl.Float64) for name in columns]
        table = source.select(pl.col(UNIT), *text, *values).collect(engine="streaming")
        places = table.select(UNIT, *keys).unique(maintain_order=True).sort(UNIT, *keys).with_row_index("\x1fplace")
        at = table.select(UNIT, *keys).join(places, on=[UNIT, *keys], how="left", maintain_order="left")["\x1fplace"]
        codes = at.to_numpy().astype(np.int64)
        sums = np.stack([np.bincount(codes, table[name].to_numpy(), len(places)) for name in columns], axis=1)
        users = np.bincount(codes, minlength=len(places)).astype(np.float64)
        floats: NDArray[np.float64] = sums.astype(np.float64)
        units = places[UNIT].rank("dense").cast(pl.Int64) - 1
        return cls(columns, keys, places.select(*keys, units.alias(_CODE), pl.Series(_USERS, users)), floats)

    def total(self, **where: Label | Sequence[Label]) -> Moments:
        """Moments of the units of these cells, of their users there alone."""
        known = _texts(where)
        if known not in self._known:
            sums, users = self._by_unit(self._mask(known))
            there = users > 0
            self._known[known] = cluster_moments(self.columns, sums[there], users[there])
        return self._known[known]

    def labels(self, key: str) -> list[Label]:
        """Values that a key takes, in order."""
        return sorted(self._places[key].unique().to_list())

    def users(self, arm: str, **where: Label | Sequence[Label]) -> int:
        """Users of an arm, or of some of its cells."""
        mask = self._mask(_texts({self.keys[0]: arm, **where}))
        return int(self._places[_USERS].to_numpy()[mask].sum())

    def sides(self, arm: str, key: str, label: str) -> Moments:
        """An arm's units with what their users inside and outside a slice did, for the terms of ``side``."""
        mine = self._mask(((self.keys[0], (arm,)),))
        inside = mine & self._mask(((key, (label,)),))
        (sums_in, users_in), (sums_out, users_out) = self._by_unit(inside), self._by_unit(mine & ~inside)
        users = users_in + users_out
        there = users > 0
        table = np.column_stack([sums_in, users_in, sums_out, users_out])[there]
        names = [prefix + name for prefix in (_INSIDE, _OUTSIDE) for name in (*self.columns, _USERS)]
        return cluster_moments(names, table, users[there])

    def strata(self, arms: Sequence[str], key: str, labels: Sequence[str]) -> Moments:
        """Units of these arms with what their users of each label did, as ``UnitStrata`` holds them."""
        mine = self._mask(((self.keys[0], tuple(arms)),))
        users = self._by_unit(mine)[1]
        there, names, columns = users > 0, [USERS], [users]
        for label in labels:
            sums, inside = self._by_unit(mine & self._mask(((key, (label,)),)))
            names += [of_stratum(label, column) for column in (*self.columns, USERS)]
            columns += [*sums.T, inside]
        return cluster_moments(names, np.stack(columns, axis=1)[there], users[there])

    def merged(self, name: str, members: Sequence[str]) -> "UnitCells":
        """The same with some arms as one."""
        arm = pl.col(self.keys[0])
        places = self._places.with_columns(
            pl.when(arm.is_in(list(members))).then(pl.lit(name)).otherwise(arm).alias(self.keys[0])
        )
        return UnitCells(self.columns, self.keys, places, self._sums)

    def _mask(self, where: Sequence[tuple[str, Sequence[str]]]) -> NDArray[np.bool_]:
        mask = np.ones(len(self._places), np.bool_)
        for key, values in where:
            mask &= self._places[key].is_in(list(values)).to_numpy()
        return mask

    def _by_unit(self, mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums (G, K) and users (G,) of every unit over the masked rows."""
        codes = self._places[_CODE].to_numpy()
        size = int(codes.max(initial=-1)) + 1
        users = np.bincount(codes[mask], self._places[_USERS].to_numpy()[mask], size)
        columns = [np.bincount(codes[mask], self._sums[mask, place], size) for place in range(len(self.columns))]
        sums = np.stack(columns, axis=1) if columns else np.zeros((size, 0))
        return sums.astype(np.float64), users.astype(np.float64)


def _texts(where: Mapping[str, Label | Sequence[Label]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Keys with the texts of their values, in one order."""
    wanted = {key: value if isinstance(value, list | tuple | set) else [value] for key, value in where.items()}
    return tuple(sorted((key, tuple(sorted(map(str, values)))) for key, values in wanted.items()))


def side(term: Term, *, inside: bool) -> tuple[str, str]:
    """A metric inside or outside a slice, as a ratio over the columns of ``UnitCells.sides``."""
    prefix = _INSIDE if inside else _OUTSIDE
    top, bottom = (term, _USERS) if isinstance(term, str) else term
    return prefix + top, prefix + bottom
