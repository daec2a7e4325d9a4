"""Moments of every cell (arm × slice × day) of a table that may be larger than memory, in one pass.

Batches are fed one after another, or tables accumulated apart are added; only the cells are kept. A cell is named by
the values of its key columns; cells add up to arms, slices and days.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abtest.stats.grouped_moments import grams
from abtest.stats.moments import Moments
from micrec.errors import MicrecError

if TYPE_CHECKING:
    import polars as pl

    Batch = pl.DataFrame | Mapping[str, ArrayLike]  # a table in memory; a mapping holds vectors of one length
    Source = Batch | pl.LazyFrame | Path | str | Iterable[Batch]

Label = Hashable  # a text, an integer or a truth value

BATCH_ROWS = 262_144
_VERY_FEW = 16  # integers that spread no wider are coded as they are
_SAMPLED = 1_000  # rows from which the texts of a column are guessed
_FEW = 1 << 16  # and those that spread no wider than this by look-up


class CellMoments:
    """Moments of ``columns`` per combination of the values of ``keys``.

    Attributes:
        columns: The columns that are summarised.
        keys: The columns that name a cell.
        cells: Values of the keys, in their order, to moments; only cells with rows.
    """

    def __init__(self, columns: Sequence[str], keys: Sequence[str] = ("arm",)) -> None:
        self.columns = tuple(columns)
        self.keys = tuple(keys)
        self.cells: dict[tuple[Label, ...], Moments] = {}

    @classmethod
    def of(cls, source: "Source", columns: Sequence[str], keys: Sequence[str] = ("arm",)) -> "CellMoments":
        """The cells of a table in memory, of a Parquet or CSV file, of a lazy scan, or of an iterable of batches."""
        table = cls(columns, keys)
        for batch in batches(source, [*dict.fromkeys((*keys, *columns))]):
            table.add(batch)
        return table

    def add(self, batch: "Batch") -> None:
        """Take in the rows of a data frame, or of a mapping of column names to vectors of one length.

        Raises:
            MicrecError: If a column is missing or not numeric, a key is missing in some row, or a value is not finite.
        """
        values = [numbers(batch, name) for name in self.columns]
        codes, labels = _cell_codes(batch, self.keys, len(values[0]) if values else None)
        if any(len(column) != len(codes) for column in values):
            raise MicrecError(f"columns must have one length, got {[len(column) for column in values]}.")
        if not len(codes):
            return
        sums = grams(values, codes, len(labels))
        if not np.isfinite(sums.comoment).all():
            raise MicrecError(_not_finite(self.columns, values))
        for at in np.flatnonzero(sums.n):
            cell = Moments(self.columns, int(sums.n[at]), sums.mean[at], sums.comoment[at])
            label = labels[at]
            self.cells[label] = self.cells[label] + cell if label in self.cells else cell

    def total(self, **where: Label | Sequence[Label]) -> Moments:
        """Moments of all rows whose keys have the given values: ``total(arm="A", cold=True, day=[1, 2])``.

        Raises:
            ValueError: If a key is unknown.
        """
        for key in where:
            if key not in self.keys:
                raise ValueError(f"no key {key}, there are {', '.join(self.keys)}.")
        wanted = {
            self.keys.index(key): set(value) if isinstance(value, list | tuple | set | frozenset) else {value}
            for key, value in where.items()
        }
        total = Moments.empty(self.columns)
        for label in sorted(self.cells, key=_order):
            if all(label[at] in values for at, values in wanted.items()):
                total = total + self.cells[label]
        return total

    def labels(self, key: str) -> list[Label]:
        """Values that a key takes, in order."""
        at = self.keys.index(key)
        return sorted({label[at] for label in self.cells}, key=lambda value: _order((value,)))

    def __add__(self, other: "CellMoments") -> "CellMoments":
        """The cells of both tables together.

        Raises:
            ValueError: If columns or keys differ.
        """
        if (self.columns, self.keys) != (other.columns, other.keys):
            raise ValueError(
                f"tables of {self.columns} by {self.keys} and of {other.columns} by {other.keys} do not add."
            )
        both = CellMoments(self.columns, self.keys)
        both.cells = dict(self.cells)
        for label, cell in other.cells.items():
            both.cells[label] = both.cells[label] + cell if label in both.cells else cell
        return both

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` gives the same bits back."""
        cells = [{"at": list(label), **self.cells[label].to_dict()} for label in sorted(self.cells, key=_order)]
        return {"columns": list(self.columns), "keys": list(self.keys), "cells": cells}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "CellMoments":
        """The table that ``to_dict`` wrote."""
        table = cls(data["columns"], data["keys"])
        table.cells = {tuple(cell["at"]): Moments.from_dict(cell) for cell in data["cells"]}
        return table


def batches(source: "Source", columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator["Batch"]:
    """The source as batches of the given columns; files and lazy scans are streamed.

    Raises:
        MicrecError: If a file is neither Parquet nor CSV, or lacks a column.
    """
    import polars as pl

    if isinstance(source, str | Path):
        source = _scan(Path(source))
    if isinstance(source, pl.LazyFrame):
        known = source.collect_schema().names()
        if missing := [name for name in columns if name not in known]:
            raise MicrecError(f"no column {', '.join(missing)}: there are {', '.join(known)}.")
        yield from source.select(columns).collect_batches(chunk_size=rows, maintain_order=True)
    elif isinstance(source, pl.DataFrame | Mapping):
        yield source
    else:
        yield from source


def _scan(path: Path) -> "pl.LazyFrame":
    import polars as pl

    if path.suffix.lower() in (".parquet", ".pq"):
        return pl.scan_parquet(path, glob=False)
    if path.suffix.lower() == ".csv":
        return pl.scan_csv(path, glob=False)
    raise MicrecError(f"{path}: must end in .parquet or .csv to be read as a table.")


def _column(batch: "Batch", name: str) -> Any:
    try:
        return batch[name]
    except Exception as fault:
        known = batch.keys() if isinstance(batch, Mapping) else batch.columns
        raise MicrecError(f"no column {name}: there are {', '.join(known)}.") from fault


def as_series(batch: "Batch", name: str) -> "pl.Series":
    """A column as a polars series."""
    import polars as pl

    column = _column(batch, name)
    return column if isinstance(column, pl.Series) else pl.Series(name, np.asarray(column))


def numbers(batch: "Batch", name: str) -> NDArray[np.generic]:
    """A column as numbers; what is missing becomes nan, decimals and 128-bit integers 64-bit floats."""
    column = _plain(_column(batch, name))
    values = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise MicrecError(f"{name}: must be a column of numbers, got {values.dtype} of shape {values.shape}.")
    return values


def _plain(column: Any) -> Any:
    """A column of polars whose type NumPy lacks, as floats; any other as it is."""
    import polars as pl

    if not isinstance(column, pl.Series):
        return column
    wide = column.dtype.is_decimal() or column.dtype in (pl.Int128, pl.UInt128)
    return column.cast(pl.Float64) if wide or (column.dtype == pl.Boolean and column.null_count()) else column


def _cell_codes(
    batch: "Batch", keys: Sequence[str], rows: int | None
) -> tuple[NDArray[np.unsignedinteger], list[tuple[Label, ...]]]:
    """Cell of each row, and the labels of each cell."""
    if not keys:
        return np.zeros(rows or 0, np.uint8), [()]
    codes = np.zeros(0, np.uint8)
    labels: list[tuple[Label, ...]] = [()]
    for place, key in enumerate(keys):
        own, values = _coded(batch, key)
        cells = len(labels) * max(len(values), 1)
        kind = np.min_scalar_type(cells)
        codes = (
            own.astype(kind) if not place else codes.astype(kind) * kind.type(max(len(values), 1)) + own.astype(kind)
        )
        labels = [(*label, value) for label in labels for value in values]
    if len(labels) > 4096:  # most of them empty, as a rule
        used, dense = np.unique(codes, return_inverse=True)
        return dense.astype(np.min_scalar_type(len(used))), [labels[at] for at in used]
    return codes, labels


def _coded(batch: "Batch", key: str) -> tuple[NDArray[np.unsignedinteger], list[Label]]:
    """A key column as codes into its sorted values."""
    import polars as pl

    series = as_series(batch, key)
    if missing := series.null_count():
        raise MicrecError(f"{key}: {missing:,} of {len(series):,} rows have no value: give each row one or drop them.")
    if series.dtype == pl.Boolean or series.dtype.is_integer():
        whole = series.to_numpy()
        if whole.dtype == bool:
            return whole.view(np.uint8), [False, True]
        low, high = (int(whole.min()), int(whole.max())) if len(whole) else (0, 0)
        if high - low < _VERY_FEW:
            code = np.empty(len(whole), np.uint8)
            np.subtract(whole, whole.dtype.type(low), out=code, casting="unsafe")
            return code, list(range(low, high + 1))  # cells without rows are dropped later
        if high - low < _FEW:
            offset = (whole - whole.dtype.type(low)).astype(np.uint16)
            used = np.flatnonzero(np.bincount(offset, minlength=1))
            look_up = np.zeros(high - low + 1, np.min_scalar_type(max(len(used), 1)))
            look_up[used] = np.arange(len(used))
            return look_up[offset], [low + int(at) for at in used]
    elif isinstance(series.dtype, pl.Enum):
        return series.to_physical().to_numpy(), series.dtype.categories.to_list()
    elif not isinstance(series.dtype, pl.String):
        series = series.cast(pl.String)
    if isinstance(series.dtype, pl.String) and (few := _few_texts(series)) is not None:
        return few
    values = series.unique().sort()
    if isinstance(series.dtype, pl.String):
        return series.cast(pl.Enum(values)).to_physical().to_numpy(), values.to_list()
    return np.searchsorted(values.to_numpy(), series.to_numpy()).astype(np.uint32), values.to_list()


def _few_texts(series: "pl.Series") -> tuple[NDArray[np.unsignedinteger], list[Label]] | None:
    """Codes of a column with few texts, all of them among its first rows: comparing is cheaper than hashing."""
    values = sorted(set(series.head(_SAMPLED).to_list()))
    if not 0 < len(values) <= _VERY_FEW:
        return None
    codes = np.zeros(len(series), np.uint8)
    found = 0
    for at, value in enumerate(values):
        mine = (series == value).to_numpy()
        found += int(np.count_nonzero(mine))
        if at:
            codes += mine.view(np.uint8) * np.uint8(at)
    return (codes, list(values)) if found == len(series) else None


def _not_finite(names: Sequence[str], values: Sequence[NDArray[np.generic]]) -> str:
    faults = []
    for name, column in zip(names, values, strict=True):
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            faults.append(
                f"{name}: {len(bad):,} values are missing or not finite, first in row {bad[0]:,} of the batch"
            )
    if not faults:
        return "values are too large: their squares overflow; give the column in a larger unit."
    return "; ".join(faults) + ": give them a value or leave those users out before the moments are taken."


def _order(label: tuple[Label, ...]) -> tuple[tuple[str, Any], ...]:
    """Sort key for labels of mixed types."""
    return tuple((type(value).__name__, value) for value in label)
