"""Logs as Parquet tables: rows wait in memory in columns and are written in order of time, part after part.

The rows do not depend on how requests were batched; only the borders between the parts do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.errors import MicrecError

PART_ROWS = 500_000
FALLBACKS = ("none", "partial", "popular")
RESULTS = ("slate", "empty", "abandoned")
OUTCOMES = ("answered", "late", "error", "down")
CAUSES = ("taste", "popular", "fresh", "similar", "repeat", "link")


class LogTable(NamedTuple):
    """Name of a table, its columns and their types; a tuple of texts stands for a column of these words."""

    name: str
    columns: Mapping[str, Any]


def tables(arms: Sequence[str], channels: Sequence[str], policies: Sequence[str] = ()) -> dict[str, LogTable]:
    """The tables of a platform with these arms, channels, and policies for the last place.

    Times: ``timestamp`` in whole seconds since 1970-01-01 UTC, ``…_s`` in seconds since the start of the log.
    """
    request = {"day": pl.Int32, "visit": pl.Int32, "request": pl.Int16, "user_id": pl.Int64, "arm": tuple(arms)}
    found = [
        LogTable(
            "requests",
            {
                **request,
                "asked_s": pl.Float64,
                "answered_s": pl.Float64,  # when the slate was ready, whether or not the user still waited
                "result": RESULTS,
                "fallback": FALLBACKS,  # partial: a channel gave no answer; popular: the fallback list served
                "ranked": pl.Boolean,
                "candidates": pl.Int32,
                "shown": pl.Int16,
            },
        ),
        LogTable(
            "impressions",
            {
                **request,
                "timestamp": pl.Int64,
                "item_id": pl.Int64,
                "position": pl.Int16,  # from 0
                "channel": (*channels, "fallback"),
                "channel_place": pl.Int16,  # place of the item in that channel's list, from 0; -1 in the fallback list
                "score": pl.Float32,
                "propensity": pl.Float32,  # chance of the item at its position, given the candidates
                "offered_by": pl.UInt32,  # bit s is set if channel s, in the order of all arms' channels, offered it
                "clicked": pl.Boolean,
            },
        ),
        LogTable(
            "behaviours",
            {
                **request,
                "timestamp": pl.Int64,
                "item_id": pl.Int64,
                "position": pl.Int16,
                "channel": (*channels, "fallback"),
                "dwell_s": pl.Float32,
                "like": pl.Boolean,
                "follow": pl.Boolean,
            },
        ),
        LogTable(
            "serving",
            {
                **request,
                "stage": (*channels, "ranking"),
                "arrived_s": pl.Float64,
                "wait_ms": pl.Float64,
                "service_ms": pl.Float64,
                "outcome": OUTCOMES,
                "offered": pl.Int32,  # items not yet seen in the visit; candidates scored, for ranking
                "merged": pl.Int32,  # of its items, those among the candidates
            },
        ),
        LogTable(
            "ground_truth",
            {**request, "item_id": pl.Int64, "position": pl.Int16, "examined": pl.Boolean, "cause": CAUSES},
        ),
    ]
    if policies:
        found += _policy_tables(request, channels, policies)
    return {table.name: table for table in found}


def _policy_tables(request: Mapping[str, Any], channels: Sequence[str], policies: Sequence[str]) -> list[LogTable]:
    """What each policy would have put on the last place; and, hidden from the platform, whether it would be clicked."""
    choice = {
        "policy": tuple(policies),
        "item_id": pl.Int64,
        "propensity": pl.Float32,  # chance of that choice under the policy that serves
        "channel": (*channels, "fallback"),
        "channel_place": pl.Int16,
        "score": pl.Float32,
    }
    return [
        LogTable("policies", {**request, **choice}),
        LogTable("ground_truth_policies", {**request, "policy": tuple(policies), "clicked": pl.Boolean}),
    ]


class TableWriter:
    """Writes one table of a day.

    Args:
        table: Columns; a column of words is given as their numbers, and beyond the last one as null.
        folder: Existing folder for the parts.
    """

    def __init__(self, table: LogTable, folder: Path) -> None:
        self._table, self._folder = table, folder
        self._blocks: list[tuple[NDArray[np.float64], NDArray[np.int64], dict[str, NDArray]]] = []
        self._rows = self._parts = 0

    def add(self, asked_s: NDArray[np.float64], visit: NDArray[np.int64], columns: Mapping[str, NDArray]) -> None:
        """Rows (n,), with the moment of their request to sort by; those of one request in their order."""
        if len(asked_s):
            self._blocks.append((asked_s, visit, {name: columns[name] for name in self._table.columns}))
            self._rows += len(asked_s)

    @property
    def blocks(self) -> int:
        """Calls of ``add`` that are not written yet, for ``drop_after``."""
        return len(self._blocks)

    def drop_after(self, blocks: int) -> None:
        """Forget what was added after there were so many blocks."""
        self._blocks = self._blocks[:blocks]
        self._rows = sum(len(block[0]) for block in self._blocks)

    def flush(self, before_s: float = np.inf) -> None:
        """Write the rows of requests made before a moment, if they are enough for a part; no earlier one will come.

        Without a moment the day is over: all is written.
        """
        last = before_s == np.inf
        if not last and self._rows < PART_ROWS:
            return
        kept: list[tuple[NDArray[np.float64], NDArray[np.int64], dict[str, NDArray]]] = []
        if not last:
            kept = [_rows_of(block, block[0] >= before_s) for block in self._blocks if (block[0] >= before_s).any()]
            self._blocks = [_rows_of(block, block[0] < before_s) for block in self._blocks]
        if any(len(block[0]) for block in self._blocks) or (last and not self._parts):
            self._write(self._frame())
        self._blocks, self._rows = kept, sum(len(block[0]) for block in kept)

    def _frame(self) -> pl.DataFrame:
        names = list(self._table.columns)
        if not self._blocks:
            return pl.DataFrame(
                {name: _series(name, np.zeros(0, np.int64), self._table.columns[name]) for name in names}
            )
        asked_s = np.concatenate([block[0] for block in self._blocks])
        visit = np.concatenate([block[1] for block in self._blocks])
        order = np.lexsort((visit, asked_s))
        return pl.DataFrame(
            {
                name: _series(name, np.concatenate([block[2][name] for block in self._blocks])[order], dtype)
                for name, dtype in self._table.columns.items()
            }
        )

    def _write(self, frame: pl.DataFrame) -> None:
        path = self._folder / f"{self._table.name}-{self._parts:03d}.parquet"
        try:
            frame.write_parquet(path, compression="zstd", compression_level=1)
        except (pl.exceptions.PolarsError, OSError) as fault:
            raise MicrecError(
                f"{path}: cannot be written ({fault}): free some space or name another folder."
            ) from fault
        self._parts += 1


class DayLog:
    """All tables of a day.

    Args:
        known: The tables.
        folder: Existing folder of the day; tables of the hidden truth go into ``ground_truth`` inside it.
    """

    def __init__(self, known: Mapping[str, LogTable], folder: Path) -> None:
        (folder / "ground_truth").mkdir(exist_ok=True)
        self._writers = {
            name: TableWriter(table, folder / "ground_truth" if name.startswith("ground_truth") else folder)
            for name, table in known.items()
        }

    def add(
        self, table: str, asked_s: NDArray[np.float64], visit: NDArray[np.int64], columns: Mapping[str, NDArray]
    ) -> None:
        """Rows of a table; see :meth:`TableWriter.add`."""
        self._writers[table].add(asked_s, visit, columns)

    def flush(self, before_s: float = np.inf) -> None:
        """Write what is enough for a part; see :meth:`TableWriter.flush`."""
        for writer in self._writers.values():
            writer.flush(before_s)

    def mark(self) -> dict[str, int]:
        """Where the tables stand, for ``drop_after``."""
        return {name: writer.blocks for name, writer in self._writers.items()}

    def drop_after(self, mark: Mapping[str, int]) -> None:
        """Forget all rows that were added after a ``mark``, since when nothing has been written."""
        for name, blocks in mark.items():
            self._writers[name].drop_after(blocks)


def _rows_of(
    block: tuple[NDArray[np.float64], NDArray[np.int64], dict[str, NDArray]], rows: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], dict[str, NDArray]]:
    """Some rows of what one call of ``add`` brought."""
    if rows.all():
        return block
    return block[0][rows], block[1][rows], {name: values[rows] for name, values in block[2].items()}


def _series(name: str, values: NDArray, dtype: Any) -> pl.Series:
    if not isinstance(dtype, tuple):
        return pl.Series(name, values).cast(dtype)
    words = pl.Series(name, [*dtype, None], dtype=pl.String)
    return words.gather(np.minimum(values.astype(np.uint32), len(dtype)))  # NO_CAUSE and -1 are beyond the last
