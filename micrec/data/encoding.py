"""From outside values to numbers: id maps, embedding codes, times in milliseconds, the click log."""

from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.data.dataset import Clicks, Column, EntityTable
from micrec.data.ids import canonical_text
from micrec.data.schema import EMBEDDABLE, FieldType
from micrec.data.validation import (
    Faults,
    TableSource,
    as_lists,
    id_kind,
    ids_or_fault,
    numbers_or_fault,
    require_columns,
)

TimeUnit = Literal["s", "ms", "datetime"]
CLICK_COLUMNS = ("user_id", "item_id", "timestamp", "dwell_s", "like", "follow")
EARLIEST_MS = 631_152_000_000  # 1990: an earlier time among later ones is no time
LATEST_MS = 253_402_300_799_999  # end of the year 9999


class IdMap:
    """Position of each outside value in a list of distinct ones; built once, asked many times.

    Integers without wide gaps are looked up in a flat array (4 bytes per integer of their range), others by hash join,
    or where they are few by binary search, since a join reads the whole list.
    """

    _FEW = 50  # a list is this many times as long as what a binary search looks up in it

    def __init__(self, distinct: pl.Series) -> None:
        distinct = distinct.cast(pl.Int64 if distinct.dtype.is_integer() else pl.String)
        self._keys = pl.DataFrame({"key": distinct}).with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("row"))
        self._first = 0
        self._flat: NDArray[np.int32] | None = None
        if distinct.dtype == pl.Int64 and len(distinct):
            self._first, last = int(distinct.min()), int(distinct.max())  # type: ignore[arg-type]
            if last - self._first < 4 * len(distinct) + 1024:
                self._flat = np.full(last - self._first + 1, -1, dtype=np.int32)
                self._flat[distinct.to_numpy() - self._first] = np.arange(len(distinct), dtype=np.int32)

    def positions(self, values: pl.Series) -> NDArray[np.int32]:
        """Position of each value, shape (n,); -1 for nulls and for values that are not in the list."""
        values = values.cast(self._keys["key"].dtype, strict=False)
        if self._flat is not None:
            return self._flat_positions(values)
        if self._FEW * len(values) < len(self._keys):
            return self._searched_positions(values)
        found = pl.DataFrame({"key": values}).join(self._keys, on="key", how="left", maintain_order="left")["row"]
        return found.fill_null(-1).to_numpy(writable=True)

    @cached_property
    def _sorted(self) -> pl.DataFrame:
        return self._keys.sort("key")

    def _searched_positions(self, values: pl.Series) -> NDArray[np.int32]:
        keys, rows = self._sorted["key"], self._sorted["row"].to_numpy()
        places = np.minimum(keys.search_sorted(values.fill_null(keys[0])).to_numpy(), len(keys) - 1)
        is_met = (keys.gather(places) == values).fill_null(False).to_numpy()
        return np.where(is_met, rows[places], np.int32(-1))

    def _flat_positions(self, values: pl.Series) -> NDArray[np.int32]:
        assert self._flat is not None
        last = self._first + len(self._flat) - 1
        inside = values.is_between(self._first, last).fill_null(False).to_numpy()
        offsets = (values - self._first).fill_null(0).to_numpy()
        return np.where(inside, self._flat[np.where(inside, offsets, 0)], np.int32(-1))


def encode_table(frame: pl.DataFrame, id_column: str, fields: dict[str, FieldType]) -> EntityTable:
    """Encode a validated table; the dense id of an entity is its row."""
    ids = frame[id_column]
    columns = {
        name: encode_column(name, field_type, frame[name])
        for name, field_type in fields.items()
        if field_type in EMBEDDABLE
    }
    return EntityTable(ids=ids.cast(pl.Int64 if ids.dtype.is_integer() else pl.String), columns=columns, frame=frame)


def encode_column(name: str, field_type: FieldType, values: pl.Series) -> Column:
    """Encode one embeddable field (:class:`micrec.data.dataset.Column` describes the storages).

    Codes count from 1 in the order of the labels as strings, so the same values always get the same codes. Inside a
    multi-valued cell nulls are left out and a value listed twice counts once; the order of first mention is kept.
    """
    if field_type is FieldType.NUMERIC:
        numbers = values.cast(pl.Float32).fill_null(float("nan")).to_numpy(writable=True)
        return Column(name=name, type=field_type, numbers=numbers)
    if field_type is FieldType.MULTI_CATEGORICAL:
        return _encode_lists(name, values)
    labels, codes = _encode_labels(values)
    return Column(name=name, type=field_type, size=len(labels) + 1, codes=codes, labels=tuple(labels.to_list()))


def _encode_labels(values: pl.Series) -> tuple[pl.Series, NDArray[np.int32]]:
    """Labels in sorted order, and the code of each value: 0 for null, else 1 + its label's position."""
    if not values.dtype.is_integer() or values.dtype in (pl.UInt64, pl.Int128):  # hashes may exceed Int64
        values = values.cast(pl.String)
    distinct = pl.DataFrame({"value": values.unique().drop_nulls()})
    distinct = distinct.with_columns(pl.col("value").cast(pl.String).alias("label")).sort("label")
    codes = IdMap(distinct["value"]).positions(values)
    codes += 1
    return distinct["label"], codes


def _encode_lists(name: str, values: pl.Series) -> Column:
    lists = as_lists(values).list.drop_nulls().list.unique(maintain_order=True)
    lengths = lists.list.len().fill_null(0)
    offsets = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum(lengths.to_numpy(), out=offsets[1:])
    labels, codes = _encode_labels(lists.filter(lengths > 0).explode())
    return Column(
        name=name,
        type=FieldType.MULTI_CATEGORICAL,
        size=len(labels) + 1,
        values=codes,
        offsets=offsets,
        labels=tuple(labels.to_list()),
    )


def to_time_ms(values: pl.Series, unit: TimeUnit) -> pl.Series:
    """Milliseconds since 1970-01-01 UTC as Int64; what is not a moment becomes null.

    Numbers are seconds or milliseconds by ``unit`` and may have a fraction; dates without a zone are taken as UTC.
    """
    if values.dtype in (pl.Datetime, pl.Date):
        return values.cast(pl.Datetime("ms")).cast(pl.Int64)
    scale = 1000 if unit == "s" else 1
    if values.dtype.is_integer():
        return values.cast(pl.Int64, strict=False) * scale
    return (values.cast(pl.Float64, strict=False) * scale).round().cast(pl.Int64, strict=False)


class ClickEncoder:
    """Encodes a click log chunk by chunk; what cannot be encoded is a fault.

    Args:
        user_ids: Outside user ids in dense order; None if the table is unusable: its ids are then not looked up.
        item_ids: Likewise for items.
        unit: Unit of the timestamps.
        faults: Where faults go, one for each rule over all chunks.
    """

    def __init__(self, user_ids: pl.Series | None, item_ids: pl.Series | None, unit: TimeUnit, faults: Faults) -> None:
        self._tables = {"user_id": user_ids, "item_id": item_ids}
        self._maps = {key: _id_map(ids) for key, ids in self._tables.items()}
        self._unit = unit
        self._faults = faults
        self._optional: set[str] | None = None
        self._early = Faults()  # single clicks before 1990; a log that lies there as a whole is none
        self._has_later = False
        self.n_rows = 0

    def check_columns(self, source: TableSource, columns: list[str]) -> None:
        """Check the column names of one file: the required ones are there, the optional ones in all files or none."""
        require_columns(source, columns, list(CLICK_COLUMNS[:3]), self._faults)
        optional = set(CLICK_COLUMNS[3:]) & set(columns)
        if self._optional is None:
            self._optional = optional
        for name in sorted(optional ^ self._optional):
            self._faults.add(f"{source.file}: {name}: some parts have the column and others lack it: write it in all")

    def encode(self, source: TableSource, frame: pl.DataFrame) -> Clicks | None:
        """Clicks of one chunk in the order given; numbers of faulty rows mean nothing.

        Returns:
            None if a required column is missing or of the wrong type.
        """
        self.n_rows += len(frame)
        user_ids, item_ids = self._dense(source, frame, "user_id"), self._dense(source, frame, "item_id")
        time_ms = self._time_ms(source, frame)
        dwell_s = self._dwell_s(source, frame)
        like, follow = self._flags(source, frame, "like"), self._flags(source, frame, "follow")
        if user_ids is None or item_ids is None or time_ms is None:
            return None
        return Clicks(user_ids, item_ids, time_ms, dwell_s, like, follow)

    def check_times(self) -> None:
        """After the last chunk: times before 1990 beside later ones are errors, such as zeros or another unit."""
        if self._has_later:
            for text in self._early.texts():
                self._faults.add(text)

    def _dense(self, source: TableSource, frame: pl.DataFrame, key: str) -> NDArray[np.int32] | None:
        if key not in frame.columns:
            return None
        ids, table, id_map = frame[key], self._tables[key], self._maps[key]
        table_file = f"{key.removesuffix('_id')}s.parquet"
        if not ids_or_fault(source, ids, self._faults) or table is None or id_map is None:
            return None
        if id_kind(ids) != id_kind(table):
            self._faults.add(
                f"{source.file}: {key}: the ids are {ids.dtype}, those of {table_file} are {table.dtype}: "
                "write both as integers or both as strings"
            )
            return None
        dense = id_map.positions(ids)
        unknown = pl.Series(dense < 0) & ids.is_not_null()
        cure = f"add them to {table_file} or leave these clicks out"
        if unknown.any() and (likely := _spelt_otherwise(ids.filter(unknown), table)) is not None:
            cure = f"{likely}: write both alike, or {cure}"
        self._faults.rows(source, ids, unknown, f"unknown {key.removesuffix('_id')} id", cure)
        return dense

    def _time_ms(self, source: TableSource, frame: pl.DataFrame) -> NDArray[np.int64] | None:
        if "timestamp" not in frame.columns:
            return None
        values = frame["timestamp"]
        if not self._is_time(source, values):
            return None
        self._faults.rows(source, values, values.is_null(), "null timestamp", "give each click its time")
        time_ms = to_time_ms(values, self._unit)
        no_moment = (time_ms.is_null() & values.is_not_null()) | (time_ms.abs() > LATEST_MS)
        cure = f"timestamps are read as {self._unit}; if that is wrong, correct time_unit in dataset.yaml"
        self._faults.rows(source, values, no_moment, "no moment before the year 10000", cure)
        is_early = time_ms < EARLIEST_MS
        self._has_later |= bool((~is_early).any())
        cure = "correct them (such as 0 for a clock that was not set, or another unit), or leave these clicks out"
        self._early.rows(source, values, is_early, "times before 1990 beside later ones", cure)
        return time_ms.fill_null(0).to_numpy(writable=True)

    def _is_time(self, source: TableSource, values: pl.Series) -> bool:
        if values.dtype == pl.Null:
            return True
        is_datetime = values.dtype in (pl.Datetime, pl.Date)
        if self._unit == "datetime" or is_datetime:
            if is_datetime != (self._unit == "datetime"):
                cure = "set time_unit to datetime" if is_datetime else "parse them, or set time_unit to s or ms"
                self._faults.add(
                    f"{source.file}: timestamp: the values are {values.dtype}, time_unit is {self._unit}: {cure}"
                )
            return is_datetime == (self._unit == "datetime")
        return numbers_or_fault(source, values, self._faults, "or set time_unit to datetime and parse them")

    def _dwell_s(self, source: TableSource, frame: pl.DataFrame) -> NDArray[np.float32] | None:
        if "dwell_s" not in frame.columns:
            return None
        values = frame["dwell_s"]
        if not numbers_or_fault(source, values, self._faults, "or leave the column out"):
            return None
        seconds = values.cast(pl.Float32)
        bad = ~seconds.is_finite().fill_null(False) | (seconds < 0)
        self._faults.rows(source, values, bad, "a dwell time that is null, infinite or negative", "write seconds >= 0")
        return seconds.fill_null(0.0).to_numpy(writable=True)

    def _flags(self, source: TableSource, frame: pl.DataFrame, name: str) -> NDArray[np.bool_] | None:
        if name not in frame.columns:
            return None
        values = frame[name]
        if values.dtype != pl.Boolean:
            cure = "write true or false, or leave the column out"
            self._faults.add(f"{source.file}: {name}: a boolean column is needed, this one is {values.dtype}: {cure}")
            return None
        self._faults.rows(source, values, values.is_null(), "null", "write true or false")
        return values.fill_null(False).to_numpy(writable=True)


def _spelt_otherwise(unknown: pl.Series, table: pl.Series) -> str | None:
    """That unknown ids equal known ones but for their spelling, with the first such pair and the reader's option."""
    mine = pl.DataFrame({"mine": unknown.unique(maintain_order=True).cast(pl.String)})
    known = pl.DataFrame({"known": table.cast(pl.String)}).with_columns(canonical_text(pl.col("known")).alias("key"))
    mine = mine.with_columns(canonical_text(pl.col("mine")).alias("key"))
    pairs = mine.join(known.unique("key", keep="first"), on="key", how="inner", maintain_order="left")
    if pairs.is_empty():
        return None
    first, other = pairs["mine"][0], pairs["known"][0]
    digits = pairs["key"].str.contains(r"^-?\d+$").all()
    option = "number" if digits else "lower"
    return (
        f"{len(pairs):,} of the {len(mine):,} unknown ids differ by their spelling alone, as {first!r} and {other!r} "
        f"(micrec convert table reads them alike with --set ids={option})"
    )


def _id_map(ids: pl.Series | None) -> IdMap | None:
    return None if ids is None else IdMap(ids.drop_nulls().unique(maintain_order=True))
